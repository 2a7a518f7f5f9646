"""The report that a person reads: one HTML file with its pictures inside, no script, no network."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.experiment import Experiment
from pipeline.frames import SlotKey
from pipeline.lifecycle.report_calibration import calibration_html
from pipeline.lifecycle.report_control import control_html
from pipeline.lifecycle.report_light import light_html
from pipeline.lifecycle.report_trust import trust_rows
from pipeline.lifecycle.spread import spread_slots
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunFolder

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 66rem; padding: 0 1rem; color: #1b1f24 }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .25rem .9rem .25rem 0; text-align: left; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums } img { max-width: 100% }
.bad { color: #b3261e; font-weight: 600 } .note { color: #5b6470 }
"""
# Enough to see the cells change, few enough to take in.
_PICTURES = 4
_LARGE_FIELD_PX = 512


def report_page(
    folder: RunFolder, experiment: Experiment, reader: RunReader, report: dict[str, Any]
) -> str:
    """The whole page."""
    state = report["state"]
    parts = [
        f"<h1>{escape(experiment.name)}</h1>",
        f'<p class="note">{escape(str(folder.path))} · method {escape(report["method"])} · '
        f"{'' if state == 'done' else '<span class=bad>'}{state}{'' if state == 'done' else '</span>'}</p>",
        _frames_table(report),
    ]
    phase = _phase_picture(experiment, reader)
    if phase:
        parts += ["<h2>Phase</h2>", phase]
    if report["reconstructed"]:
        parts += [
            "<h2>Reconstruction</h2>",
            _reconstruction_table(report),
            _latency_picture(reader),
        ]
    parts += ["<h2>Trust</h2>", _trust(report)]
    parts += ["<h2>Light</h2>", light_html(report)]
    if steered := control_html(folder, report):
        parts += ["<h2>Control</h2>", steered]
    parts += ["<h2>Calibration</h2>", calibration_html(report["calibration"])]
    parts += ["<h2>Sessions</h2>", _sessions(report)]
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(experiment.name)}</title>'
        f"<style>{_STYLE}</style><body>{body}</body></html>\n"
    )


def figure(value: float | None, form: str, unit: str = "") -> str:
    """A number with its unit; a dash where there is none."""
    return "-" if value is None else f"{value:{form}}{unit}"


def _table(rows: list[tuple[str, str]]) -> str:
    cells = "".join(f'<tr><th>{escape(k)}</th><td class="n">{v}</td></tr>' for k, v in rows)
    return f"<table>{cells}</table>"


def _frames_table(report: dict[str, Any]) -> str:
    missing = report["missing"]
    rows = [(k, str(report[k])) for k in ("planned", "acquired", "written")]
    reasons = ", ".join(f"{escape(k)} {v}" for k, v in report["missing_by_reason"].items() if v)
    rows.append(("missing", f'<span class="bad">{missing}</span> ({reasons})' if missing else "0"))
    if report["reacquired"]:
        rows.append(("taken again after an interruption", str(report["reacquired"])))
    if report["fps"]:
        rows.append(("frames a second", f"{report['fps']:.4g}"))
    return _table(rows)


def _reconstruction_table(report: dict[str, Any]) -> str:
    latency, seconds = report["latency_ms"], report["stages"]["reconstruct_s"]
    rows = [
        ("phase images", str(report["reconstructed"])),
        ("first result after the start", _number(report["first_result_s"], "s")),
        ("computing, median", _number(seconds["p50"], "s")),
        ("last frame to phase, median", _number(latency["p50"], "ms")),
        ("last frame to phase, 99 %", _number(latency["p99"], "ms")),
    ]
    return _table(rows)


def _trust(report: dict[str, Any]) -> str:
    rows = trust_rows(report)
    quality = report.get("quality")
    if quality:
        rows += [
            ("SSIM against the simulator's truth", figure(quality["ssim"], ".4f")),
            ("PSNR", figure(quality["psnr_db"], ".2f", " dB")),
            ("RMSE", figure(quality["rmse_rad"], ".4f", " rad")),
            ("phase images compared", str(quality["images"])),
        ]
    return _table(rows)


