"""What tests share."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from lamp_log import LampLog

from pipeline.cli import main
from pipeline.experiment import Experiment, parse_experiment

# Tests side by side have a core each. Threads of the same sum wait for each other, busily, while another test has the
# core of one of them. Read when torch is loaded, here and in all processes that tests start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

_DEMO = yaml.safe_load((files("pipeline.demos") / "dl_srqpi.yaml").read_text(encoding="utf-8"))


def merged(data: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A deep copy of `data` with nested `changes` laid over it."""
    out = copy.deepcopy(data)
    for key, value in changes.items():
        out[key] = (
            merged(out[key], value)
            if isinstance(value, dict) and isinstance(out.get(key), dict)
            else value
        )
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


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int | str | None, str, str]]:
    """The command in this process: exit status, stdout, stderr. Loading torch in one of its own takes a second."""

    def call(*args: object) -> tuple[int | str | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["livephase", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return call


@pytest.fixture
def lamp(tmp_path: Path) -> LampLog:
    """What the simulated lamp writes down."""
    return LampLog(tmp_path / "lamp.jsonl")


def _may_skip_in_ci(reason: str) -> bool:
    """A GPU is not everywhere, and real measurements are not ours to give away."""
    no_data = not os.environ.get("LIVEPHASE_DATA")
    return "GPU" in reason or "CUDA" in reason or (no_data and "LIVEPHASE_DATA" in reason)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """With CI=true a skipped test is a failure: a missing tool must not look like a passed test."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("CI") == "true" and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if not _may_skip_in_ci(reason):
            report.outcome = "failed"
            report.longrepr = f"skipped, which CI does not accept: {reason}"
