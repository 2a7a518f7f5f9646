"""Does the light that was measured agree with the image that was made of it?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pipeline.calibration import Calibration
from pipeline.experiment import Experiment
from pipeline.frames import Measurement
from pipeline.optics.forward import diffraction_spread_um, intensity_samples, predict_frames
from pipeline.optics.illumination import channel_source
from pipeline.optics.residual import residual
from pipeline.optics.sensor import Corrected

# Complex samples that predicting one slot may cost, waves times image samples: about half a
# second of one CPU core, or a few hundredths on a GPU.
_BUDGET = {"cpu": 1 << 24, "cuda": 1 << 28}
# A window is at least so many times as wide as the border that is left out of it: half counts.
_LEAST_BORDERS = 4
_STEP = 16


@dataclass(frozen=True)
class _Window:
    """A part of the field in camera pixels."""

    y: slice
    x: slice

    def upsampled(self, s: int) -> tuple[slice, slice]:
        """The same part of an image that is s times finer."""
        return (
            slice(s * self.y.start, s * self.y.stop),
            slice(s * self.x.start, s * self.x.stop),
        )


class ResidualCheck:
    """Reduced χ² of predicted against measured counts of one slot's measurement.

    The image's phase, and its absorption where the method yields one, go through the forward model
    to the frames that they should have made. Abbe summation costs a Fourier transform for each LED
    or condenser point, often far more than the reconstruction: where the whole field would cost too
    much, a window in its middle is predicted.
    """

    def __init__(
        self,
        experiment: Experiment,
        calibration: Calibration,
        measurement: Measurement,
        device: str,
    ) -> None:
        self._calibration = calibration
        self._measurement = measurement
        self._window = _window(experiment, calibration, measurement, device)
        shape = (
            self._window.y.stop - self._window.y.start,
            self._window.x.stop - self._window.x.start,
        )
        # The forward model knows only whole cameras: the window becomes one.
        microscope = experiment.microscope
        camera = microscope.camera.model_copy(update={"shape_px": shape})
        self._experiment = experiment.model_copy(
            update={"microscope": microscope.model_copy(update={"camera": camera})}
        )
        outputs = measurement.outputs
        self._phase = outputs.index("phase")
        self._absorption = outputs.index("absorption") if "absorption" in outputs else None

    def __call__(self, measured: Corrected, images: torch.Tensor) -> float:
        """Reduced χ²: 1 is the camera's noise alone; NaN where no pixel can be compared.

        Parameters
        ----------
        measured
            ``[K, Y, X]`` frames of the measurement.
        images
            ``[C, s·Y, s·X]`` of the method: ``phase`` in radians, ``absorption`` the μ of exp(-μ).
        """
        w, frames = self._window, self._measurement.frames
        part = images[(slice(None), *w.upsampled(self._measurement.upsampling))]
        lost = None if self._absorption is None else 1 - torch.exp(-part[self._absorption])
        predicted = predict_frames(
            part[self._phase], lost, self._experiment, self._calibration, frames
        )
        chi_squared = residual(
            measured.frames[None, :, w.y, w.x],
            measured.valid[None, :, w.y, w.x],
            predicted[None],
            self._experiment,
            self._calibration,
            indices=frames,
            level=_part(measured.level, w),
        )
        return float(chi_squared[0])


def _part(level: torch.Tensor, window: _Window) -> torch.Tensor:
    """The window of levels that may be one number a frame."""
    return level if level.shape[-2:] == (1, 1) else level[:, window.y, window.x]


def _window(
    experiment: Experiment, calibration: Calibration, measurement: Measurement, device: str
) -> _Window:
    """The whole field, or as much of its middle as may be predicted."""
    plan = experiment.plan()
    pixel_um = calibration.pixel_um or experiment.pixel_um
    foci = len(plan.foci_um)
    waves = sum(
        len(channel_source(experiment, plan.channels[k // foci].name).weights)
        for k in measurement.frames
    )
    samples = intensity_samples(pixel_um, experiment.optics)
    most_pixels = _BUDGET[torch.device(device).type] / (waves * samples**2)
    z_um = max(abs(plan.foci_um[k % foci]) for k in measurement.frames)
    border = math.ceil(diffraction_spread_um(experiment.optics, z_um) / pixel_um)
    side = max(math.isqrt(int(most_pixels)), _LEAST_BORDERS * border, _STEP) // _STEP * _STEP
    height, width = plan.frame_shape
    if height * width <= most_pixels:
        side = max(height, width)
    y, x = min(side, height), min(side, width)
    top, left = (height - y) // 2, (width - x) // 2
    return _Window(slice(top, top + y), slice(left, left + x))
