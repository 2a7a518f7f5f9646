// Dialogs: what happens is said before it does.

import { byId, h } from "./element.js";

/**
 * Ask before something is done.
 * @param {object} question
 * @param {string} question.title
 * @param {string} question.text what will happen
 * @param {string[]} [question.lines] details
 * @param {string} question.yes the button that does it
 * @param {"plain" | "danger"} [question.kind]
 * @returns {Promise<boolean>}
 */
export function confirmed({ title, text, lines = [], yes, kind = "plain" }) {
  const dialog = byId("confirm");
  if (dialog.open) return Promise.resolve(false);
  const accept = h("button", { id: "confirm-yes", type: "submit", value: "yes", class: kind === "danger" ? "danger" : "primary" }, yes);
  const refuse = h("button", { id: "confirm-no", type: "submit", value: "no" }, "Cancel");
  dialog.replaceChildren(
    h(
      "form",
      { method: "dialog" },
      h("h2", { id: "confirm-title" }, title),
      h("p", { id: "confirm-text" }, text),
      lines.length ? h("pre", { class: "needs" }, lines.join("\n")) : null,
      h("div", { class: "row end" }, refuse, accept),
    ),
  );
  dialog.setAttribute("aria-describedby", "confirm-text");
  dialog.returnValue = "no";
  dialog.showModal();
  // What can't be undone is not what Enter does.
  (kind === "danger" ? refuse : accept).focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
