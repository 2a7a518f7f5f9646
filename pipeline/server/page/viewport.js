// Which part of the field is looked at: one for all panes, in fractions of the field.

const MOST = 64;

/** Zoom 1 shows the whole field. Fires "change". */
export class Viewport extends EventTarget {
  zoom = 1;
  y = 0.5;
  x = 0.5;

  /**
   * @param {number} zoom
   * @param {number} y @param {number} x centre
   */
  set(zoom, y, x) {
    this.zoom = Math.min(Math.max(zoom, 1), MOST);
    const margin = 0.5 / this.zoom;
    this.y = Math.min(Math.max(y, margin), 1 - margin);
    this.x = Math.min(Math.max(x, margin), 1 - margin);
    this.dispatchEvent(new Event("change"));
  }

  reset() {
    this.set(1, 0.5, 0.5);
  }

  /** Zoom about a place that stays where it is. @param {number} factor @param {number} [y] @param {number} [x] */
  zoomBy(factor, y = this.y, x = this.x) {
    const zoom = Math.min(Math.max(this.zoom * factor, 1), MOST);
    const keep = this.zoom / zoom;
    this.set(zoom, y + (this.y - y) * keep, x + (this.x - x) * keep);
  }

  /** @param {number} dy @param {number} dx fractions of the field */
  panBy(dy, dx) {
    this.set(this.zoom, this.y + dy, this.x + dx);
  }
}
