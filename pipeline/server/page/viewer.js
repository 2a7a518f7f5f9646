// Which images are shown: the newest one as it comes, or a stored one that was chosen.

import { get, getBytes, runUrl } from "./api.js";
import { debounced, h, setText } from "./element.js";
import { readPicture } from "./image.js";
import { Pane } from "./pane.js";
import { isGoing } from "./states.js";
import { lastOf, nearest, newest, next, stretches } from "./stored.js";
import { Viewport } from "./viewport.js";

const MOST_PX = 1024;
/** @type {readonly Kind[]} */
const KINDS = ["raw", "phase"];
const REFRESH_MS = 3000;

/**
 * @typedef {import("./image.js").Picture} Picture
 * @typedef {"raw" | "phase"} Kind
 */

/** The two panes and the bar of time below them. */
export class Viewer {
  /**
   * @param {HTMLElement} panes where the panes go
   * @param {HTMLElement} bar where the timepoint, position and channel are chosen
   * @param {(wanted: object) => void} want says to the service what is looked at
   */
  constructor(panes, bar, want) {
    this.want = want;
    this.viewport = new Viewport();
    /** @type {Record<Kind, Pane>} */
    this.panes = {
      raw: new Pane("raw", "Camera", this.viewport, "No image yet: it appears with the first frames."),
      phase: new Pane("phase", "Phase", this.viewport, "No phase yet: it appears with the first result."),
    };
    this.live = true;
    /** @type {any} the service's word on the run that it runs */
    this.current = null;
    /** @type {any} what is known of the run that is shown */
    this.run = null;
    this.name = "";
    this.timepoint = 0;
    /** -1: whichever is newest (live only). */
    this.position = -1;
    this.channel = 0;
    this.output = 0;
    this.refreshedAt = 0;
    /** @type {Partial<Record<Kind, Picture>>} the latest timepoints that came live */
    this.newest = {};
    /** @type {Record<string, AbortController>} */
    this.loading = {};

    this.#build(bar);
    const sharpen = debounced(() => this.#sharpen(), 150);
    for (const pane of Object.values(this.panes)) {
      panes.append(pane.element);
      pane.addEventListener("hover", (event) => {
        for (const each of Object.values(this.panes)) each.point(/** @type {CustomEvent} */ (event).detail);
      });
      pane.addEventListener("resize", sharpen);
    }
    this.viewport.addEventListener("change", sharpen);
  }

  /** What the service says, twice a second. @param {any} run */
  follow(run) {
    const before = this.current;
    this.current = run;
    const isOther = run && run.name !== before?.name;
    // Who looks at an old run is left there when another one begins.
    const wasHere = !this.name || this.live || this.name === before?.name;
    if (isOther && wasHere) this.open(run.name);
    else if (run && this.name === run.name) this.#keepUp(before, run);
    this.#showBar();
  }

  /** @param {any} before @param {any} run the same one, later */
  async #keepUp(before, run) {
    const ended = isGoing(before?.state) && !isGoing(run.state);
    const began = !isGoing(before?.state) && isGoing(run.state);
    if (ended || began || (isGoing(run.state) && performance.now() - this.refreshedAt > REFRESH_MS)) {
      await this.#refresh();
      // What was not reconstructed yet when it was looked for may be by now.
      if (!this.live) this.#load(KINDS.filter((kind) => !this.panes[kind].base));
    }
    // What was seen live is in the store now, in full.
    if (ended && this.live) this.goTo(newest(this.run, Math.max(this.position, 0)));
  }

  /** Look at a run: live if it is going on, else at its newest timepoint. @param {string} name */
  async open(name) {
    this.name = name;
    this.run = null;
    this.position = -1;
    this.channel = 0;
    this.output = 0;
    this.live = name === this.current?.name;
    this.viewport.reset();
    for (const pane of Object.values(this.panes)) {
      pane.contrast.restart();
      pane.clear("No image yet.");
    }
    await this.#refresh();
    if (this.live && isGoing(this.current?.state)) this.goLive();
    else this.goTo(newest(this.run, Math.max(this.position, 0)));
  }

