// The list of runs.

import { exists, get, post, runUrl } from "./api.js";
import { confirmed } from "./dialogs.js";
import { h } from "./element.js";
import { day, number } from "./format.js";
import { sayState } from "./states.js";

/**
 * @param {HTMLElement} place
 * @param {object} act
 * @param {(name: string) => void} act.look
 * @param {(name: string) => void} act.resume
 * @returns {() => Promise<void>} refreshes it
 */
export function runList(place, act) {
  const body = h("tbody");
  const none = h("p", { class: "quiet" }, "No runs yet.");
  place.append(
    h("h2", {}, "Runs"),
    h(
      "table",
      { class: "runs" },
      h("thead", {}, h("tr", {}, ...["Run", "State", "Begun", "Method", "Frames", "Missing", "Phase", ""].map((t) => (t ? h("th", { scope: "col" }, t) : h("td"))))),
      body,
    ),
    none,
  );
  /** @type {Promise<boolean> | undefined} */
  let deep;

  return async () => {
    deep ??= exists("/neuroglancer/");
    const [{ runs }, canBrowse] = await Promise.all([get("/api/runs"), deep]);
    none.hidden = runs.length > 0;
    body.replaceChildren(...runs.map((/** @type {any} */ run) => row(run, canBrowse, act)));
    place.dataset.runs = String(runs.length);
  };
}

/** @param {any} run @param {boolean} canBrowse @param {{look: (name: string) => void, resume: (name: string) => void}} act */
function row(run, canBrowse, act) {
  const cell = (/** @type {string} */ label, /** @type {any[]} */ ...children) => h("td", { "data-label": label }, ...children);
  const actions = h("td", { class: "actions" }, h("button", { type: "button", class: "small", "data-action": "look", "aria-label": `Look at ${run.name}`, onclick: () => act.look(run.name) }, "Look"));
  if (run.has_report) actions.append(h("a", { class: "button small", href: `/runs/${encodeURIComponent(run.name)}/report.html`, target: "_blank", "aria-label": `Report of ${run.name}` }, "Report"));
  if (canBrowse && run.reconstructed !== 0) {
    actions.append(h("a", { class: "button small", "data-action": "neuroglancer", href: `/neuroglancer/v/${encodeURIComponent(run.name)}/`, target: "_blank", title: "Open in Neuroglancer: for browsing large images", "aria-label": `Open ${run.name} in Neuroglancer` }, "Neuroglancer"));
  }
  if (run.can_resume) actions.append(h("button", { type: "button", class: "small primary", "data-action": "resume", "aria-label": `Resume ${run.name}`, onclick: () => act.resume(run.name) }, "Resume"));
  return h(
    "tr",
    { "data-run": run.name, "data-state": run.state },
    h("th", { scope: "row" }, h("span", { class: "name" }, run.name), run.experiment === run.name ? null : h("span", { class: "quiet" }, run.experiment)),
    cell("State", h("span", { class: "state", "data-state": run.state }, sayState(run.state))),
    cell("Begun", day(run.created_utc)),
    cell("Method", run.method),
    cell("Frames", run.frames_written == null ? `${number(run.frames_planned, 9)} planned` : `${number(run.frames_written, 9)} of ${number(run.frames_planned, 9)}`),
    h("td", { "data-label": "Missing", class: run.frames_missing ? "bad" : "" }, number(run.frames_missing, 9)),
    cell("Phase", number(run.reconstructed, 9)),
    actions,
  );
}

/**
 * Go on with a run, once that is agreed to.
 * @param {string} name @param {(text: string, bad?: boolean) => void} say @returns {Promise<boolean>}
 */
export async function resumeRun(name, say) {
  const agreed = await confirmed({
    title: "Resume this run?",
    text: `“${name}” goes on with the planned timepoints where it stopped. The light comes on with the first of them; what is stored is not touched.`,
    yes: "Resume it",
  });
  if (!agreed) return false;
  say(`Resuming ${name}: the instrument gets ready…`);
  try {
    await post(`${runUrl(name)}/resume`);
    say(`${name} goes on.`);
    return true;
  } catch (error) {
    say(/** @type {Error} */ (error).message, true);
    return false;
  }
}
