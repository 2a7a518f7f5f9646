// Keyboard shortcuts, and the dialog that lists them.

import { byId, h } from "./element.js";

/** @typedef {{key: string, say: string, does: () => void}} Shortcut */

const OFF = "livephase.shortcuts-off";

/** @param {Shortcut[]} shortcuts */
export function startKeys(shortcuts) {
  const dialog = byId("help");
  const off = h("input", { type: "checkbox", id: "shortcuts-on" });
  off.checked = localStorage.getItem(OFF) === null;
  off.addEventListener("change", () => {
    if (off.checked) localStorage.removeItem(OFF);
    else localStorage.setItem(OFF, "1");
  });
  const rows = [
    ...shortcuts.map(({ key, say }) => [key === " " ? "Space" : key, say]),
    ["+ −", "zoom (an image has the focus)"],
    ["← → ↑ ↓", "pan (an image has the focus and is zoomed)"],
    ["0", "show the whole field (an image has the focus)"],
    ["Esc", "close a dialog without doing anything"],
  ];
  dialog.append(
    h(
      "form",
      { method: "dialog" },
      h("h2", { id: "help-title" }, "Keyboard and help"),
      h("p", {}, "Everything can be reached with Tab. Over an image: the wheel or two fingers zoom, dragging pans, a double click zooms in. Each figure at the side explains itself when it is pointed at or has the focus."),
      h("table", { class: "keys" }, h("tbody", {}, ...rows.map(([key, say]) => h("tr", {}, h("th", { scope: "row" }, ...key.split(" ").map((k) => h("kbd", {}, k))), h("td", {}, say))))),
      h("label", { class: "check" }, off, " Single-key shortcuts"),
      h("div", { class: "row end" }, h("button", { type: "submit", class: "primary", id: "help-close" }, "Close")),
    ),
  );
  const show = () => dialog.showModal();
  byId("help-button").addEventListener("click", show);

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const target = /** @type {HTMLElement} */ (event.target);
    if (target.closest("input:not([type=range]), textarea, select, [contenteditable]")) return;
    if (event.key === "?") {
      event.preventDefault();
      show();
      return;
    }
    const shortcut = off.checked && shortcuts.find(({ key }) => key.toLowerCase() === event.key.toLowerCase());
    if (!shortcut) return;
    event.preventDefault();
    shortcut.does();
  });
}