  /** A picture of the live connection. @param {Picture} picture */
  async onPicture(picture) {
    const newest = this.newest[picture.kind];
    // What was passed over and is caught up with is history.
    if (newest?.run === picture.run && picture.timepoint < newest.timepoint) return;
    this.newest[picture.kind] = picture;
    if (!this.live || picture.run !== this.name) return;
    if (this.position >= 0 && this.#positionIndex(picture.position) !== this.position) return;
    // The camera is ahead of the phase.
    if (picture.kind === "phase" || !this.panes.phase.base) this.timepoint = picture.timepoint;
    this.#showBar();
    await this.panes[picture.kind].show(picture, "live", this.#placeName(picture));
    this.#sharpen();
  }

  goLive() {
    if (!this.current) return;
    if (this.name !== this.current.name) {
      this.open(this.current.name);
      return;
    }
    this.live = true;
    this.#wantLive();
    // The next one may be minutes away.
    for (const picture of Object.values(this.newest)) this.onPicture(picture);
    this.#showBar();
  }

  /** Show a stored timepoint. @param {number} timepoint */
  goTo(timepoint) {
    const stored = this.#stored();
    const near = nearest(stored, timepoint);
    this.live = false;
    if (near >= 0) {
      this.timepoint = near;
      this.#load();
    }
    this.#showBar();
  }

  /** @param {1 | -1} way */
  step(way) {
    this.goTo(next(this.#stored(), this.timepoint, way));
  }

  nextChannel() {
    const count = this.#channels().length;
    if (count > 1) this.chooseChannel((this.channel + 1) % count);
  }

  /** @param {number} channel */
  chooseChannel(channel) {
    this.channel = channel;
    this.panes.raw.contrast.restart();
    if (this.live) this.#wantLive();
    else this.#load();
    this.#showBar();
  }

  autoContrast() {
    for (const pane of Object.values(this.panes)) pane.contrast.set({ auto: true });
  }

  #wantLive() {
    this.want({
      raw: true,
      phase: true,
      channel: this.channel,
      max_px: MOST_PX,
    });
  }

  /** @returns {string[]} */
  #channels() {
    return this.run?.channels ?? (this.name === this.current?.name ? this.current?.channels : null) ?? [];
  }

  /** @returns {string[]} */
  #positions() {
    return this.run?.positions ?? (this.name === this.current?.name ? this.current?.positions : null) ?? [];
  }

  /** @param {number | string} position */
  #positionIndex(position) {
    return typeof position === "number" ? position : this.#positions().indexOf(position);
  }

