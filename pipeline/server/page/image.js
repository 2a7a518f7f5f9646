// The binary image message: a JSON header and 16-bit pixels.

/**
 * One image, or a part of one, as the service sent it.
 * @typedef {object} Picture
 * @property {"raw" | "phase"} kind
 * @property {string} run
 * @property {number} timepoint
 * @property {number | string} position
 * @property {number | string} channel
 * @property {[number, number]} shape rows and columns that were sent
 * @property {[number, number]} full_shape of the whole image, in full pixels
 * @property {[number, number]} origin (y, x) of the first pixel, in full pixels
 * @property {number} step full pixels a sent pixel
 * @property {number} low value of 0
 * @property {number} high value of 65535
 * @property {"counts" | "rad" | ""} unit empty: a number without one, as an amplitude
 * @property {number} pixel_um edge of a full pixel
 * @property {number} seq what is acknowledged
 * @property {Record<string, any>} info
 * @property {Uint16Array} pixels
 */

/** @param {ArrayBuffer} buffer @returns {Picture} */
export function readPicture(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const text = new TextDecoder().decode(new Uint8Array(buffer, 4, length));
  const header = JSON.parse(text);
  const [rows, columns] = header.shape;
  header.pixels = new Uint16Array(buffer, 4 + length, rows * columns);
  return header;
}

/** Value of a 16-bit level. @param {Picture} picture @param {number} level */
export function valueOf(picture, level) {
  return picture.low + (level / 65535) * (picture.high - picture.low);
}

/**
 * Value at a place given in full pixels; null outside of what was sent.
 * @param {Picture} picture @param {number} y @param {number} x
 */
export function valueAt(picture, y, x) {
  const row = Math.floor((y - picture.origin[0]) / picture.step);
  const column = Math.floor((x - picture.origin[1]) / picture.step);
  const [rows, columns] = picture.shape;
  if (row < 0 || column < 0 || row >= rows || column >= columns) return null;
  return valueOf(picture, picture.pixels[row * columns + column]);
}

/**
 * Values between which all but a share of the pixels lie.
 * @param {Picture} picture
 * @param {number} share left out at either end
 * @returns {[number, number]}
 */
export function percentiles(picture, share = 0.003) {
  const { pixels } = picture;
  const counts = new Uint32Array(65536);
  const stride = Math.max(1, Math.floor(pixels.length / 200000));
  let total = 0;
  for (let i = 0; i < pixels.length; i += stride) {
    counts[pixels[i]] += 1;
    total += 1;
  }
  const limit = total * share;
  let low = 0;
  let high = 65535;
  for (let sum = counts[low]; sum <= limit && low < 65534; sum += counts[low]) low += 1;
  for (let sum = counts[high]; sum <= limit && high > low + 1; sum += counts[high]) high -= 1;
  return [valueOf(picture, low), valueOf(picture, high)];
}
