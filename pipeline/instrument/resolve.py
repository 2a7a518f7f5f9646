"""From what an experiment says of its calibration to the calibration, and to the exposures it asks for."""

from __future__ import annotations

from pathlib import Path

from drivers.registry import open_driver
from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment, parse_experiment


def resolve_calibration(experiment: Experiment) -> Calibration:
    """The calibration that the experiment names; an empty one where it names none.

    Raises
    ------
    ExperimentError
        If the folder that it names holds no readable calibration.
    """
    source = experiment.calibration
    if source.source == "folder":
        assert source.folder is not None
        return Calibration.load(Path(source.folder))
    if source.source == "simulator":
        return open_driver(experiment).known_calibration() or Calibration()
    return Calibration()


def resolve_exposures(experiment: Experiment) -> Experiment:
    """The experiment with the exposures that ``calibration.exposures: calibrated`` asks for put into its channels.

    What comes back asks for nothing any more (``exposures: experiment``): it is what a run folder keeps, so
    a run goes on with the exposures that it was begun with whatever is calibrated meanwhile. To be
    done before a plan is made or fingerprints are compared; done again, it changes nothing.

    Raises
    ------
    ExperimentError
        If the calibration is not there, or has no exposure for a channel that is taken.
    """
    source = experiment.calibration
    if source.exposures != "calibrated":
        return experiment
    calibration = resolve_calibration(experiment)
    lacking = [n for n in experiment.channel_names if n not in calibration.balanced_exposure_ms]
    if lacking:
        raise ExperimentError(
            f"calibration.exposures is calibrated, but {source.folder} has no exposure for channel '{lacking[0]}'",
            "run `livephase calibrate` with the step exposure for this experiment, or set "
            "calibration.exposures: experiment",
        )
    return apply_exposures(experiment, calibration)


def apply_exposures(experiment: Experiment, calibration: Calibration) -> Experiment:
    """The experiment with the calibration's balanced exposures, where it has them, as its own."""
    data = experiment.model_dump(mode="json")
    for name, exposure_ms in calibration.balanced_exposure_ms.items():
        channel = data["illumination"]["channels"].get(name)
        if channel is not None:
            channel["exposure_ms"] = exposure_ms
    data["calibration"]["exposures"] = "experiment"
    return parse_experiment(data, "the experiment with its calibrated exposures")
