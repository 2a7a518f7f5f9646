// One pane: an image in the shared viewport, with scale bar, readout and contrast.

import { Contrast, contrastControls } from "./contrast.js";
import { h, setText } from "./element.js";
import { number, roundLength } from "./format.js";
import { attachGestures } from "./gestures.js";
import { valueAt } from "./image.js";
import { Layer } from "./layer.js";

/**
 * @typedef {import("./image.js").Picture} Picture
 * @typedef {import("./viewport.js").Viewport} Viewport
 */

/** Fires "hover" (with the place in fractions of the field, or null) and "resize". */
export class Pane extends EventTarget {
  /**
   * @param {"raw" | "phase"} kind
   * @param {string} title
   * @param {Viewport} viewport
   * @param {string} empty what is said while there is no image
   */
  constructor(kind, title, viewport, empty) {
    super();
    this.kind = kind;
    this.title = title;
    this.viewport = viewport;
    this.contrast = new Contrast(kind);
    /** @type {Layer | null} */
    this.base = null;
    /** @type {Layer | null} */
    this.detail = null;
    /** @type {{y: number, x: number} | null} */
    this.pointer = null;

    this.canvas = h("canvas", { id: `canvas-${kind}`, tabindex: 0, role: "img", "aria-label": `${title}: no image yet`, "aria-describedby": "keys-hint", "data-kind": kind });
    this.context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    this.badge = h("span", { class: "badge" });
    this.note = h("span", { class: "note", title: "Timepoints count from 0, as in the stored arrays" });
    this.choice = h("span", { class: "choice" });
    this.readout = h("output", { class: "readout", id: `readout-${kind}` });
    this.empty = h("p", { class: "empty" }, empty);
    this.stage = h("div", { class: "stage" }, this.canvas, this.empty, this.readout, this.note);
    this.element = h(
      "figure",
      { class: "pane", "data-kind": kind },
      h("figcaption", {}, h("strong", {}, title), this.choice, this.badge),
      this.stage,
      contrastControls(this.contrast, title),
    );

    attachGestures(this.canvas, viewport, (x, y) => this.#toField(x, y));
    for (const name of ["pointermove", "pointerleave"]) {
      this.canvas.addEventListener(name, (/** @type {PointerEvent} */ event) => {
        const place = name === "pointermove" ? this.#toField(event.clientX, event.clientY) : null;
        this.dispatchEvent(new CustomEvent("hover", { detail: place }));
      });
    }
    viewport.addEventListener("change", () => this.#schedule());
    this.contrast.addEventListener("change", () => {
      this.base?.colour(this.contrast);
      this.detail?.colour(this.contrast);
      this.#schedule();
    });
    new ResizeObserver(() => {
      this.#fit();
      this.dispatchEvent(new Event("resize"));
    }).observe(this.stage);
  }

  /**
   * Show a picture of the whole field.
   * @param {Picture} picture
   * @param {"live" | "stored"} source
   * @param {string} [place] name of the position, where there are several
   * @returns {Promise<void>} when it is on the screen
   */
  show(picture, source, place = "") {
    this.base = new Layer(picture);
    if (this.detail && !sameImage(this.detail.picture, picture)) this.detail = null;
    this.contrast.follow(picture);
    this.base.colour(this.contrast);
    this.detail?.colour(this.contrast);
    this.empty.hidden = true;
    Object.assign(this.canvas.dataset, {
      run: picture.run,
      timepoint: picture.timepoint,
      seq: picture.seq,
      there: picture.time_utc ?? "",
      position: picture.position,
      channel: picture.channel,
      source,
    });
    this.#describe(source, place);
    return this.#schedule();
  }

  /** Show a sharper part of the picture that is there. @param {Picture} picture */
  sharpen(picture) {
    if (!this.base || !sameImage(this.base.picture, picture)) return;
    this.detail = new Layer(picture);
    this.detail.colour(this.contrast);
    this.#schedule();
  }

  /** Nothing to show. @param {string} why */
  clear(why) {
    this.base = null;
    this.detail = null;
    this.empty.hidden = false;
    setText(this.empty, why);
    setText(this.badge, "");
    setText(this.note, "");
    for (const name of ["run", "timepoint", "seq", "there", "position", "channel", "source", "painted"]) delete this.canvas.dataset[name];
    this.canvas.setAttribute("aria-label", `${this.title}: ${why}`);
    this.#schedule();
  }

  /** The part that is seen, in full pixels, where the picture is coarser than the screen; else null. */
  missingDetail() {
    if (!this.base) return null;
    const { picture } = this.base;
    const { scale, left, top } = this.#geometry();
    if (picture.step <= 1 || scale * picture.step < 1.25) return null;
    const [rows, columns] = picture.full_shape;
    const y = Math.max(0, Math.floor(-top / scale));
    const x = Math.max(0, Math.floor(-left / scale));
    const part = {
      y,
      x,
      h: Math.min(rows, Math.ceil((this.canvas.height - top) / scale)) - y,
      w: Math.min(columns, Math.ceil((this.canvas.width - left) / scale)) - x,
      max_px: Math.max(this.canvas.width, this.canvas.height),
    };
    return part.h > 0 && part.w > 0 ? part : null;
  }

  /** Mark a place and read the value there. @param {{y: number, x: number} | null} place */
  point(place) {
    this.pointer = place;
    this.#schedule();
    const picture = this.base?.picture;
    if (!place || !picture) {
      setText(this.readout, "");
      return;
    }
    const y = place.y * picture.full_shape[0];
    const x = place.x * picture.full_shape[1];
    const value = (this.detail && valueAt(this.detail.picture, y, x)) ?? valueAt(picture, y, x);
    if (value === null) {
      setText(this.readout, "");
      return;
    }
    const shown = picture.unit === "counts" ? Math.round(value).toString() : value.toFixed(2);
    const um = (/** @type {number} */ px) => number(px * picture.pixel_um, 3);
    setText(this.readout, `${shown}${picture.unit && ` ${picture.unit}`} at x ${um(x)} y ${um(y)} µm`);
  }

  /** @param {"live" | "stored"} source @param {string} place */
  #describe(source, place) {
    const picture = /** @type {Layer} */ (this.base).picture;
    const residual = picture.info?.residual;
    setText(this.badge, source);
    this.badge.dataset.source = source;
    const said = typeof residual === "number" ? ` · residual ${number(residual, 3)}` : "";
    setText(this.note, `${place && `${place} · `}t ${picture.timepoint}${said}`);
    this.canvas.setAttribute("aria-label", `${this.title}, ${place && `position ${place}, `}timepoint ${picture.timepoint}, ${source}${said}`);
  }

  /** Where the field lies on the canvas, in the canvas' pixels. */
  #geometry() {
    const { width, height } = this.canvas;
    const [rows, columns] = this.base?.picture.full_shape ?? [1, 1];
    const scale = Math.min(width / columns, height / rows) * this.viewport.zoom;
    // An unzoomed field lies in the middle of a pane that is wider or higher than it.
    const middle = (/** @type {number} */ size, /** @type {number} */ room, /** @type {number} */ centre) =>
      size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, room / 2 - centre * size));
    return {
      scale,
      left: middle(columns * scale, width, this.viewport.x),
      top: middle(rows * scale, height, this.viewport.y),
      rows,
      columns,
    };
  }

  /** @param {number} clientX @param {number} clientY */
  #toField(clientX, clientY) {
    const box = this.canvas.getBoundingClientRect();
    const ratio = this.canvas.width / box.width;
    const { scale, left, top, rows, columns } = this.#geometry();
    return {
      y: ((clientY - box.top) * ratio - top) / scale / rows,
      x: ((clientX - box.left) * ratio - left) / scale / columns,
    };
  }

  #fit() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.stage;
    if (!clientWidth || !clientHeight) return;
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    this.#paint();
  }

  /** @returns {Promise<void>} */
  #schedule() {
    this.waiting ??= new Promise((resolve) => {
      const paint = () => {
        this.waiting = undefined;
        this.#paint();
        resolve();
      };
      // A hidden tab gets no animation frames, and must go on acknowledging all the same.
      if (document.hidden) setTimeout(paint, 500);
      else requestAnimationFrame(paint);
    });
    return this.waiting;
  }

  #paint() {
    const { context, canvas } = this;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.base) return;
    const place = this.#geometry();
    this.base.draw(context, place.scale, place.left, place.top);
    this.detail?.draw(context, place.scale, place.left, place.top);
    this.#paintScaleBar(place.scale);
    this.#paintPointer(place);
    canvas.dataset.painted = String(Date.now());
    canvas.dataset.step = String(this.detail?.picture.step ?? this.base.picture.step);
    canvas.dataset.zoom = this.viewport.zoom.toFixed(2);
  }

  /** @param {number} scale */
  #paintScaleBar(scale) {
    const { context, canvas } = this;
    const pixelUm = /** @type {Layer} */ (this.base).picture.pixel_um;
    if (!pixelUm) return;
    const ratio = window.devicePixelRatio || 1;
    const um = roundLength(((canvas.width / scale) * pixelUm) / 4);
    const width = (um / pixelUm) * scale;
    const [x, y] = [canvas.width - width - 14 * ratio, canvas.height - 16 * ratio];
    const label = um >= 1000 ? `${um / 1000} mm` : `${number(um)} µm`;
    context.font = `600 ${12 * ratio}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.lineWidth = 3 * ratio;
    context.strokeStyle = "rgb(0 0 0 / 70%)";
    context.fillStyle = "#fff";
    context.strokeRect(x, y, width, 3 * ratio);
    context.fillRect(x, y, width, 3 * ratio);
    context.strokeText(label, x + width / 2, y - 6 * ratio);
    context.fillText(label, x + width / 2, y - 6 * ratio);
  }

  /** @param {{scale: number, left: number, top: number, rows: number, columns: number}} place */
  #paintPointer({ scale, left, top, rows, columns }) {
    if (!this.pointer) return;
    const { context } = this;
    const ratio = window.devicePixelRatio || 1;
    const x = left + this.pointer.x * columns * scale;
    const y = top + this.pointer.y * rows * scale;
    for (const [width, colour] of /** @type {const} */ ([[3, "rgb(0 0 0 / 60%)"], [1, "#fff"]])) {
      context.lineWidth = width * ratio;
      context.strokeStyle = colour;
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + dx * 4 * ratio, y + dy * 4 * ratio);
        context.lineTo(x + dx * 10 * ratio, y + dy * 10 * ratio);
      }
      context.stroke();
    }
  }
}

/** @param {Picture} a @param {Picture} b */
function sameImage(a, b) {
  return a.run === b.run && a.timepoint === b.timepoint && a.position === b.position && a.channel === b.channel;
}
