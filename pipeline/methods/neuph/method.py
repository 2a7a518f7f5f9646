"""The entry point: which frames are used, whether the experiment's light fits, and loading."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError, MethodError
from pipeline.experiment import Experiment
from pipeline.frames import Measurement
from pipeline.methods.neuph.fit import led_light, matching_frames, read_record, weights_path
from pipeline.methods.neuph.settings import NeuPhSettings
from pipeline.methods.settings import read_settings
from pipeline.methods.weights_file import sha256

if TYPE_CHECKING:
    from pipeline.methods.contract import Reconstructor


class NeuPhMethod:
    """Multiplexed LED frames, brightfield and darkfield, to phase on any grid."""

    name = "neuph"

    def measurement(self, experiment: Experiment) -> Measurement:
        """The frames whose patterns the weights were trained for, in the weights' order."""
        settings = read_settings(NeuPhSettings, experiment)
        led_light(experiment)
        try:
            path = weights_path(experiment, None)
            record = read_record(path)
        except MethodError as error:
            raise ExperimentError(error.cause, error.fix) from error
        return Measurement(
            tuple(matching_frames(experiment, None, record.light)),
            upsampling=settings.upsampling or record.training.upsampling,
            accepts_aliasing=True,
            weights_sha256=sha256(path),
        )

    def load(
        self, experiment: Experiment, calibration: Calibration, device: str, weights: Path | None
    ) -> Reconstructor:
        """Build the network, put the weights in, fold the decoder. Raises `MethodError`."""
        from pipeline.methods.neuph.reconstructor import NeuPhReconstructor  # noqa: PLC0415 - torch

        path = weights_path(experiment, weights)
        record = read_record(path)
        try:
            frames = matching_frames(experiment, calibration, record.light)
        except ExperimentError as error:
            raise MethodError(f"{path.name}: {error.cause}", error.fix) from error
        settings = read_settings(NeuPhSettings, experiment)
        return NeuPhReconstructor.load(path, experiment, calibration, settings, frames, device)
