"""A recording with ground truth: the same run, unpaced and without reconstruction."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment
from pipeline.lifecycle.run import RunResult, run_experiment


def simulate(experiment: Experiment, out: Path) -> RunResult:
    """Record a simulated experiment with its truth in ``truth.ome.zarr``.

    Raises
    ------
    ExperimentError
        If the experiment's driver is not the simulator.
    """
    if experiment.microscope.driver != "simulator":
        raise ExperimentError(
            f"microscope.driver is {experiment.microscope.driver}: only the simulator can be simulated",
            "set microscope.driver: simulator",
        )
    microscope = experiment.microscope.model_copy(update={"paced": False})
    reconstruction = experiment.reconstruction.model_copy(update={"method": "none", "settings": {}})
    recording = experiment.model_copy(
        update={"microscope": microscope, "reconstruction": reconstruction}
    )
    return run_experiment(recording, out, write_truth=True)