def _sessions(report: dict[str, Any]) -> str:
    rows = []
    for i, session in enumerate(report["stages"]["sessions"], 1):
        restarts = ", ".join(f"{escape(k)} restarted {v}x" for k, v in session["restarts"].items())
        error = f' <span class="bad">{escape(session["error"])}</span>' if session["error"] else ""
        rows.append(
            (
                f"session {i}",
                f"{session['state']}, {_number(session['seconds'], 's')} {restarts}{error}",
            )
        )
    return _table(rows)


def _phase_picture(experiment: Experiment, reader: RunReader) -> str:
    done = reader.reconstructed()
    if not done.any():
        return ""
    # One place over time; every place would be a wall of pictures.
    here = np.zeros_like(done)
    place = int(np.argmax(done.any(axis=0)))
    here[:, place] = done[:, place]
    chosen = spread_slots(here, most=_PICTURES)
    images = [reader.phase(key)[0] for key in chosen]
    # One scale for all, so that brighter means thicker from picture to picture.
    low, high = (
        float(np.quantile(np.concatenate([i.ravel()[::7] for i in images]), q))
        for q in (0.005, 0.998)
    )
    low = min(low, 0.0)
    columns = len(chosen) + 1
    # A cell is a few dozen pixels of a large field: its middle is shown again, enlarged.
    parts = [_whole, _middle] if min(images[0].shape) >= _LARGE_FIELD_PX else [_whole]
    figure = Figure(figsize=(3.1 * columns + 0.7, 3.3 * len(parts)), layout="constrained")
    axes = figure.subplots(len(parts), columns, squeeze=False)
    frame = reader.raw(chosen[0])[0][0]
    for row, part in zip(axes, parts, strict=True):
        row[0].imshow(part(frame), cmap="gray")
        for axis, image in zip(row[1:], images, strict=True):
            shown = axis.imshow(_reduced(part(image)), cmap="magma", vmin=low, vmax=high)
    axes[0, 0].set_title(f"camera frame, {_when(experiment, chosen[0])}")
    for axis, key in zip(axes[0, 1:], chosen, strict=True):
        axis.set_title(f"phase, {_when(experiment, key)}")
    for row in axes[1:]:
        row[0].set_title("the middle, enlarged", fontsize="medium")
    figure.colorbar(shown, ax=axes[:, -1], label="phase / rad", shrink=0.8)
    for axis in axes.flat:
        axis.set_axis_off()
    return _embedded(figure, "a camera frame and phase images over time")


def _latency_picture(reader: RunReader) -> str:
    latency_s = reader.phase_records.last("latency_s")
    shown = reader.reconstructed() & np.isfinite(latency_s)
    if shown.sum() < 2:
        return ""
    figure = Figure(figsize=(8, 2.2), layout="constrained")
    axis = figure.subplots()
    axis.plot(np.nonzero(shown)[0] + 1, latency_s[shown] * 1e3, ".", ms=3)
    axis.set_xlabel("timepoint")
    axis.set_ylabel("last frame to phase / ms")
    axis.set_ylim(bottom=0)
    return _embedded(figure, "latency over time")


def _when(experiment: Experiment, key: SlotKey) -> str:
    place = (
        f", {experiment.plan().positions[key.position].name}"
        if len(experiment.plan().positions) > 1
        else ""
    )
    return f"timepoint {key.timepoint + 1}{place}"


def _whole(image: NDArray[Any]) -> NDArray[Any]:
    return image


def _middle(image: NDArray[Any]) -> NDArray[Any]:
    """The middle quarter of the field along each axis."""
    y, x = (n * 3 // 8 for n in image.shape)
    return image[y : image.shape[0] - y, x : image.shape[1] - x]


def _reduced(image: NDArray[np.float32], most: int = 700) -> NDArray[np.float32]:
    """Every n-th pixel, so that a page of large images stays small."""
    step = max(1, -(-max(image.shape) // most))
    return image[::step, ::step]


def _embedded(figure: Figure, text: str) -> str:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<p><img alt="{escape(text)}" src="data:image/png;base64,{data}"></p>'


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.4g} {unit}".strip()
