"""A calibration folder in words: what is known, since when, what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.calibrate.history import CalibrationFolder
from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment
from pipeline.instrument import apply_exposures, check_fit, missing_aspects, overview


def show(path: Path, experiment: Experiment | None = None) -> dict[str, Any]:
    """What a calibration folder knows, as JSON has it.

    Parameters
    ----------
    experiment
        Says what is missing for it, and what to mind; without one, what any experiment could want.

    Raises
    ------
    ExperimentError
        If there is no calibration, or none that fits the experiment.
    """
    folder = CalibrationFolder(path)
    if not folder.exists():
        raise ExperimentError(
            f"{path} holds no calibration", "make one with `livephase calibrate EXPERIMENT.yaml`"
        )
    known = folder.load()
    if experiment is not None and experiment.calibration.exposures == "calibrated":
        experiment = apply_exposures(experiment, known)
    return {
        "folder": str(path),
        "source": known.source,
        "aspects": [a.as_dict() | {"age": a.age()} for a in overview(known)],
        "missing": known.missing() if experiment is None else missing_aspects(experiment, known),
        "warnings": [] if experiment is None else check_fit(experiment, known),
        "versions": folder.versions(),
    }


def shown_text(shown: dict[str, Any]) -> str:
    """For a person."""
    lines = [f"{shown['folder']}: {shown['source']}"]
    aspects = shown["aspects"]
    name_width = max((len(a["name"]) for a in aspects), default=0)
    age_width = max((len(a["age"]) for a in aspects), default=0)
    heard: dict[str, None] = {}
    for a in aspects:
        lines.append(f"  {a['name']:<{name_width}}  {a['age']:<{age_width}}  {a['text']}")
        heard |= dict.fromkeys(f"{a['step']}: {w}" for w in a["warnings"])
    lines += [f"  warning: {w}" for w in (*heard, *shown["warnings"])]
    if shown["missing"]:
        lines.append(f"  not calibrated: {', '.join(shown['missing'])}")
    if shown["versions"]:
        lines.append(f"  before: {', '.join(shown['versions'])}")
    return "\n".join(lines)
