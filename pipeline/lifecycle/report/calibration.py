"""The report's part on the instrument: what was known of it, how well, since when, and what was not."""

from __future__ import annotations

import math
import time
from html import escape
from typing import Any

from pipeline.calibration import Calibration
from pipeline.experiment import Experiment
from pipeline.instrument import Aspect, check_fit, missing_aspects, overview


def calibration_report(
    experiment: Experiment, calibration: Calibration, when_utc: float | None
) -> dict[str, Any]:
    """The key ``calibration`` of `report.json`; ages count back from `when_utc`, the run's beginning."""
    when = time.time() if when_utc is None else when_utc
    aspects = [
        {**aspect.as_dict(), "age": aspect.age(when)} | _figures(calibration, aspect)
        for aspect in overview(calibration)
    ]
    return {
        "source": calibration.source,
        "exposures": "calibrated" if _balanced(experiment, calibration) else "experiment",
        "aspects": aspects,
        "missing": missing_aspects(experiment, calibration),
        "warnings": check_fit(experiment, calibration, when),
    }


def calibration_line(report: dict[str, Any]) -> str:
    """The same in one line, for the terminal."""
    known = [a["name"] for a in report["aspects"]]
    missing = report["missing"]
    parts = []
    if known:
        source = f" ({report['source']})" if report["source"] != "none" else ""
        parts.append(f"{len(known)} aspects known{source}")
    if missing:
        parts.append(f"not calibrated: {', '.join(missing)}")
    return "; ".join(parts)


def calibration_html(report: dict[str, Any]) -> str:
    """The section of the page."""
    rows = [
        f"<tr><th>{escape(a['name'])}</th><td>{escape(a['text'])}</td>"
        f'<td class="note">{escape(a["age"])}</td></tr>'
        for a in report["aspects"]
    ]
    parts = [f'<p class="note">source: {escape(report["source"])}']
    if report["exposures"] == "calibrated":
        parts.append("; exposures as calibrated")
    parts.append("</p>")
    if rows:
        parts.append(f'<div class="scroll"><table>{"".join(rows)}</table></div>')
    if report["missing"]:
        parts.append(f'<p class="bad">not calibrated: {escape(", ".join(report["missing"]))}</p>')
    heard = [f"{a['name']}: {w}" for a in report["aspects"] for w in a["warnings"]]
    # A step of several aspects warns once.
    parts += [f"<p>{escape(w)}</p>" for w in dict.fromkeys([*report["warnings"], *heard])]
    return "".join(parts)


def _figures(calibration: Calibration, aspect: Aspect) -> dict[str, Any]:
    """What the step measured, as it left it."""
    figures = calibration.steps.get(aspect.step, {}).get("figures")
    return {"figures": figures} if figures else {}


def _balanced(experiment: Experiment, calibration: Calibration) -> bool:
    """Whether every channel that was taken had its calibrated exposure."""
    balanced = calibration.balanced_exposure_ms
    return all(
        c.name in balanced and math.isclose(c.exposure_ms, balanced[c.name])
        for c in experiment.plan().channels
    )
