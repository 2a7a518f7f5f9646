// What is happening, as figures with a sentence each.

import { h, setText } from "./element.js";
import { bytes, duration, number } from "./format.js";

/**
 * @typedef {object} Figure
 * @property {string} id
 * @property {string} label
 * @property {string} explain
 * @property {(run: any) => string} value
 * @property {(run: any) => string} [more] smaller, below it
 * @property {(run: any) => "" | "warn" | "bad"} [level]
 */

const LITTLE_DISK_S = 3600;

/** @type {Figure[]} */
const FIGURES = [
  {
    id: "timepoint",
    label: "Timepoint",
    explain: "How many timepoints the camera has begun, of those that are planned.",
    value: (run) => `${run.timepoint == null ? 0 : run.timepoint + 1} of ${run.timepoints}`,
    more: (run) => (run.positions.length > 1 ? `${run.positions.length} positions` : ""),
  },
  {
    id: "left",
    label: "Time left",
    explain: "Until the last planned timepoint, as it goes now. A pause adds to it.",
    value: (run) => duration(run.left_s),
  },
  {
    id: "rate",
    label: "Rate",
    explain: "Frames that the camera delivers in a second.",
    value: (run) => `${number(run.frames_per_s)} /s`,
  },
  {
    id: "latency",
    label: "Latency",
    explain: "From the last frame of a timepoint to its phase: half of them are faster than the first number, all but the slowest hundredth faster than the second.",
    value: (run) => duration(run.latency_s?.p50),
    more: (run) => (run.latency_s?.p99 == null ? "" : `99 % below ${duration(run.latency_s.p99)}`),
  },
  {
    id: "queue",
    label: "Queue",
    explain: "Timepoints that wait for their phase. They are stored already: a queue delays the phase, and loses nothing.",
    value: (run) => number(run.queue, 6),
    level: (run) => (run.queue > 10 ? "warn" : ""),
  },
  {
    id: "missing",
    label: "Missing",
    explain: "Frames that could not be taken or stored, each recorded with its reason. It should be 0.",
    value: (run) => number(run.frames_missing, 9),
    more: (run) => Object.entries(run.missing_by_reason ?? {}).filter(([, n]) => n).map(([why, n]) => `${n} ${why.replaceAll("_", " ")}`).join(", "),
    level: (run) => (run.frames_missing > 0 ? "bad" : ""),
  },
  {
    id: "residual",
    label: "Residual",
    explain: "How far the measured light differs from what the phase predicts, against the camera's noise: 1 is as good as it gets; well above it, don't trust the phase.",
    value: (run) => number(run.residual),
    level: (run) => (run.alarm > 1 ? "bad" : ""),
  },
  {
    id: "light",
    label: "Light dose",
    explain: "Seconds of full brightness that the specimen got so far, and whether the light is on.",
    value: (run) => `${number(run.light_dose_s)} s`,
    more: (run) => (run.light_on ? "light on" : "light off"),
  },
  {
    id: "disk",
    label: "Disk free",
    explain: "Room that is left where the runs are stored.",
    value: (run) => bytes(run.disk_free_bytes),
  },
  {
    id: "disk-left",
    label: "Disk lasts",
    explain: "How long the free room lasts, at the rate at which it is being filled.",
    value: (run) => duration(run.disk_left_s),
    level: (run) => (run.disk_left_s != null && run.disk_left_s < Math.min(LITTLE_DISK_S, run.left_s ?? LITTLE_DISK_S) ? "bad" : ""),
  },
];

/**
 * @param {HTMLElement} place
 * @returns {(run: any) => void} shows a run's figures
 */
export function statusPanel(place) {
  const progress = h("progress", { id: "progress", max: 1, value: 0, "aria-label": "Share of the planned frames that are taken" });
  const message = h("p", { id: "run-message", class: "message" });
  /** @type {Map<Figure, {tile: HTMLElement, value: HTMLElement, more: HTMLElement}>} */
  const tiles = new Map();
  const list = h("dl", { class: "figures" });
  for (const figure of FIGURES) {
    const value = h("span", { class: "number", id: `value-${figure.id}` }, "–");
    const more = h("small");
    const tip = h("span", { class: "tip", role: "tooltip", id: `explain-${figure.id}` }, figure.explain);
    const tile = h("div", { class: "figure", tabindex: 0, role: "group", "aria-label": figure.label, "aria-describedby": `explain-${figure.id}`, "data-figure": figure.id }, h("dt", {}, figure.label), h("dd", {}, value, more), tip);
    tiles.set(figure, { tile, value, more });
    list.append(tile);
  }
  place.append(progress, message, list);

  return (run) => {
    const share = run?.frames_planned ? (run.frames_written + run.frames_missing) / run.frames_planned : 0;
    progress.value = Number.isFinite(share) ? share : 0;
    progress.hidden = !run;
    setText(message, run?.error || run?.suspended || run?.message || (run ? "" : "No run. Choose or write an experiment and start it."));
    message.classList.toggle("bad", Boolean(run?.error));
    for (const [figure, { tile, value, more }] of tiles) {
      setText(value, run ? figure.value(run) : "–");
      setText(more, run ? figure.more?.(run) ?? "" : "");
      tile.dataset.level = run ? figure.level?.(run) ?? "" : "";
    }
  };
}
