// The parts of the page, one seen at a time; the address remembers which.

import { byId } from "./element.js";

const NAMES = ["live", "experiment", "runs"];

/** @param {(name: string) => void} onShow @returns {(name: string, focus?: boolean) => void} shows one */
export function startTabs(onShow) {
  /** @param {string} name @param {boolean} [focus] */
  function show(name, focus = false) {
    for (const each of NAMES) {
      const tab = byId(`tab-${each}`);
      tab.setAttribute("aria-selected", String(each === name));
      tab.tabIndex = each === name ? 0 : -1;
      byId(`panel-${each}`).hidden = each !== name;
    }
    document.body.dataset.tab = name;
    if (focus) byId(`tab-${name}`).focus();
    if (location.hash !== `#${name}`) history.replaceState(null, "", `#${name}`);
    onShow(name);
  }
  for (const [index, name] of NAMES.entries()) {
    const tab = byId(`tab-${name}`);
    tab.addEventListener("click", () => show(name));
    tab.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!way) return;
      event.preventDefault();
      show(NAMES[(index + way + NAMES.length) % NAMES.length], true);
    });
  }
  const fromAddress = () => {
    const name = location.hash.slice(1);
    show(NAMES.includes(name) ? name : "live");
  };
  addEventListener("hashchange", fromAddress);
  fromAddress();
  return show;
}
