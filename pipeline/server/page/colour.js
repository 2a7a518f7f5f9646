// Colour maps: a few control points each, and the tables made of them.

/** @typedef {{title: string, diverging: boolean, stops: [number, number, number][]}} ColourMap */

/**
 * Evenly spaced control points, in sRGB.
 * @type {Record<string, ColourMap>}
 */
export const MAPS = {
  grey: { title: "grey", diverging: false, stops: [[0, 0, 0], [255, 255, 255]] },
  ember: {
    title: "ember",
    diverging: false,
    stops: [[4, 4, 16], [44, 18, 92], [120, 30, 118], [196, 56, 96], [244, 118, 84], [252, 190, 128], [255, 248, 214]],
  },
  lagoon: {
    title: "lagoon",
    diverging: false,
    stops: [[6, 10, 30], [16, 56, 96], [14, 112, 124], [62, 166, 124], [168, 212, 112], [250, 246, 190]],
  },
  balance: {
    title: "blue to red",
    diverging: true,
    stops: [[10, 40, 110], [66, 132, 200], [178, 210, 230], [246, 246, 244], [240, 192, 166], [206, 92, 74], [110, 14, 34]],
  },
};

/**
 * Colour at a place of a map.
 * @param {ColourMap} map @param {number} place 0 to 1
 * @returns {[number, number, number]}
 */
export function colourAt(map, place) {
  const at = Math.min(Math.max(place, 0), 1) * (map.stops.length - 1);
  const index = Math.min(Math.floor(at), map.stops.length - 2);
  const share = at - index;
  const [from, to] = [map.stops[index], map.stops[index + 1]];
  return /** @type {[number, number, number]} */ (from.map((v, i) => Math.round(v + (to[i] - v) * share)));
}

/** 256 packed RGBA colours. @param {ColourMap} map */
function packed(map) {
  const out = new Uint32Array(256);
  const bytes = new Uint8ClampedArray(out.buffer);
  for (let i = 0; i < 256; i += 1) bytes.set([...colourAt(map, i / 255), 255], i * 4);
  return out;
}

/**
 * Table from a 16-bit level to a packed colour.
 * @param {ColourMap} map
 * @param {{low: number, high: number}} levels values of levels 0 and 65535
 * @param {{low: number, high: number}} contrast values of the map's ends
 */
export function lookUpTable(map, levels, contrast) {
  const colours = packed(map);
  const table = new Uint32Array(65536);
  const perLevel = (levels.high - levels.low) / 65535;
  const scale = 255 / Math.max(contrast.high - contrast.low, 1e-12);
  for (let level = 0; level < 65536; level += 1) {
    const place = (levels.low + level * perLevel - contrast.low) * scale;
    table[level] = colours[place <= 0 ? 0 : place >= 255 ? 255 : place | 0];
  }
  return table;
}

/** Paint a map from left to right over a canvas. @param {HTMLCanvasElement} canvas @param {ColourMap} map */
export function paintBar(canvas, map) {
  canvas.width = 256;
  canvas.height = 1;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(256, 1);
  new Uint32Array(image.data.buffer).set(packed(map));
  context.putImageData(image, 0, 0);
}
