// The experiment: its text, what is wrong with it beside the line, what it needs, and its start.

import { get, post } from "./api.js";
import { confirmed } from "./dialogs.js";
import { debounced, h, setText } from "./element.js";
import { commonFields } from "./form.js";
import { lineOf } from "./yaml_text.js";

const LINE_PX = 20;
const KEPT = "livephase.experiment";

/** @typedef {{path: string, message: string, line: number | null}} Problem */

export class Editor {
  /**
   * @param {HTMLElement} place
   * @param {object} act
   * @param {(text: string, bad?: boolean) => void} act.say
   * @param {() => void} act.started
   * @param {() => string} act.refused why no run can be started now; "" if it can
   */
  constructor(place, act) {
    this.act = act;
    this.verdictOf = "";
    /** @type {any} */
    this.verdict = null;
    this.asked = 0;
    this.#build(place);
    this.showFields = () => {};
  }

  /** Fetch examples and schema, once. @param {string[]} methods */
  async load(methods) {
    if (this.loaded) return;
    this.loaded = true;
    try {
      const [{ examples }, schema] = await Promise.all([get("/api/examples"), get("/api/schema")]);
      this.examples = examples;
      this.example.append(...examples.map((/** @type {any} */ e, /** @type {number} */ i) => h("option", { value: i }, e.title)));
      this.showFields = commonFields(this.fields, schema, methods, { get: () => this.area.value, set: (text) => this.setText(text) });
      const kept = localStorage.getItem(KEPT);
      if (!this.area.value) this.setText(kept ?? examples[0]?.yaml ?? "");
      else this.showFields();
    } catch (error) {
      this.loaded = false;
      this.act.say(/** @type {Error} */ (error).message, true);
    }
  }

  /** @param {string} text */
  setText(text) {
    this.area.value = text;
    this.#changed();
  }

  /** Check, say what it needs, ask, start. */
  async start() {
    const verdict = await this.check();
    if (!verdict) return;
    if (!verdict.ok) {
      this.#focusFirst();
      return;
    }
    const refused = this.act.refused();
    if (refused) {
      this.act.say(refused, true);
      return;
    }
    const agreed = await confirmed({
      title: "Start this run?",
      text: "The light comes on with the first frame. The run goes on without this page until it is done, or stopped.",
      lines: [...(verdict.text ?? []), ...verdict.warnings.map((/** @type {string} */ w) => `warning: ${w}`)],
      yes: "Start",
    });
    if (!agreed) return;
    this.act.say("Starting: the instrument gets ready…");
    this.startButton.disabled = true;
    try {
      const { name } = await post("/api/runs", { experiment: this.area.value, name: this.name.value.trim() || null });
      this.act.say(`${name} has begun.`);
      this.name.value = "";
      this.act.started();
    } catch (error) {
      const { reason, fix, path, message } = /** @type {any} */ (error);
      if (path) this.#show({ ok: false, errors: [{ path, message: fix ? `${reason}: ${fix}` : reason, line: null }], warnings: [], text: [] });
      this.act.say(message, true);
    } finally {
      this.startButton.disabled = false;
    }
  }

  /** Ask the service what it thinks of the text. @returns {Promise<any>} */
  async check() {
    const text = this.area.value;
    if (this.verdict && this.verdictOf === text) return this.verdict;
    const turn = ++this.asked;
    setText(this.state, "Checking…");
    try {
      const verdict = await post("/api/validate", { experiment: text });
      if (turn !== this.asked) return verdict;
      this.verdictOf = text;
      this.#show(verdict);
      return verdict;
    } catch (error) {
      setText(this.state, /** @type {Error} */ (error).message);
      return null;
    }
  }

