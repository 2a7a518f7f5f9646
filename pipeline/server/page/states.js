// The states of a run, as the service names them and as people say them.

/** Its processes are at work. */
const GOING = new Set(["arming", "running", "paused", "draining"]);

/** @param {string | undefined} state */
export function isGoing(state) {
  return GOING.has(state ?? "");
}

/** @type {Record<string, string>} */
const WORDS = { none: "no run", arming: "getting ready", draining: "finishing" };

/** @param {string} state */
export function sayState(state) {
  return WORDS[state] ?? state;
}

/** State of what the service shows; "none" where that is nothing. @param {any} run */
export function stateOf(run) {
  if (!run) return "none";
  // Its processes are there and have not said anything yet.
  return run.state === "idle" ? "arming" : run.state;
}
