// Where a key stands in YAML text, by indentation: enough to mark a line and to change a number.
// The service alone decides what the text means.

/** @typedef {{indent: number, key: string | null, item: boolean, line: number, rest: string, column: number}} Line */

const KEY = /^(\s*)((?:-\s+)*)(?:([\w'"µ.\- ]+?)\s*:(?=\s|$))?(.*)$/u;

/** @param {string} text @returns {Line[]} lines that say something */
function scan(text) {
  /** @type {Line[]} */
  const out = [];
  for (const [line, source] of text.split("\n").entries()) {
    if (!source.trim() || source.trim().startsWith("#")) continue;
    const match = /** @type {RegExpMatchArray} */ (source.match(KEY));
    const [, space, dashes, key, rest] = match;
    out.push({
      indent: space.length + dashes.length,
      key: key === undefined ? null : key.replace(/^['"]|['"]$/g, ""),
      item: dashes.length > 0,
      line,
      rest,
      column: source.length - rest.length,
    });
  }
  return out;
}

/** The lines that belong to one: those below it that are indented further. @param {Line[]} lines @param {number} index */
function below(lines, index) {
  const { indent } = lines[index];
  let end = index + 1;
  // A list may stand at its key's own indentation.
  while (end < lines.length && (lines[end].indent > indent || (lines[end].item && lines[end].indent - 2 >= indent))) end += 1;
  return { from: index + 1, to: end };
}

/**
 * Find a key.
 * @param {string} text
 * @param {(string | number)[]} path
 * @returns {{line: number, exact: boolean, from: number, to: number, depth: number, block?: Line[]} | null} its line (from 0), the
 * columns of its value on it, how many of the path's parts were found (`exact` if all of them), and the lines below that belong to it
 */
export function find(text, path) {
  const lines = scan(text);
  const source = text.split("\n");
  let range = { from: 0, to: lines.length };
  let found = null;
  for (let depth = 0; depth < path.length; depth += 1) {
    const part = path[depth];
    const inside = lines.slice(range.from, range.to);
    if (!inside.length) return inFlow(source, found, path, depth);
    const indent = Math.min(...inside.map((l) => l.indent));
    const level = inside.filter((l) => l.indent === indent);
    const hit = /^\d+$/.test(String(part)) && level[0].item
      ? level.filter((l) => l.item)[Number(part)]
      : level.find((l) => l.key === String(part));
    if (!hit) return found && { ...found, exact: false };
    const index = lines.indexOf(hit);
    const value = trimmed(source[hit.line], hit.column, source[hit.line].length);
    const inner = below(lines, index);
    found = { line: hit.line, exact: depth === path.length - 1, ...value, depth: depth + 1, block: lines.slice(inner.from, inner.to) };
    if (level[0].item && hit.item && /^\d+$/.test(String(part))) {
      const following = level.find((l) => l.item && l.line > hit.line);
      const end = following ? lines.indexOf(following) : range.to;
      range = hit.key ? { from: index, to: end } : { from: index, to: index };
    } else {
      range = inner;
    }
  }
  return found;
}

/**
 * Within `{a: 1, b: [2, 3]}` on the line of the part before.
 * @param {string[]} source @param {any} found @param {(string | number)[]} path @param {number} depth
 */
function inFlow(source, found, path, depth) {
  if (!found) return null;
  const line = source[found.line];
  let { from, to } = found;
  for (let at = depth; at < path.length; at += 1) {
    const hit = flowEntries(line, from, to).find((entry, index) => entry.key === String(path[at]) || (entry.key === null && index === Number(path[at])));
    if (!hit) return { ...found, exact: false, depth: at };
    ({ from, to } = hit);
  }
  return { line: found.line, exact: true, from, to, depth: path.length };
}

/** Entries of a flow mapping or list between two columns. @param {string} line @param {number} from @param {number} to */
function flowEntries(line, from, to) {
  /** @type {{key: string | null, from: number, to: number}[]} */
  const out = [];
  const open = line[from];
  if (open !== "{" && open !== "[") return out;
  let depth = 0;
  let start = from + 1;
  for (let i = from; i < to; i += 1) {
    if ("{[".includes(line[i])) depth += 1;
    if ("}]".includes(line[i])) depth -= 1;
    const ends = (line[i] === "," && depth === 1) || depth === 0;
    if (!ends) continue;
    const piece = line.slice(start, i);
    const match = open === "{" ? piece.match(/^\s*([\w'"µ.\- ]+?)\s*:\s*/u) : null;
    if (piece.trim()) {
      const value = trimmed(line, start + (match ? match[0].length : 0), i);
      out.push({ key: match ? match[1].replace(/^['"]|['"]$/g, "") : null, ...value });
    }
    start = i + 1;
    if (depth === 0) break;
  }
  return out;
}

/** Columns without the space around, and without a comment at the end. @param {string} line @param {number} from @param {number} to */
function trimmed(line, from, to) {
  const piece = line.slice(from, to).replace(/(^|\s)#.*$/, "");
  const lead = piece.length - piece.trimStart().length;
  return { from: from + lead, to: from + lead + piece.trim().length };
}

/** Path of a problem, in parts. @param {string} path */
export function parts(path) {
  return path.split(/[.[\]]+/).filter(Boolean);
}

/**
 * Line of a problem, from 0; -1 where it belongs to the whole.
 * @param {string} text @param {{path: string, message: string, line?: number | null}} problem
 */
export function lineOf(text, problem) {
  if (problem.line != null) return problem.line - 1;
  const path = parts(problem.path);
  const unknown = problem.message.match(/unknown key '([^']+)'/);
  const hit = (unknown && find(text, [...path, unknown[1]])) || (path.length ? find(text, path) : null);
  return hit?.line ?? -1;
}

/** The scalar or list of scalars at a path, as it is written; null where there is none. @param {string} text @param {string} path */
export function readScalar(text, path) {
  const hit = find(text, parts(path));
  if (!hit?.exact) return null;
  const value = text.split("\n")[hit.line].slice(hit.from, hit.to);
  const items = hit.block?.filter((l) => l.item && !l.key) ?? [];
  if (value === "" && items.length && items.length === hit.block?.length) {
    return `[${items.map((l) => l.rest.replace(/\s#.*$/, "").trim()).join(", ")}]`;
  }
  return value === "" ? null : value.replace(/^(['"])(.*)\1$/, "$2");
}

/** The text with another scalar at a path; a key that is not there is added to its parent. @param {string} text @param {string} path @param {string} value */
export function writeScalar(text, path, value) {
  const all = parts(path);
  const lines = text.split("\n");
  const hit = find(text, all);
  if (hit?.exact) {
    const line = lines[hit.line];
    const gap = hit.from > 0 && line[hit.from - 1] === ":" ? " " : "";
    lines[hit.line] = line.slice(0, hit.from) + gap + value + line.slice(hit.to);
    // What stood below the key is replaced, too.
    for (const { line: number } of (hit.from === hit.to ? hit.block ?? [] : []).toReversed()) lines.splice(number, 1);
    return lines.join("\n");
  }
  const missing = all.slice(hit?.depth ?? 0);
  if (hit && lines[hit.line][hit.from] === "{") {
    const line = lines[hit.line];
    const inner = missing.map((key, i) => (i ? `{${key}: ` : `${key}: `)).join("") + value + "}".repeat(missing.length - 1);
    const empty = line.slice(hit.from + 1, hit.to - 1).trim() === "";
    lines[hit.line] = `${line.slice(0, hit.to - 1)}${empty ? "" : ", "}${inner}${line.slice(hit.to - 1)}`;
    return lines.join("\n");
  }
  const indent = hit ? /** @type {string} */ (lines[hit.line].match(/^\s*/)?.[0]).length + 2 : 0;
  const added = missing.map((key, i) => `${" ".repeat(indent + 2 * i)}${key}:${i === missing.length - 1 ? ` ${value}` : ""}`);
  const end = lines.at(-1) === "" ? lines.length - 1 : lines.length;
  lines.splice(hit ? hit.line + 1 : end, 0, ...added);
  return lines.join("\n");
}
