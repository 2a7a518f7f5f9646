"""Does the light that was measured agree with the image that was made of it?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.calibration import Calibration
from pipeline.experiment import Condenser, Experiment
from pipeline.frames import Measurement
from pipeline.optics.forward import (
    intensity_samples,
    spectrum_camera_intensity,
    thin_specimen,
)
from pipeline.optics.illumination import (
    Source,
    background_intensity,
    calibrated_source,
    condenser_source,
)
from pipeline.optics.residual import Agreement, agreement
from pipeline.optics.sensor import Corrected
from pipeline.optics.spread import diffraction_spread_um
from pipeline.optics.weak_absorption import absorption_contrast, absorption_transfer

# Complex samples that predicting one slot may cost, waves times image samples: a sixth of a second
# of one CPU core, or a few hundredths on a GPU.
_BUDGET = {"cpu": 1 << 22, "cuda": 1 << 28}
# A window is at least so many times as wide as the border that is left out of it: half counts.
_LEAST_BORDERS = 4
_STEP = 16
# One ring of plane waves instead of the forward model's three leaves 0.1 % of the contrast's energy up
# to this coherence and blur in camera pixels, two rings 0.3 % up to S = 0.4 and z = 13 µm.
_ONE_RING_COHERENCE, _ONE_RING_BLUR_PX = 0.21, 0.3
# Every so many pixels along each axis decide which window a frame is checked in.
_LOTS = 16


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


@dataclass(frozen=True)
class _Frame:
    """What predicting one frame of the measurement takes."""

    source: Source
    background: float
    z_um: float


class ResidualCheck:
    """Predicted against measured counts of one slot's measurement.

    The image's phase, and its absorption where the method yields one, go through the forward model
    to the frames that they should have made. Abbe summation costs a Fourier transform for each LED
    or condenser point, often more than the reconstruction: where the whole field would cost too
    much, one window is predicted. Which one, out of those that together cover the field, the frame's own
    pixels decide: its noise draws lots, so all have their turn, no state is kept, and a frame that
    is reconstructed again is checked in the same place.

    Parameters
    ----------
    whole_field
        Predict all of the field, whatever it costs.

    Attributes
    ----------
    windows
        That cover the field but for its outer border; a single one where it is affordable.
    """

    def __init__(
        self,
        experiment: Experiment,
        calibration: Calibration,
        measurement: Measurement,
        device: str,
        *,
        whole_field: bool = False,
    ) -> None:
        self._calibration = calibration
        self._measurement = measurement
        self._optics = experiment.optics
        self._pixel_um = calibration.pixel_um or experiment.pixel_um
        light = experiment.illumination
        self._coherence = light.coherence if isinstance(light, Condenser) else None
        plan = experiment.plan()
        self._frames = []
        for k in measurement.frames:
            channel, focus = divmod(k, len(plan.foci_um))
            z_um = calibration.true_focus_um(plan.foci_um[focus])
            source = (
                calibrated_source(experiment, plan.channels[channel].name, calibration)
                if self._coherence is None
                else self._few_waves(self._coherence, z_um)
            )
            background = background_intensity(source, self._optics) or 1.0
            self._frames.append(_Frame(source, background, z_um))
        shape = plan.frame_shape
        side = max(shape) if whole_field else self._affordable_side(shape, device)
        self.windows = _windows(shape, side, self._border_px())
        # The forward model knows only whole cameras: a window becomes one.
        first = self.windows[0]
        size = (first.y.stop - first.y.start, first.x.stop - first.x.start)
        microscope = experiment.microscope
        camera = microscope.camera.model_copy(update={"shape_px": size})
        self._experiment = experiment.model_copy(
            update={"microscope": microscope.model_copy(update={"camera": camera})}
        )
        outputs = measurement.outputs
        self._phase = outputs.index("phase")
        self._absorption = outputs.index("absorption") if "absorption" in outputs else None
        self._amplitude = outputs.index("amplitude") if "amplitude" in outputs else None
        # Once for all slots: the windows are of one size.
        self._absorbing = (
            [
                absorption_transfer(
                    size, self._pixel_um, self._optics, frame.z_um, self._coherence, device
                )
                for frame in self._frames
            ]
            if self._absorption is None and self._amplitude is None and self._coherence is not None
            else []
        )

    def window(self, raw: NDArray[np.unsignedinteger]) -> _Window:
        """Where a slot of raw frames ``[K, Y, X]`` is checked: a function of its pixels alone."""
        drawn = int(raw[..., ::_LOTS, ::_LOTS].sum(dtype=np.uint64))
        return self.windows[drawn % len(self.windows)]

    def __call__(
        self,
        measured: Corrected,
        images: torch.Tensor,
        window: _Window,
        predicted: torch.Tensor | None = None,
    ) -> Agreement:
        """Of one slot, ``[1]`` each.

        Parameters
        ----------
        measured
            ``[K, Y, X]`` frames of the measurement.
        images
            ``[C, s·Y, s·X]`` of the method: ``phase`` in radians, ``absorption`` the μ of exp(-μ), or ``amplitude``.
        predicted
            ``[K, Y, X]`` frames, where the method predicts them itself (`Reconstruction.predicted`).
        """
        part = images[(slice(None), *window.upsampled(self._measurement.upsampling))]
        phase = part[self._phase]
        return agreement(
            measured.frames[None, :, window.y, window.x],
            measured.valid[None, :, window.y, window.x],
            (
                self._predict(part)
                if predicted is None
                else predicted[:, window.y, window.x].to(part.device)
            )[None],
            self._experiment,
            self._calibration,
            indices=self._measurement.frames,
            level=_part(measured.level, window),
            absorption=self._absorbed(phase),
        )

    def _predict(self, part: torch.Tensor) -> torch.Tensor:
        """``[K, Y, X]`` of the window, 1 where there is no specimen."""
        s = self._measurement.upsampling
        lost = None
        if self._amplitude is not None:
            lost = 1 - part[self._amplitude]
        elif self._absorption is not None:
            lost = 1 - torch.exp(-part[self._absorption])
        spectrum = torch.fft.fft2(thin_specimen(part[self._phase], lost))
        shape = (part.shape[-2] // s, part.shape[-1] // s)
        return torch.stack(
            [
                spectrum_camera_intensity(
                    spectrum,
                    self._pixel_um / s,
                    self._optics,
                    frame.source,
                    frame.z_um,
                    frame_shape=shape,
                )
                / frame.background
                for frame in self._frames
            ]
        )

    def _absorbed(self, phase: torch.Tensor) -> torch.Tensor | None:
        """``[1, K, Y, X]`` of `absorption_contrast`, where the method doesn't yield the absorption itself."""
        if not self._absorbing:
            return None
        s = self._measurement.upsampling
        return torch.stack([absorption_contrast(phase, t, s) for t in self._absorbing])[None]

    def _few_waves(self, coherence: float, z_um: float) -> Source:
        """A condenser of as few plane waves as a comparison needs: a third of the rings, a fifth of the time."""
        blur_px = coherence * self._optics.numerical_aperture * abs(z_um) / self._pixel_um
        few = coherence <= _ONE_RING_COHERENCE and blur_px <= _ONE_RING_BLUR_PX
        return condenser_source(self._optics, coherence, rings=1 if few else 2)

    def _border_px(self) -> int:
        """Camera pixels at a window's edge that are not compared."""
        z_um = max(abs(frame.z_um) for frame in self._frames)
        return math.ceil(diffraction_spread_um(self._optics, z_um) / self._pixel_um)

    def _affordable_side(self, shape: tuple[int, int], device: str) -> int:
        """Edge of the window that may be predicted; the field's longer one where all of it may."""
        waves = sum(len(frame.source.weights) for frame in self._frames)
        samples = intensity_samples(self._pixel_um, self._optics)
        most_pixels = _BUDGET[torch.device(device).type] / (waves * samples**2)
        if math.prod(shape) <= most_pixels:
            return max(shape)
        side = max(math.isqrt(int(most_pixels)), _LEAST_BORDERS * self._border_px(), _STEP)
        return side // _STEP * _STEP


def _part(level: torch.Tensor, window: _Window) -> torch.Tensor:
    """The window of levels that may be one number a frame."""
    return level if level.shape[-2:] == (1, 1) else level[:, window.y, window.x]


def _windows(shape: tuple[int, int], side: int, border: int) -> list[_Window]:
    """Windows of one size whose inner parts cover the field but for its outer border."""
    rows, columns = (
        [
            slice(start, start + size)
            for start in np.linspace(0, n - size, _count(n, size, border)).round().astype(int)
        ]
        for n in shape
        for size in [min(side, n)]
    )
    return [_Window(y, x) for y in rows for x in columns]


def _count(n: int, size: int, border: int) -> int:
    """How many windows of `size` cover `n` pixels, when `border` at each end doesn't count."""
    if size >= n:
        return 1
    compared = size - 2 * min(border, size // 4)
    return 1 + math.ceil((n - size) / compared)
