"""Experiment files: YAML in, a model out, errors in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.errors import ExperimentError
from pipeline.experiment.led_arrays import TAG
from pipeline.experiment.model import Experiment
from pipeline.experiment.strict import nearest


def parse_experiment(data: Any, origin: str = "the experiment") -> Experiment:
    """Check a mapping.

    Raises
    ------
    ExperimentError
        With the path of the offending key and the fix.
    """
    if not isinstance(data, dict):
        raise ExperimentError(
            f"{origin} is not a mapping of keys to values",
            "begin with `microscope:`; deploy/experiments has examples",
        )
    try:
        return Experiment.model_validate(data)
    except ValidationError as error:
        raise ExperimentError(f"{origin}: {_sentence(error)}") from error


def load_experiment(path: Path) -> Experiment:
    """Read an experiment file.

    Paths inside the file (replay source, calibration folder, weights) are relative to it
    and come back absolute.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(
            f"can't read the experiment {path} ({error})", "give the path of a YAML file"
        ) from error
    except yaml.YAMLError as error:
        raise ExperimentError(
            f"{path} is not YAML: {' '.join(str(error).split())}", "correct the file"
        ) from error
    return parse_experiment(_resolve(data, path.resolve().parent), str(path))


def dump_experiment(experiment: Experiment) -> str:
    """The resolved experiment as YAML."""
    return str(
        yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    )


def _resolve(data: Any, base: Path) -> Any:
    """Make paths that exist beside the file absolute; others (a data set's name) stay as they are."""
    if not isinstance(data, dict):
        return data
    out = dict(data)
    for section, key in (
        ("microscope", "source"),
        ("microscope", "config_file"),
        ("calibration", "folder"),
        ("reconstruction", "weights"),
    ):
        part = out.get(section)
        if isinstance(part, dict) and isinstance(part.get(key), str):
            candidate = base / part[key]
            # A calibration folder may be yet to come: `livephase calibrate` makes it.
            if section == "calibration" or candidate.exists():
                out[section] = {**part, key: str(candidate)}
    return out


def _sentence(error: ValidationError) -> str:
    """The first problem, and how many more there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
    # Union branches put the tag into the location ("microscope.simulator.camera"): the user wrote no such key.
    tags = {
        "simulator",
        "replay",
        "micromanager",
        "in_process",
        "pycromanager",
        "condenser",
        "led_array",
        "half_circle",
        "arc",
        "leds",
        "cells",
        "target",
    }
    parts = [str(part) for part in first["loc"] if part not in tags]
    where = ".".join(part for part in parts if not part.startswith(TAG))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "union_tag_invalid":
        known = [
            tag.strip("' ").removeprefix(TAG) for tag in first["ctx"]["expected_tags"].split(",")
        ]
        wrong = first["ctx"]["tag"].removeprefix(TAG)
        message = f"there is no '{wrong}' here: {nearest(wrong, known)}"
    if first["type"] == "union_tag_not_found":
        message = f"{message}: say which kind it is"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where}: {message}{more}" if where else f"{message}{more}"