  /** @param {HTMLElement} place */
  #build(place) {
    this.example = h("select", { id: "example", onchange: () => this.#choose() }, h("option", { value: "" }, "Begin with an example…"));
    this.name = h("input", { id: "new-name", type: "text", maxlength: 100, placeholder: "date and experiment", autocomplete: "off" });
    this.startButton = h("button", { id: "start-run", type: "button", class: "primary", onclick: () => this.start() }, "Check and start…");
    this.gutter = h("ol", { class: "gutter", "aria-hidden": "true" });
    this.marks = h("div", { class: "marks", "aria-hidden": "true" });
    this.area = h("textarea", { id: "yaml", spellcheck: "false", wrap: "off", autocapitalize: "off", autocomplete: "off", "aria-label": "Experiment, as YAML", "aria-describedby": "notes" });
    this.notes = h("div", { class: "notes", id: "notes", "aria-live": "polite" });
    this.state = h("p", { id: "verdict", class: "verdict", role: "status" });
    this.needs = h("pre", { id: "needs", class: "needs", hidden: true });
    this.warnings = h("ul", { id: "warnings", class: "warnings" });
    this.fields = h("div", { class: "fields", id: "fields" });
    const check = debounced(() => this.check(), 500);
    this.checkSoon = check;
    this.area.addEventListener("input", () => this.#changed());
    this.area.addEventListener("scroll", () => this.#scroll());
    this.area.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.start();
    });
    place.append(
      h("div", { class: "toolbar" }, h("h2", {}, "Experiment"), h("label", { class: "hidden", for: "example" }, "Example"), this.example, h("span", { class: "spring" }), h("label", { for: "new-name" }, "Name of the run ", this.name), this.startButton),
      h("div", { class: "writing" }, h("div", { class: "paper" }, h("div", { class: "margin" }, this.gutter), h("div", { class: "sheet" }, this.marks, this.area), this.notes), this.state),
      h("aside", { class: "beside", "aria-label": "Common settings and needs" }, h("section", {}, h("h3", {}, "What it needs"), this.needs, this.warnings), h("section", {}, h("h3", {}, "Common settings"), h("p", { class: "quiet" }, "Each writes into the text."), this.fields)),
    );
  }

  #choose() {
    const chosen = this.examples?.[Number(this.example.value)];
    if (chosen && this.example.value !== "") this.setText(chosen.yaml);
  }

  #changed() {
    this.verdict = null;
    localStorage.setItem(KEPT, this.area.value);
    const count = this.area.value.split("\n").length;
    if (this.gutter.children.length !== count) {
      this.gutter.replaceChildren(...Array.from({ length: count }, (_, i) => h("li", {}, String(i + 1))));
    }
    this.#clearMarks();
    this.#scroll();
    this.showFields();
    this.checkSoon?.();
  }

  #clearMarks() {
    for (const li of this.gutter.querySelectorAll(".wrong")) li.classList.remove("wrong");
    this.marks.replaceChildren();
    this.notes.replaceChildren();
    this.area.removeAttribute("aria-invalid");
  }

  /** @param {any} verdict */
  #show(verdict) {
    this.verdict = verdict;
    this.#clearMarks();
    const errors = /** @type {Problem[]} */ (verdict.errors);
    this.state.dataset.ok = String(verdict.ok);
    setText(this.state, verdict.ok ? "Ready to start." : `${errors.length} ${errors.length === 1 ? "thing is" : "things are"} to be corrected.`);
    this.needs.hidden = !verdict.ok;
    setText(this.needs, (verdict.text ?? []).join("\n"));
    this.warnings.replaceChildren(...verdict.warnings.map((/** @type {string} */ w) => h("li", {}, w)));
    if (verdict.ok) return;
    this.area.setAttribute("aria-invalid", "true");
    const placed = errors.map((problem) => ({ problem, line: lineOf(this.area.value, problem) })).sort((a, b) => a.line - b.line);
    for (const { problem, line } of placed) {
      if (line >= 0) {
        this.gutter.children[line]?.classList.add("wrong");
        const mark = h("div", { class: "mark", "data-line": line + 1 });
        mark.style.top = `${line * LINE_PX}px`;
        this.marks.append(mark);
      }
      this.notes.append(
        h("button", { type: "button", class: "problem", "data-path": problem.path, "data-line": line + 1, onclick: () => this.#goTo(line) }, h("strong", {}, line >= 0 ? `Line ${line + 1}` : "Experiment", problem.path ? `, ${problem.path}` : ""), h("span", {}, problem.message)),
      );
    }
    this.#scroll();
  }

  /** Notes stand beside their lines, or below one another where lines are too close. */
  #scroll() {
    const top = this.area.scrollTop;
    this.gutter.style.transform = `translateY(${-top}px)`;
    this.marks.style.transform = `translate(0, ${-top}px)`;
    let free = 0;
    for (const note of this.notes.children) {
      const line = Math.max(Number(note.dataset.line) - 1, 0);
      const wanted = Math.max(line * LINE_PX - top, free);
      note.style.setProperty("--top", `${wanted}px`);
      free = wanted + note.offsetHeight + 6;
    }
  }

  /** @param {number} line */
  #goTo(line) {
    const lines = this.area.value.split("\n");
    const start = lines.slice(0, Math.max(line, 0)).join("\n").length + (line > 0 ? 1 : 0);
    this.area.focus();
    this.area.setSelectionRange(start, start + (lines[Math.max(line, 0)]?.length ?? 0));
    this.area.scrollTop = Math.max(0, line * LINE_PX - this.area.clientHeight / 3);
  }

  #focusFirst() {
    const first = this.notes.querySelector(".problem");
    if (first) this.#goTo(Number(first.dataset.line) - 1);
    this.act.say("The experiment can't start yet: what is wrong is said beside its lines.", true);
  }
}
