// A form for the commonest keys of an experiment, made from its JSON Schema; the text is what counts.

import { h } from "./element.js";
import { readScalar, writeScalar } from "./yaml_text.js";

// What a user changes from one run to the next.
const COMMON = [
  "name",
  "sequence.timepoints",
  "sequence.interval_s",
  "microscope.camera.shape_px",
  "optics.numerical_aperture",
  "optics.magnification",
  "optics.wavelength_um",
  "reconstruction.method",
  "safety.dose_limit_s",
];

/** Units at the end of a key's name. @type {Record<string, string>} */
const UNITS = { s: "s", px: "px", um: "µm", ms: "ms", hz: "Hz", mm: "mm", deg: "°" };

/**
 * What the schema says of a key; the first alternative that knows it.
 * @param {any} root @param {any} schema @param {string[]} path
 * @returns {any}
 */
export function schemaAt(root, schema, path) {
  const node = schema?.$ref ? root.$defs[schema.$ref.split("/").at(-1)] : schema;
  if (!node) return null;
  const choices = node.oneOf ?? node.anyOf;
  if (choices && !(path.length === 0 && node.description)) {
    for (const choice of choices) {
      const found = choice.type === "null" ? null : schemaAt(root, choice, path);
      if (found) return { ...found, description: node.description ?? found.description, default: node.default };
    }
    return null;
  }
  if (!path.length) return choices ? { ...schemaAt(root, choices[0], []), ...node } : node;
  return schemaAt(root, node.properties?.[path[0]], path.slice(1));
}

/**
 * @param {HTMLElement} place
 * @param {any} schema
 * @param {string[]} methods
 * @param {{get: () => string, set: (text: string) => void}} text of the experiment
 * @returns {() => void} shows what the text says
 */
export function commonFields(place, schema, methods, text) {
  /** @type {{path: string, input: HTMLInputElement | HTMLSelectElement}[]} */
  const fields = [];
  for (const path of COMMON) {
    const about = schemaAt(schema, schema, path.split("."));
    if (!about) continue;
    const key = /** @type {string} */ (path.split(".").at(-1));
    const words = key.split("_");
    const unit = words.length > 1 ? UNITS[words[words.length - 1]] : undefined;
    const label = (unit ? words.slice(0, -1) : words).join(" ");
    const options = key === "method" ? methods : about.enum;
    const id = `field-${path.replaceAll(".", "-")}`;
    const kind = about.type === "integer" || about.type === "number" ? "number" : "text";
    const input = options
      ? h("select", { id }, ...options.map((/** @type {string} */ o) => h("option", { value: o }, o)))
      : h("input", { id, type: kind, step: about.type === "integer" ? 1 : "any", min: about.minimum ?? about.exclusiveMinimum, max: about.maximum, placeholder: about.default ?? "" });
    if (about.description) input.setAttribute("aria-describedby", `${id}-help`);
    input.addEventListener("change", () => {
      if (input.value !== "") text.set(writeScalar(text.get(), path, quoted(input.value, kind)));
    });
    fields.push({ path, input });
    place.append(
      h(
        "div",
        { class: "field", "data-path": path },
        h("label", { for: id }, label.charAt(0).toUpperCase() + label.slice(1), unit ? h("span", { class: "unit" }, ` ${unit}`) : null),
        input,
        about.description ? h("p", { class: "quiet", id: `${id}-help` }, about.description) : null,
      ),
    );
  }
  return () => {
    for (const { path, input } of fields) {
      if (document.activeElement === input) continue;
      const value = readScalar(text.get(), path) ?? "";
      if (input instanceof HTMLSelectElement && value && ![...input.options].some((o) => o.value === value)) input.append(new Option(value, value));
      // A number field takes no words: the text says them.
      if (input.value !== value) input.value = input.type === "number" && Number.isNaN(Number(value)) ? "" : value;
    }
  };
}

/** @param {string} value @param {string} kind */
function quoted(value, kind) {
  const plain = kind === "number" || /^\[[\d\s,.]*\]$/.test(value) || /^[\p{L}\p{N}][\p{L}\p{N} _,.()/µ-]*$/u.test(value);
  return plain && !/^(true|false|null|yes|no|on|off)$/i.test(value) ? value : JSON.stringify(value);
}
