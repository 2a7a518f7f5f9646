"""The demonstration: an experiment on simulated living cells, one for each method that can show itself."""

from __future__ import annotations

from datetime import datetime
from importlib.resources import files
from pathlib import Path

import yaml

from pipeline.errors import ExperimentError, RunFolderError
from pipeline.experiment import Experiment, nearest, parse_experiment
from pipeline.lifecycle.run import RunResult, run_experiment


def demo_experiment(method: str = "dl_srqpi", timepoints: int | None = None) -> Experiment:
    """The demonstration's experiment for a method.

    Raises
    ------
    ExperimentError
        If there is no demonstration of that method.
    """
    demos = {
        p.name.removesuffix(".yaml"): p
        for p in files("pipeline.demos").iterdir()
        if p.name.endswith(".yaml")
    }
    if method not in demos:
        raise ExperimentError(
            f"there is no demonstration of the method '{method}'", nearest(method, demos)
        )
    data = yaml.safe_load(demos[method].read_text(encoding="utf-8"))
    if timepoints is not None:
        data["sequence"]["timepoints"] = timepoints
    return parse_experiment(data, f"the demonstration of {method}")


def run_demo(
    method: str = "dl_srqpi",
    out: Path | None = None,
    timepoints: int | None = None,
    *,
    started_utc: float | None = None,
) -> RunResult:
    """Run a demonstration into `out`, or into a new folder under ``runs``; see `run_experiment`."""
    experiment = demo_experiment(method, timepoints)
    if out is None:
        runs = Path("runs")
        try:
            runs.mkdir(exist_ok=True)
        except OSError as error:
            raise RunFolderError(
                f"the folder {runs.absolute()} can't be made ({error.strerror})",
                "give a folder with --out, or start where you may write",
            ) from error
        out = runs / f"demo-{method}-{datetime.now():%Y%m%d-%H%M%S}"
    return run_experiment(experiment, out, started_utc=started_utc)
