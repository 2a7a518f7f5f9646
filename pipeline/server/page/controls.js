// The buttons that act on the run: each says what it will do, and why it can't.

import { post } from "./api.js";
import { confirmed } from "./dialogs.js";
import { h } from "./element.js";
import { isGoing } from "./states.js";

/**
 * @typedef {object} Verb
 * @property {string} id
 * @property {string} label
 * @property {string} explain what happens, said before it does
 * @property {boolean} asks whether it has to be confirmed
 * @property {"plain" | "danger"} [kind]
 * @property {(state: string) => string} refused why not now; "" if it can
 */

/** @param {string} state */
const notGoing = (state) => (isGoing(state) ? "" : "No run is going on.");

/** @type {Verb[]} */
const VERBS = [
  {
    id: "pause",
    label: "Pause",
    explain: "The light goes off after this timepoint and the clock is held. Nothing is lost; phase that waits is still reconstructed. Resume goes on with the next timepoint.",
    asks: true,
    refused: (state) => notGoing(state) || (state === "paused" ? "The run is paused already." : state === "draining" ? "All frames are taken: there is nothing to pause." : ""),
  },
  {
    id: "resume",
    label: "Resume",
    explain: "The clock goes on and the light comes back with the next timepoint.",
    asks: true,
    refused: (state) => notGoing(state) || (state === "paused" ? "" : "The run is not paused."),
  },
  {
    id: "stop",
    label: "Stop",
    explain: "The run ends after this timepoint: the light goes off, everything that was taken is stored, and what waits is still reconstructed. It can be resumed later.",
    asks: true,
    refused: (state) => notGoing(state) || (state === "draining" ? "The run is finishing already." : ""),
  },
  {
    id: "abort",
    label: "Abort",
    explain: "The run ends at once and is marked as aborted: the light goes off, what is stored stays, frames that were never taken count as missing. It isn't meant to be resumed; Stop is.",
    asks: true,
    kind: "danger",
    refused: notGoing,
  },
  {
    id: "snapshot",
    label: "Snapshot",
    explain: "The newest frames and phase are saved as pictures in the run's folder. The run goes on undisturbed.",
    asks: true,
    refused: (state) => (["arming"].includes(state) ? "There is no image yet." : notGoing(state)),
  },
];

/**
 * @param {HTMLElement} place
 * @param {object} act
 * @param {() => void} act.start leads to the start of a run
 * @param {(said: string | Node, bad?: boolean) => void} act.say
 */
export function controlButtons(place, act) {
  let state = "";
  let connected = false;
  const start = h("button", { id: "start", type: "button", class: "primary", "aria-describedby": "why-start", onclick: () => allowed(start) && act.start() }, "Start…");
  const reasons = { start: h("span", { id: "why-start", class: "hidden" }) };
  place.append(start, reasons.start);
  /** @type {Map<Verb, HTMLButtonElement>} */
  const buttons = new Map();
  for (const verb of VERBS) {
    const button = h("button", { id: verb.id, type: "button", class: verb.kind ?? "", "aria-describedby": `why-${verb.id}`, onclick: () => allowed(button) && perform(verb) }, verb.label);
    buttons.set(verb, button);
    Object.assign(reasons, { [verb.id]: h("span", { id: `why-${verb.id}`, class: "hidden" }) });
    place.append(button, /** @type {any} */ (reasons)[verb.id]);
  }

  // Not `disabled`: a button that can't be used now can still be reached, and says why.
  /** @param {HTMLButtonElement} button */
  const allowed = (button) => {
    if (button.getAttribute("aria-disabled") !== "true") return true;
    act.say(button.title);
    return false;
  };

  /** @param {Verb} verb */
  async function perform(verb) {
    const agreed = !verb.asks || (await confirmed({ title: `${verb.label}?`, text: verb.explain, yes: verb.label, kind: verb.kind }));
    if (!agreed) return;
    act.say(`${verb.label}…`);
    try {
      const answer = await post(`/api/${verb.id}`);
      act.say(sayAnswer(verb, answer));
    } catch (error) {
      act.say(/** @type {Error} */ (error).message, true);
    }
  }

  function show() {
    set(start, reasons.start, !connected ? "The service does not answer." : isGoing(state) ? "A run is going on: stop it first." : "", "Opens the experiment: it is checked, what it needs is said, and you are asked before it starts.");
    for (const [verb, button] of buttons) {
      const refused = connected ? verb.refused(state) : "The service does not answer.";
      set(button, /** @type {any} */ (reasons)[verb.id], refused, verb.explain);
    }
  }

  return {
    /** @param {string} now @param {boolean} isConnected */
    update(now, isConnected) {
      if (now === state && isConnected === connected) return;
      state = now;
      connected = isConnected;
      show();
    },
    /** @param {string} id presses a button, if it can be pressed */
    press(id) {
      const found = [...buttons.values()].find((button) => button.id === id);
      found?.click();
    },
    get paused() {
      return state === "paused";
    },
  };
}

/** @param {HTMLButtonElement} button @param {HTMLElement} reason @param {string} refused @param {string} explain */
function set(button, reason, refused, explain) {
  button.setAttribute("aria-disabled", String(refused !== ""));
  button.title = refused || explain;
  reason.textContent = refused || explain;
}

/** @param {Verb} verb @param {any} answer @returns {string | Node} */
function sayAnswer(verb, answer) {
  if (!answer?.files) return `${verb.label}: ${answer?.text ?? "done"}`;
  const links = answer.files.flatMap((/** @type {string} */ file) => [" ", h("a", { href: `/${encodeURI(file)}`, target: "_blank" }, file.split("/").at(-1) ?? file)]);
  return h("span", {}, "Saved:", ...links);
}
