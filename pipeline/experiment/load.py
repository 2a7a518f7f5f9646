"""Experiment files: YAML in, a model out, errors in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.errors import ExperimentError
from pipeline.experiment.model import Experiment
from pipeline.experiment.problems import Problem, problems_of


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
        first, *others = problems_of(error)
        more = f" (and {len(others)} more)" if others else ""
        raise ExperimentError(f"{origin}: {first}{more}") from error


def load_experiment(path: Path) -> Experiment:
    """Read an experiment file.

    Paths inside the file (replay source, calibration folder, weights) are relative to it
    and come back absolute.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(
            f"can't read the experiment {path} ({error})", "give the path of a YAML file"
        ) from error
    return read_experiment(text, path.resolve().parent, str(path))


def read_experiment(text: str, folder: Path, origin: str = "the experiment") -> Experiment:
    """Read an experiment out of YAML, as `load_experiment` does out of a file in `folder`."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ExperimentError(
            f"{origin} is not YAML: {' '.join(str(error).split())}", "correct the file"
        ) from error
    return parse_experiment(_resolve(data, folder), origin)


def experiment_problems(text: str, folder: Path) -> list[Problem]:
    """Everything that is wrong with an experiment's YAML, key by key; empty where nothing is."""
    try:
        read_experiment(text, folder)
    except ExperimentError as error:
        if isinstance(error.__cause__, ValidationError):
            return problems_of(error.__cause__)
        mark = getattr(error.__cause__, "problem_mark", None)
        return [Problem("", str(error), line=None if mark is None else mark.line + 1)]
    return []


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
