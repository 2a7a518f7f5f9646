// Wheel, drag, pinch and keys, turned into zoom and pan.

/** @typedef {import("./viewport.js").Viewport} Viewport */

const KEY_STEP = 0.15;

/**
 * @param {HTMLElement} element
 * @param {Viewport} viewport
 * @param {(clientX: number, clientY: number) => {y: number, x: number}} toField place in fractions of the field
 */
export function attachGestures(element, viewport, toField) {
  /** @type {Map<number, PointerEvent>} */
  const down = new Map();

  element.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const { y, x } = toField(event.clientX, event.clientY);
      const lines = event.deltaMode === 1 ? 16 : 1;
      viewport.zoomBy(Math.exp((-event.deltaY * lines) / 400), y, x);
    },
    { passive: false },
  );

  element.addEventListener("dblclick", (event) => {
    const { y, x } = toField(event.clientX, event.clientY);
    viewport.zoomBy(2, y, x);
  });

  element.addEventListener("pointerdown", (event) => {
    element.setPointerCapture(event.pointerId);
    down.set(event.pointerId, event);
  });

  element.addEventListener("pointermove", (event) => {
    const before = down.get(event.pointerId);
    if (!before) return;
    const other = [...down.values()].find((e) => e.pointerId !== event.pointerId);
    if (other) {
      const middle = toField((event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2);
      viewport.zoomBy(distance(event, other) / Math.max(distance(before, other), 1), middle.y, middle.x);
    }
    const from = toField(before.clientX, before.clientY);
    const to = toField(event.clientX, event.clientY);
    const share = other ? 0.5 : 1;
    viewport.panBy((from.y - to.y) * share, (from.x - to.x) * share);
    down.set(event.pointerId, event);
  });

  for (const name of ["pointerup", "pointercancel"]) {
    element.addEventListener(name, (event) => down.delete(/** @type {PointerEvent} */ (event).pointerId));
  }

  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = KEY_STEP / viewport.zoom;
    /** @type {Record<string, () => void>} */
    const actions = {
      "+": () => viewport.zoomBy(1.4),
      "=": () => viewport.zoomBy(1.4),
      "-": () => viewport.zoomBy(1 / 1.4),
      0: () => viewport.reset(),
      ArrowUp: () => viewport.panBy(-step, 0),
      ArrowDown: () => viewport.panBy(step, 0),
      ArrowLeft: () => viewport.panBy(0, -step),
      ArrowRight: () => viewport.panBy(0, step),
    };
    const action = actions[event.key];
    // Unzoomed, the arrows scroll the page as they do everywhere.
    if (!action || (event.key.startsWith("Arrow") && viewport.zoom === 1)) return;
    event.preventDefault();
    action();
  });

  // A finger on the unzoomed image scrolls the page; on the zoomed one it moves the image.
  const touch = () => {
    element.style.touchAction = viewport.zoom > 1 ? "none" : "pan-y";
  };
  viewport.addEventListener("change", touch);
  touch();
}

/** @param {PointerEvent} a @param {PointerEvent} b */
function distance(a, b) {
  return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
}
