// Rate, latency, queue, residual and disk over time: drawn by plotly, only while they are seen.

import { get } from "./api.js";
import { h } from "./element.js";

const EVERY_MS = 2000;
const SHOWN_S = 900;

/** @type {{key: string, title: string, unit: string, scale: number}[]} */
const CURVES = [
  { key: "frames_per_s", title: "Rate", unit: "frames/s", scale: 1 },
  { key: "latency_s", title: "Latency", unit: "s", scale: 1 },
  { key: "queue", title: "Queue", unit: "timepoints", scale: 1 },
  { key: "residual", title: "Residual", unit: "χ²", scale: 1 },
  { key: "disk_free_bytes", title: "Disk free", unit: "GB", scale: 1e-9 },
];

/** @returns {Promise<any>} plotly, fetched when it is first needed: it is large */
function plotly() {
  const there = /** @type {any} */ (window).Plotly;
  if (there) return Promise.resolve(there);
  return new Promise((resolve, reject) => {
    const script = h("script", { src: "/static/plotly.min.js" });
    script.onload = () => resolve(/** @type {any} */ (window).Plotly);
    script.onerror = () => reject(new Error("plotly did not load"));
    document.head.append(script);
  });
}

/** @param {HTMLElement} place */
export function startPlots(place) {
  const charts = CURVES.map((curve) => {
    const chart = h("div", { class: "chart", id: `plot-${curve.key}` });
    place.append(h("figure", { class: "plot" }, h("figcaption", {}, curve.title, h("span", { class: "unit" }, ` ${curve.unit}`)), chart));
    return chart;
  });
  let seen = false;
  let busy = false;
  new IntersectionObserver(([entry]) => {
    seen = entry.isIntersecting;
    if (seen) update();
  }).observe(place);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", update);
  setInterval(update, EVERY_MS);

  async function update() {
    if (!seen || busy || document.hidden) return;
    busy = true;
    try {
      const [library, history] = await Promise.all([plotly(), get(`/api/history?seconds=${SHOWN_S}`)]);
      for (const [index, curve] of CURVES.entries()) draw(library, charts[index], curve, history);
      place.dataset.points = String(history.time_utc?.length ?? 0);
    } catch {
      // The connection's own banner says so; the curves go on when it is back.
    } finally {
      busy = false;
    }
  }
}

/** @param {any} library @param {HTMLElement} chart @param {typeof CURVES[0]} curve @param {any} history */
function draw(library, chart, curve, history) {
  const style = getComputedStyle(document.documentElement);
  const colour = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
  const axis = { color: colour("--quiet"), gridcolor: colour("--line"), zeroline: false, fixedrange: true, tickfont: { size: 10 } };
  const trace = {
    x: (history.time_utc ?? []).map((/** @type {number} */ s) => new Date(s * 1000)),
    y: (history[curve.key] ?? []).map((/** @type {number | null} */ v) => (v === null ? null : v * curve.scale)),
    mode: "lines",
    // Slow methods don't give a figure every second.
    connectgaps: true,
    line: { color: colour("--accent"), width: 1.5 },
    hovertemplate: "%{y:.3~g}<extra></extra>",
  };
  const layout = {
    margin: { l: 40, r: 8, t: 6, b: 20 },
    height: 104,
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    font: { family: style.fontFamily, color: colour("--quiet") },
    xaxis: { ...axis, type: "date", nticks: 3, tickformat: "%H:%M:%S", showgrid: false },
    yaxis: { ...axis, nticks: 4, rangemode: curve.key === "disk_free_bytes" ? "normal" : "tozero" },
    hovermode: "x",
    showlegend: false,
  };
  library.react(chart, [trace], layout, { displayModeBar: false, responsive: true });
}
