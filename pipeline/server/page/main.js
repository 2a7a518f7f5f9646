// The page of the service: puts its parts together.

import { get } from "./api.js";
import { adjustForms } from "./adjust.js";
import { connectionBanner, messageBanner, resumeBanner } from "./banners.js";
import { controlButtons } from "./controls.js";
import { Editor } from "./editor.js";
import { byId, setText } from "./element.js";
import { alarmList, EventLog } from "./events.js";
import { startKeys } from "./keys.js";
import { Live } from "./live.js";
import { startPlots } from "./plots.js";
import { resumeRun, runList } from "./runs.js";
import { sayState, stateOf } from "./states.js";
import { statusPanel } from "./status.js";
import { startTabs } from "./tabs.js";
import { Viewer } from "./viewer.js";

const RUNS_EVERY_MS = 5000;

const say = messageBanner();
const events = new EventLog(byId("events"));
const showAlarms = alarmList(byId("alarms"));
const showStatus = statusPanel(byId("status"));
const showAdjust = adjustForms(byId("adjust-body"), say);
const connection = connectionBanner(() => live.connect());
const offerResume = resumeBanner((name) => resume(name));

/** @type {any} */
let newest = null;
let connected = false;
let version = "";
let uptimeS = 0;

const live = new Live({
  onStatus,
  onEvent: (event) => events.add(event),
  onPicture: (picture) => viewer.onPicture(picture),
  onConnection,
});
const viewer = new Viewer(byId("panes"), byId("time-bar"), (wanted) => live.want(wanted));
const editor = new Editor(byId("editor"), {
  say,
  started: () => {
    show("live");
    viewer.goLive();
  },
  refused: () => (newest?.service?.state === "idle" ? "" : `The service is busy${newest?.service?.doing ? ` (${newest.service.doing})` : ""}: a run has to be stopped first.`),
});
const controls = controlButtons(byId("controls"), {
  say,
  start: () => {
    show("experiment");
    byId("yaml").focus();
  },
});
const refreshRuns = runList(byId("runs"), {
  look: (name) => {
    show("live");
    viewer.open(name);
  },
  resume: (name) => resume(name),
});
const show = startTabs((name) => {
  if (name === "experiment") editor.load(newest?.service?.methods ?? []);
  if (name === "runs") refreshRuns().catch(() => undefined);
});
startPlots(byId("plots"));
startKeys([
  { key: "L", say: "show the newest image as it comes", does: () => viewer.goLive() },
  { key: ",", say: "earlier timepoint", does: () => viewer.step(-1) },
  { key: ".", say: "later timepoint", does: () => viewer.step(1) },
  { key: "C", say: "next channel of the camera", does: () => viewer.nextChannel() },
  { key: "A", say: "automatic contrast", does: () => viewer.autoContrast() },
  { key: "P", say: "pause or resume the run (asks first)", does: () => controls.press(controls.paused ? "resume" : "pause") },
  { key: "S", say: "snapshot (asks first)", does: () => controls.press("snapshot") },
  { key: "1", say: "live images", does: () => show("live", true) },
  { key: "2", say: "experiment", does: () => show("experiment", true) },
  { key: "3", say: "runs", does: () => show("runs", true) },
  { key: "?", say: "this help", does: () => undefined },
]);
setInterval(() => {
  if (connected && document.body.dataset.tab === "runs" && !document.hidden) refreshRuns().catch(() => undefined);
}, RUNS_EVERY_MS);
live.connect();

/** @param {any} status */
function onStatus(status) {
  // A newer service brings a newer page.
  if (version && status.service.version !== version) location.reload();
  version = status.service.version;
  if (status.service.uptime_s < uptimeS) events.restart();
  uptimeS = status.service.uptime_s;
  newest = status;
  const { run } = status;
  const state = stateOf(run);
  if (run) run.state = state;
  document.body.dataset.state = state;
  const pill = byId("run-state");
  pill.dataset.state = state;
  setText(pill, sayState(state));
  setText(byId("run-name"), run?.name ?? "");
  byId("run-name").title = run?.name ?? "";
  setText(byId("run-about"), run ? [run.experiment === run.name ? "" : run.experiment, run.method].filter(Boolean).join(" · ") : status.service.doing ?? "");
  document.title = run ? `${sayState(state)} – ${run.name} – livephase` : "livephase";
  showStatus(run);
  showAdjust(run);
  showAlarms(run?.alarms ?? []);
  offerResume(run);
  controls.update(state, connected);
  viewer.follow(run);
}

/** @param {"open" | "lost"} state @param {number} waitS */
async function onConnection(state, waitS) {
  connected = state === "open";
  document.body.dataset.connection = state;
  controls.update(stateOf(newest?.run), connected);
  if (connected) {
    connection.open();
    return;
  }
  connection.lost(waitS);
  try {
    await get("/api/status");
  } catch (error) {
    const { status, reason, fix } = /** @type {any} */ (error);
    if (status === 401) connection.lockedOut(reason, fix);
  }
}

/** @param {string} name */
async function resume(name) {
  if (await resumeRun(name, say)) {
    show("live");
    viewer.goLive();
  }
}
