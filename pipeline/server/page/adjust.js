// Small changes to a run that goes on: interval, focus, stage.

import { post } from "./api.js";
import { h } from "./element.js";

/**
 * @typedef {object} Field
 * @property {string} name
 * @property {string} label
 * @property {string} unit
 * @property {number | string} [min]
 * @property {string} [value]
 */

/** @type {{id: string, does: string, explain: string, fields: Field[]}[]} */
const ADJUSTMENTS = [
  { id: "interval", does: "Set interval", explain: "From one timepoint's start to the next; from the next timepoint on.", fields: [{ name: "interval_s", label: "Interval", unit: "s", min: 0 }] },
  { id: "refocus", does: "Refocus", explain: "Moves the focus by this much between timepoints, and says so in the record.", fields: [{ name: "dz_um", label: "Focus by", unit: "µm", value: "0" }] },
  { id: "move", does: "Move", explain: "Moves the stage by this much between timepoints, in the dark.", fields: [{ name: "dx_um", label: "x by", unit: "µm", value: "0" }, { name: "dy_um", label: "y by", unit: "µm", value: "0" }] },
];

/**
 * @param {HTMLElement} place
 * @param {(text: string, bad?: boolean) => void} say
 * @returns {(run: any) => void}
 */
export function adjustForms(place, say) {
  /** @type {HTMLButtonElement[]} */
  const buttons = [];
  const why = h("p", { class: "quiet", id: "adjust-why" });
  for (const { id, does, explain, fields } of ADJUSTMENTS) {
    const button = h("button", { type: "submit", class: "small", id: `adjust-${id}` }, does);
    buttons.push(button);
    const form = h(
      "form",
      {
        class: "adjust",
        title: explain,
        "aria-label": does,
        onsubmit: async (/** @type {Event} */ event) => {
          event.preventDefault();
          const body = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, Number(value)]));
          try {
            const answer = await post(`/api/${id}`, body);
            say(`${does}: ${answer?.text ?? "asked for, from the next timepoint on"}`);
          } catch (error) {
            say(/** @type {Error} */ (error).message, true);
          }
        },
      },
      ...fields.map(({ name, label, unit, min, value }) => h("label", {}, `${label} `, h("input", { type: "number", step: "any", required: true, name, min, value }), h("span", { class: "unit" }, ` ${unit}`))),
      button,
    );
    place.append(form);
  }
  place.append(why);
  const interval = place.querySelector("input[name=interval_s]");

  return (run) => {
    const can = ["running", "paused"].includes(run?.state);
    for (const button of buttons) button.disabled = !can;
    why.textContent = can ? "Changes take effect between two timepoints." : "These need a run that is going on.";
    const input = /** @type {HTMLInputElement} */ (interval);
    if (document.activeElement !== input && input.dataset.shown !== String(run?.interval_s)) {
      input.value = run?.interval_s ?? "";
      input.dataset.shown = String(run?.interval_s);
    }
  };
}
