// What happened, and what is alarming.

import { h } from "./element.js";
import { clock, day } from "./format.js";

const MOST_SHOWN = 200;

/** The list of events, newest first; each once, though all come anew with each connection. */
export class EventLog {
  /** @param {HTMLElement} list */
  constructor(list) {
    this.list = list;
    this.last = 0;
  }

  /** The service started again, and counts from the beginning. */
  restart() {
    this.last = 0;
    this.list.replaceChildren();
  }

  /** @param {{seq: number, time_utc: number, level: string, source: string, text: string}} event */
  add(event) {
    if (event.seq <= this.last) return;
    this.last = event.seq;
    this.list.prepend(
      h(
        "li",
        { "data-level": event.level, "data-seq": event.seq },
        h("time", { title: day(event.time_utc) }, clock(event.time_utc)),
        h("span", { class: "text" }, event.level === "info" ? "" : h("strong", {}, `${event.level}: `), event.text),
      ),
    );
    while (this.list.children.length > MOST_SHOWN) this.list.lastElementChild?.remove();
  }
}

/**
 * @param {HTMLElement} place
 * @returns {(alarms: {name: string, severity: string, text: string, since_utc: number}[]) => void}
 */
export function alarmList(place) {
  let shown = "";
  return (alarms) => {
    const key = JSON.stringify(alarms);
    if (key === shown) return;
    shown = key;
    place.replaceChildren(
      ...alarms.map((alarm) =>
        h(
          "p",
          { class: "alarm", "data-alarm": alarm.name, "data-severity": alarm.severity },
          h("strong", {}, alarm.severity === "critical" || alarm.severity === "error" ? "Alarm" : "Warning"),
          h("span", {}, alarm.text),
          h("time", {}, `since ${clock(alarm.since_utc)}`),
        ),
      ),
    );
  };
}
