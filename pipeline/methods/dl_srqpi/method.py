"""The entry point: which frame is used, whether the experiment's optics fit, and loading."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError, MethodError
from pipeline.experiment import Condenser, Experiment
from pipeline.frames import Measurement
from pipeline.methods.dl_srqpi.fit import (
    default_weights,
    nearest_focus,
    remedy,
    true_conditions,
    why_unfit,
)
from pipeline.methods.dl_srqpi.header import read_record
from pipeline.methods.dl_srqpi.settings import DlSrqpiSettings
from pipeline.methods.settings import read_settings
from pipeline.methods.weights_file import sha256

if TYPE_CHECKING:
    from pipeline.methods.contract import Reconstructor


class DlSrqpi:
    """One defocused frame in, unwrapped phase on a four times finer grid out."""

    name = "dl_srqpi"

    def measurement(self, experiment: Experiment) -> Measurement:
        """The first channel's frame at the focus nearest to the weights' own."""
        read_settings(DlSrqpiSettings, experiment)
        check_light(experiment)
        try:
            path = _weights_path(experiment, None)
            record = read_record(path)
        except MethodError as error:
            raise ExperimentError(error.cause, error.fix) from error
        focus = nearest_focus(experiment, record)
        # The calibration is not known here: where there is one, it may still move z and the
        # pixel a little, and `load` checks again with it.
        calibrated = experiment.calibration.source != "none"
        conditions = true_conditions(experiment, None, focus)
        reason = why_unfit(record, conditions, coarse=calibrated)
        if reason:
            raise ExperimentError(
                f"the weights {path.name} don't fit this experiment: {reason}",
                remedy(record, conditions),
            )
        return Measurement(
            frames=(focus,),
            upsampling=record.network.upsampling,
            accepts_aliasing=True,
            weights_sha256=sha256(path),
        )

    def load(
        self, experiment: Experiment, calibration: Calibration, device: str, weights: Path | None
    ) -> Reconstructor:
        """Build the network, put the weights in, fold the conditions. Raises `MethodError`."""
        from pipeline.methods.dl_srqpi.inference import DlSrqpiReconstructor  # noqa: PLC0415 - torch

        path = _weights_path(experiment, weights)
        record = read_record(path)
        conditions = true_conditions(experiment, calibration, nearest_focus(experiment, record))
        reason = why_unfit(record, conditions)
        if reason:
            raise MethodError(
                f"the weights {path.name} don't fit this experiment: {reason}",
                remedy(record, conditions),
            )
        settings = read_settings(DlSrqpiSettings, experiment)
        return DlSrqpiReconstructor.load(
            path, conditions, device, settings.precision, settings.memory_mb
        )


def check_light(experiment: Experiment) -> None:
    """Refuse light and foci from which one frame tells no phase.

    Raises
    ------
    ExperimentError
        For an LED array (its patterns aren't a condenser's disc), and where every focus is 0.
    """
    light = experiment.illumination
    if not isinstance(light, Condenser):
        raise ExperimentError(
            "dl_srqpi needs on-axis light from a condenser, this experiment has an LED array",
            "use `illumination: {source: condenser}`, or `method: dpc` with half-circle patterns",
        )
    if all(z == 0 for z in experiment.sequence.foci_um):
        raise ExperimentError(
            "dl_srqpi needs a defocused frame, but sequence.foci_um is only 0: phase in focus is "
            "invisible",
            "set foci_um to the defocus of the weights, [4.0] for those that come with livephase",
        )


def _weights_path(experiment: Experiment, weights: Path | None) -> Path:
    if weights is not None:
        return weights
    if experiment.reconstruction.weights is not None:
        return Path(experiment.reconstruction.weights)
    return default_weights(experiment)