  /** @param {Picture} picture @returns {string} */
  #placeName(picture) {
    const positions = this.#positions();
    const index = this.#positionIndex(picture.position);
    return positions.length > 1 ? positions[index] || String(index + 1) : "";
  }

  #stored() {
    return stretches(this.run, Math.max(this.position, 0));
  }

  async #refresh() {
    const { name } = this;
    this.refreshedAt = performance.now();
    try {
      const run = await get(runUrl(name));
      if (name === this.name) this.run = run;
    } catch {
      // The run's folder is only just being made: the next look finds it.
    }
    this.#showBar();
  }

  /** @param {readonly Kind[]} [kinds] */
  #load(kinds = KINDS) {
    for (const kind of kinds) {
      this.#fetch(kind, kind, {}).then((picture) => {
        if (!picture || this.live) return;
        this.panes[kind].show(picture, "stored", this.#placeName(picture));
        this.#sharpen();
      });
    }
  }

  /** Fetch what is seen in full where the picture is coarser than the screen. */
  #sharpen() {
    for (const kind of KINDS) {
      const pane = this.panes[kind];
      const part = pane.missingDetail();
      if (!part || (this.live && this.loading[`${kind}-part`])) continue;
      this.#fetch(kind, `${kind}-part`, part, true).then((picture) => picture && pane.sharpen(picture));
    }
  }

  /**
   * The newest question of a kind overtakes the one before.
   * @param {Kind} kind @param {string} slot @param {Record<string, number>} part
   * @param {boolean} [quiet] say nothing where it fails: there is a coarser picture
   * @returns {Promise<Picture | null>}
   */
  async #fetch(kind, slot, part, quiet = false) {
    this.loading[slot]?.abort();
    const controller = new AbortController();
    this.loading[slot] = controller;
    const shown = this.panes[kind].base?.picture;
    const position = this.live && shown ? this.#positionIndex(shown.position) : Math.max(this.position, 0);
    const query = new URLSearchParams({
      kind,
      t: String(this.live && shown ? shown.timepoint : this.timepoint),
      p: String(position),
      c: String(kind === "raw" ? this.channel : this.output),
      max_px: String(MOST_PX),
    });
    for (const [key, value] of Object.entries(part)) query.set(key, String(value));
    try {
      return readPicture(await getBytes(`${runUrl(this.name)}/image?${query}`, controller.signal));
    } catch (error) {
      if (!controller.signal.aborted && !quiet) {
        const { reason, message } = /** @type {any} */ (error);
        this.panes[kind].clear(reason ?? message);
      }
      return null;
    } finally {
      if (this.loading[slot] === controller) delete this.loading[slot];
    }
  }

  /** @param {HTMLElement} bar */
  #build(bar) {
    this.liveButton = h("button", { id: "live-button", type: "button", "aria-pressed": "true", title: "Show the newest image as it comes (L)", onclick: () => this.goLive() }, h("span", { class: "dot", "aria-hidden": "true" }), "Live");
    this.slider = h("input", { id: "timepoint", type: "range", min: 0, max: 0, step: 1, "aria-label": "Timepoint", oninput: () => this.goTo(Number(this.slider.value)) });
    this.label = h("output", { id: "timepoint-label", for: "timepoint", class: "number", title: "Timepoints count from 0, as in the stored arrays" });
    this.back = h("button", { type: "button", class: "icon", id: "earlier", "aria-label": "Earlier timepoint", title: "Earlier timepoint (,)", onclick: () => this.step(-1) }, "‹");
    this.forth = h("button", { type: "button", class: "icon", id: "later", "aria-label": "Later timepoint", title: "Later timepoint (.)", onclick: () => this.step(1) }, "›");
    this.positionSelect = h("select", { id: "position", onchange: () => this.#choosePosition(Number(this.positionSelect.value)) });
    this.channelSelect = h("select", { id: "channel", "aria-label": "Camera: channel", title: "Channel (C)", onchange: () => this.chooseChannel(Number(this.channelSelect.value)) });
    this.outputSelect = h("select", { id: "output", "aria-label": "Phase: what is shown", onchange: () => this.#chooseOutput(Number(this.outputSelect.value)) });
    this.panes.raw.choice.append(this.channelSelect);
    this.panes.phase.choice.append(this.outputSelect);
    this.positionLabel = h("label", { class: "position" }, "Position ", this.positionSelect);
    const zoom = h(
      "span",
      { class: "zoom", role: "group", "aria-label": "Zoom" },
      h("button", { type: "button", class: "icon", "aria-label": "Zoom out", title: "Zoom out (−)", onclick: () => this.viewport.zoomBy(1 / 1.6) }, "−"),
      h("button", { type: "button", class: "icon fit", id: "fit", "aria-label": "Show the whole field", title: "Show the whole field (0)", onclick: () => this.viewport.reset() }, "Fit"),
      h("button", { type: "button", class: "icon", id: "zoom-in", "aria-label": "Zoom in", title: "Zoom in (+)", onclick: () => this.viewport.zoomBy(1.6) }, "+"),
    );
    const hint = h("span", { id: "keys-hint", class: "hidden" }, "Plus and minus zoom, the arrow keys pan, 0 shows the whole field.");
    bar.append(this.liveButton, this.back, this.slider, this.forth, this.label, this.positionLabel, zoom, hint);
    this.#showBar();
  }

  /** @param {number} position */
  #choosePosition(position) {
    this.position = position;
    if (this.live) this.#wantLive();
    else this.goTo(this.timepoint);
    this.#showBar();
  }

  /** @param {number} output */
  #chooseOutput(output) {
    this.output = output;
    this.panes.phase.contrast.restart();
    // What comes live is the phase: another output is looked up in the store.
    if (output !== 0 || !this.live) this.goTo(this.timepoint);
  }

  #showBar() {
    const stored = this.#stored();
    const last = Math.max(lastOf(stored), this.live ? this.timepoint : 0, 0);
    this.slider.max = String(last);
    this.slider.value = String(this.live ? last : this.timepoint);
    const has = lastOf(stored) >= 0;
    this.slider.disabled = !has;
    this.back.disabled = !has;
    this.forth.disabled = !has;
    this.slider.dataset.stored = String(stored.reduce((sum, [a, b]) => sum + b - a + 1, 0));
    const timepoint = this.panes.phase.base || this.panes.raw.base || !this.live ? this.timepoint : null;
    const said = !this.name || timepoint === null ? "–" : `t ${timepoint}`;
    setText(this.label, said);
    this.slider.setAttribute("aria-valuetext", said);
    const going = isGoing(this.current?.state);
    this.liveButton.disabled = !this.current;
    this.liveButton.setAttribute("aria-pressed", String(Boolean(this.live && going)));
    const positions = this.#positions().map((name, index) => name || String(index + 1));
    this.positionLabel.hidden = positions.length < 2;
    fill(this.positionSelect, [...(this.live ? [["-1", "newest"]] : []), ...positions.map((name, i) => [String(i), name])], String(this.live ? this.position : Math.max(this.position, 0)));
    fill(this.channelSelect, this.#channels().map((name, i) => [String(i), name]), String(this.channel));
    fill(this.outputSelect, (this.run?.outputs ?? []).map((/** @type {string} */ name, /** @type {number} */ i) => [String(i), name]), String(this.output));
    this.channelSelect.hidden = this.#channels().length < 2;
    this.outputSelect.hidden = (this.run?.outputs ?? []).length < 2;
  }
}

/**
 * New options only where they differ: an open list must not close.
 * @param {HTMLSelectElement} select @param {string[][]} options @param {string} value
 */
function fill(select, options, value) {
  const key = JSON.stringify(options);
  if (select.dataset.options !== key) {
    select.dataset.options = key;
    select.replaceChildren(...options.map(([v, text]) => h("option", { value: v }, text)));
  }
  if (select.value !== value) select.value = value;
}
