"""A recording with ground truth: the same run, unpaced and without reconstruction."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment
from pipeline.lifecycle.run import RunResult, run_experiment


def simulate(experiment: Experiment, out: Path, *, resume: bool = False) -> RunResult:
    """Record a simulated experiment with its truth in ``truth.ome.zarr``.

    Parameters
    ----------
    resume
        As of `run_experiment`.

    Raises
    ------
    ExperimentError
        If the experiment's driver is not the simulator.
    """
    return run_experiment(recording_of(experiment), out, resume=resume, write_truth=True)


def recording_of(experiment: Experiment) -> Experiment:
    """The experiment that is run for it. Raises as `simulate`."""
    if experiment.microscope.driver != "simulator":
        raise ExperimentError(
            f"microscope.driver is {experiment.microscope.driver}: only the simulator can be simulated",
            "set microscope.driver: simulator",
        )
    microscope = experiment.microscope.model_copy(update={"paced": False})
    reconstruction = experiment.reconstruction.model_copy(update={"method": "none", "settings": {}})
    return experiment.model_copy(
        update={"microscope": microscope, "reconstruction": reconstruction}
    )
