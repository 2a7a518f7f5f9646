// Numbers as people read them.

const NONE = "–";

/** @param {number | null | undefined} value @param {number} digits significant ones */
export function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 10 ** digits) return Math.round(value).toLocaleString("en-GB");
  return String(Number(value.toPrecision(digits)));
}

/** @param {number | null | undefined} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE;
  if (seconds > 0 && seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${number(seconds, 2)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${number(hours / 24, 3)} days`;
}

/** @param {number | null | undefined} value */
export function bytes(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let index = 0;
  for (; Math.abs(value) >= 1000 && index < units.length - 1; index += 1) value /= 1000;
  return `${number(value, 3)} ${units[index]}`;
}

/** Time of day. @param {number | null | undefined} utc seconds since 1970 */
export function clock(utc) {
  return utc ? new Date(utc * 1000).toLocaleTimeString("en-GB") : NONE;
}

/** Date and time of day. @param {number | string | null | undefined} utc seconds since 1970, or ISO 8601 */
export function day(utc) {
  if (!utc) return NONE;
  const date = new Date(typeof utc === "number" ? utc * 1000 : utc);
  if (Number.isNaN(date.valueOf())) return String(utc);
  return date.toLocaleString("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
}

/** A round length for a scale bar: 1, 2 or 5 times a power of ten. @param {number} most */
export function roundLength(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  const factor = [5, 2, 1].find((f) => f * power <= most) ?? 1;
  return factor * power;
}
