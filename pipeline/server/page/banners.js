// Banners: the connection is lost, a run was cut off, something was said.

import { byId, h } from "./element.js";

const SHOWN_MS = 8000;

/** @param {() => void} retry */
export function connectionBanner(retry) {
  const banner = byId("banner-connection");
  const again = h("button", { type: "button", class: "small", id: "retry", onclick: retry }, "Try now");
  let timer = 0;
  return {
    /** @param {number} waitS until the next try */
    lost(waitS) {
      clearInterval(timer);
      const until = Date.now() + waitS * 1000;
      const text = h("span", {}, "The connection to the service is lost. A run goes on without this page; the page comes back by itself.");
      const count = h("span", { class: "quiet", "aria-hidden": "true" });
      if (banner.hidden) banner.replaceChildren(text, count, again);
      const shown = banner.querySelector(".quiet") ?? count;
      const tick = () => {
        const left = Math.ceil((until - Date.now()) / 1000);
        shown.textContent = left > 0 ? `Trying again in ${left} s` : "Trying again…";
      };
      tick();
      timer = setInterval(tick, 500);
      banner.hidden = false;
    },
    /** @param {string} reason @param {string} fix */
    lockedOut(reason, fix) {
      clearInterval(timer);
      banner.replaceChildren(h("span", {}, `Not allowed: ${reason}; ${fix}.`), again);
      banner.hidden = false;
    },
    open() {
      clearInterval(timer);
      banner.hidden = true;
    },
  };
}

/** @param {(name: string) => void} resume @returns {(run: any) => void} offers to go on with a run that was cut off */
export function resumeBanner(resume) {
  const banner = byId("banner-resume");
  let offered = "";
  let dismissed = "";
  return (run) => {
    const name = run?.can_resume && run.state === "interrupted" && run.name !== dismissed ? run.name : "";
    if (name === offered) return;
    offered = name;
    banner.hidden = !name;
    if (!name) return;
    banner.replaceChildren(
      h("span", {}, `The run “${name}” was interrupted. What it took is stored; it can go on where it was.`),
      h("button", { type: "button", class: "small primary", id: "resume-interrupted", onclick: () => resume(name) }, "Resume it"),
      h("button", { type: "button", class: "small", onclick: () => { dismissed = name; offered = ""; banner.hidden = true; } }, "Not now"),
    );
  };
}

/** @returns {(said: string | Node, bad?: boolean) => void} says something for a while */
export function messageBanner() {
  const banner = byId("banner-message");
  let timer = 0;
  return (said, bad = false) => {
    clearTimeout(timer);
    banner.classList.toggle("bad", bad);
    banner.replaceChildren(h("span", {}, said), h("button", { type: "button", class: "icon small", "aria-label": "Close", onclick: () => (banner.hidden = true) }, "×"));
    banner.hidden = false;
    // What went wrong stays until it is read.
    if (!bad) timer = setTimeout(() => (banner.hidden = true), SHOWN_MS);
  };
}
