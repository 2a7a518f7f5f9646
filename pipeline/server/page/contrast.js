// Contrast and colours of one pane: by itself, or as the user sets it, with undo.

import { MAPS, paintBar } from "./colour.js";
import { h } from "./element.js";
import { number } from "./format.js";
import { percentiles } from "./image.js";

/** @typedef {{auto: boolean, low: number, high: number, map: string}} Setting */

// Automatic contrast follows only what changes by more than this share of its span: no flicker.
const DEADBAND = 0.06;
const MOST_UNDO = 50;

/** Fires "change" when what is seen changes. */
export class Contrast extends EventTarget {
  /** @param {"raw" | "phase"} kind */
  constructor(kind) {
    super();
    /** @type {Setting} */
    this.setting = { auto: true, low: 0, high: 1, map: kind === "raw" ? "grey" : "ember" };
    /** @type {Setting[]} */
    this.past = [];
    this.limits = { low: 0, high: 1 };
    this.unit = kind === "raw" ? "counts" : "rad";
    this.fresh = true;
  }

  get map() {
    return MAPS[this.setting.map];
  }

  /** Look at a new picture. @param {import("./image.js").Picture} picture */
  follow(picture) {
    this.unit = picture.unit;
    let [low, high] = percentiles(picture);
    if (this.map.diverging) {
      high = Math.max(Math.abs(low), Math.abs(high));
      low = -high;
    }
    if (high <= low) high = low + 1e-6;
    const span = high - low;
    const room = { low: low - 0.5 * span, high: high + 0.5 * span };
    if (picture.unit === "counts") room.low = Math.max(room.low, 0);
    const { auto, low: l, high: hi } = this.setting;
    const moved = Math.max(Math.abs(low - l), Math.abs(high - hi)) > DEADBAND * span;
    if (auto && (moved || this.fresh)) Object.assign(this.setting, { low, high });
    if (!this.fresh && !moved) return;
    this.fresh = false;
    this.limits = {
      low: Math.min(room.low, this.setting.low),
      high: Math.max(room.high, this.setting.high),
    };
    this.dispatchEvent(new Event("change"));
  }

  /** Another kind of image: begin again with its own range. */
  restart() {
    this.fresh = true;
  }

  /** @param {Partial<Setting>} change @param {boolean} [remember] false while a slider is being dragged */
  set(change, remember = true) {
    if (remember) this.remember();
    const next = { ...this.setting, ...change };
    if (next.high <= next.low) return;
    this.setting = next;
    if (change.auto || change.map) this.fresh = true;
    this.limits = { low: Math.min(this.limits.low, next.low), high: Math.max(this.limits.high, next.high) };
    this.dispatchEvent(new Event("change"));
  }

  remember() {
    this.past.push({ ...this.setting });
    if (this.past.length > MOST_UNDO) this.past.shift();
  }

  undo() {
    const before = this.past.pop();
    if (!before) return;
    this.setting = before;
    this.dispatchEvent(new Event("change"));
  }
}

/**
 * Colour bar with two sliders on it, the two numbers, colours, automatic and undo.
 * @param {Contrast} contrast @param {string} title of the pane
 */
export function contrastControls(contrast, title) {
  const bar = h("canvas", { class: "bar", "aria-hidden": "true" });
  const ends = /** @type {const} */ (["low", "high"]);
  /** @type {Record<string, HTMLInputElement>} */
  const sliders = {};
  /** @type {Record<string, HTMLInputElement>} */
  const numbers = {};
  for (const end of ends) {
    const say = end === "low" ? "darkest" : "brightest";
    sliders[end] = h("input", { type: "range", min: 0, max: 1000, class: end, "aria-label": `${title}: ${say} value` });
    numbers[end] = h("input", { type: "number", step: "any", class: `end ${end}`, "aria-label": `${title}: ${say} value` });
    let dragging = false;
    sliders[end].addEventListener("input", () => {
      const { low, high } = contrast.limits;
      const value = low + (Number(sliders[end].value) / 1000) * (high - low);
      contrast.set({ auto: false, [end]: value }, !dragging);
      dragging = true;
    });
    sliders[end].addEventListener("change", () => {
      dragging = false;
      show();
    });
    numbers[end].addEventListener("change", () => {
      const value = Number(numbers[end].value);
      if (numbers[end].value !== "" && Number.isFinite(value)) contrast.set({ auto: false, [end]: value });
      show();
    });
  }
  const auto = h("button", { type: "button", class: "small", "aria-pressed": "true", title: "Follow the image: all but the darkest and brightest 0.3 % of the pixels", onclick: () => contrast.set({ auto: !contrast.setting.auto }) }, "Auto");
  const undo = h("button", { type: "button", class: "small", title: "Undo the last change of contrast or colours", onclick: () => contrast.undo() }, "Undo");
  const maps = h(
    "select",
    { "aria-label": `${title}: colours`, title: "Colours", onchange: () => contrast.set({ map: maps.value }) },
    ...Object.entries(MAPS).map(([name, map]) => h("option", { value: name }, map.title)),
  );
  const unit = h("span", { class: "unit" }, contrast.unit);

  function show() {
    const { setting, limits, map } = contrast;
    for (const end of ends) {
      const span = limits.high - limits.low || 1;
      sliders[end].value = String(Math.round(((setting[end] - limits.low) / span) * 1000));
      sliders[end].setAttribute("aria-valuetext", `${number(setting[end])} ${contrast.unit}`);
      if (document.activeElement !== numbers[end]) {
        const digits = contrast.unit === "counts" ? 0 : 2;
        numbers[end].value = setting[end].toFixed(digits);
      }
      bar.style.setProperty(`--${end}`, String((setting[end] - limits.low) / span));
    }
    auto.setAttribute("aria-pressed", String(setting.auto));
    undo.disabled = contrast.past.length === 0;
    maps.value = setting.map;
    unit.textContent = contrast.unit;
    paintBar(bar, map);
  }
  contrast.addEventListener("change", show);
  show();

  return h(
    "div",
    { class: "contrast", role: "group", "aria-label": `${title}: contrast and colours` },
    numbers.low,
    h("div", { class: "scale" }, bar, sliders.low, sliders.high),
    numbers.high,
    unit,
    maps,
    auto,
    undo,
  );
}
