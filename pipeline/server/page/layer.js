// A picture, coloured, on a canvas of its own that is never shown itself.

import { lookUpTable } from "./colour.js";

/** @typedef {import("./image.js").Picture} Picture */

/** Colours once a picture and once a change of contrast, not once a repaint. */
export class Layer {
  /** @param {Picture} picture */
  constructor(picture) {
    this.picture = picture;
    [this.rows, this.columns] = picture.shape;
    this.canvas = document.createElement("canvas");
    this.canvas.width = this.columns;
    this.canvas.height = this.rows;
    this.context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    this.image = this.context.createImageData(this.columns, this.rows);
    this.words = new Uint32Array(this.image.data.buffer);
  }

  /** @param {import("./contrast.js").Contrast} contrast */
  colour(contrast) {
    const table = lookUpTable(contrast.map, this.picture, contrast.setting);
    const { pixels } = this.picture;
    const { words } = this;
    for (let i = 0; i < pixels.length; i += 1) words[i] = table[pixels[i]];
    this.context.putImageData(this.image, 0, 0);
  }

  /**
   * @param {CanvasRenderingContext2D} target
   * @param {number} scale target pixels a full pixel
   * @param {number} left @param {number} top of the whole field in the target
   */
  draw(target, scale, left, top) {
    const [y, x] = this.picture.origin;
    const size = this.picture.step * scale;
    target.imageSmoothingEnabled = size < 3;
    target.drawImage(this.canvas, left + x * scale, top + y * scale, this.columns * size, this.rows * size);
  }
}
