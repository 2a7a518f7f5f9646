"""What tests share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest
import yaml

from pipeline.experiment import Experiment, parse_experiment

_DEMO = yaml.safe_load((files("pipeline.demos") / "dl_srqpi.yaml").read_text(encoding="utf-8"))


def merged(data: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A deep copy of `data` with nested `changes` laid over it."""
    out = copy.deepcopy(data)
    for key, value in changes.items():
        out[key] = merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


@pytest.fixture
def demo_data() -> dict[str, Any]:
    """The demonstration's experiment as a mapping; the test's own copy."""
    return copy.deepcopy(_DEMO)


@pytest.fixture
def make_experiment() -> Callable[..., Experiment]:
    """The demonstration's experiment with nested changes."""

    def make(**changes: Any) -> Experiment:
        return parse_experiment(merged(_DEMO, changes))

    return make
