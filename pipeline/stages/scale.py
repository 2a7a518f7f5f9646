"""How far the phase's scale is uncertain because the calibrated focus is: nothing in a frame shows it.

A defocused frame's contrast goes nearly as z·φ, so a wrong z gives a wrong φ and hardly any residual.
By how much depends on the method, on z and on the sizes of the cells; here it is measured: the method, loaded for the
calibration, is given frames of known cells as a microscope takes them whose z is off by a little, on
either side, and the change of their phase is regressed as `phase_slope` does. The larger side counts. To first order

    u² = (∂slope/∂scale · σ_scale)² + (∂slope/∂zero · σ_zero)²

with the calibration's own standard uncertainties, so that two foci on both sides (TIE) rightly owe nothing to
the zero. One standard uncertainty (k = 1), relative; the wavelength's is not included, for no calibration
measures it (a band of 45 nm about 550 nm shifts its centre of mass by a per cent or two at most).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.calibration import Calibration
from pipeline.errors import MethodError, SlotError
from pipeline.experiment import Condenser, Experiment
from pipeline.frames import Measurement
from pipeline.methods.contract import Method
from pipeline.optics.forward import predict_frames
from pipeline.quality import phase_slope

# The least relative change of z that is tried: a network's own rounding is far below its effect.
_LEAST_STEP = 0.02
# Camera pixels of the frames that are tried, and the cells on them: y, x, radius (shares of the
# field), peak in radians.
_SIDE = 128
_CELLS = (
    (0.22, 0.25, 0.035, 1.0),
    (0.27, 0.72, 0.055, 1.5),
    (0.55, 0.47, 0.025, 1.0),
    (0.76, 0.24, 0.07, 2.0),
    (0.75, 0.74, 0.045, 0.8),
)
# Grains on each cell: thirds of its radius, this share of its phase.
_GRAIN = 0.25


def scale_uncertainty(
    method: Method,
    experiment: Experiment,
    calibration: Calibration,
    measurement: Measurement,
    device: str,
    weights: Path | None,
) -> float:
    """Relative standard uncertainty of the phase's scale; NaN where it isn't known or there is none.

    Unknown where the z scale is not calibrated, or the zero is not and matters: a piezo may be off by
    1 %, a tunable lens with a nominal curve by 30 %, so no default would be honest. None where the
    phase doesn't come from defocus (DPC, single LEDs).
    """
    foci = [
        experiment.sequence.foci_um[k % len(experiment.sequence.foci_um)]
        for k in measurement.frames
    ]
    if not isinstance(experiment.illumination, Condenser) or not any(foci):
        return math.nan
    scale_sigma, zero_sigma = calibration.z_scale_sigma, calibration.z_zero_sigma_um
    if calibration.z_scale is None or scale_sigma is None:
        return math.nan
    if scale_sigma == 0 and zero_sigma == 0:
        return 0.0
    trial = _Trial(method, experiment, calibration, measurement, device, weights)
    farthest = max(abs(calibration.true_focus_um(z)) for z in foci)
    scale_step = max(scale_sigma, _LEAST_STEP * abs(calibration.z_scale))
    zero_step = max(zero_sigma or 0.0, _LEAST_STEP * farthest)
    scale, zero = calibration.z_scale, calibration.z_zero_um or 0.0
    by_scale = by_zero = 0.0
    if scale_sigma:
        by_scale = trial.sensitivity(lambda d: replace(trial.known, z_scale=scale + d), scale_step)
    if zero_sigma != 0:
        by_zero = trial.sensitivity(lambda d: replace(trial.known, z_zero_um=zero + d), zero_step)
    if zero_sigma is None:
        # Two foci about the zero may not care where it is.
        return by_scale * scale_sigma if by_zero * zero_step <= _LEAST_STEP / 4 else math.nan
    return math.hypot(by_scale * scale_sigma, by_zero * zero_sigma)


class _Trial:
    """The method, loaded for one calibration, on frames of known cells taken under others."""

    def __init__(
        self,
        method: Method,
        experiment: Experiment,
        calibration: Calibration,
        measurement: Measurement,
        device: str,
        weights: Path | None,
    ) -> None:
        side = (_SIDE, _SIDE)
        microscope = experiment.microscope
        camera = microscope.camera.model_copy(update={"shape_px": side})
        self._experiment = experiment.model_copy(
            update={"microscope": microscope.model_copy(update={"camera": camera})}
        )
        # Of another shape than these frames, and no business of the trial.
        self.known = replace(calibration, dark={}, flat={}, bad_pixels=None)
        self._measurement, self._device = measurement, device
        self._method = method.load(self._experiment, self.known, device, weights)
        # Finely enough for the specimen, and a whole number of phase pixels.
        fine = -(-4 // measurement.upsampling) * measurement.upsampling
        self._cells = torch.from_numpy(_cells(_SIDE * fine))
        self._usual = self._reconstruct(self.known)

    def sensitivity(self, changed: Callable[[float], Calibration], step: float) -> float:
        """Relative change of the phase per change of the true calibration, the larger of both directions' sizes.

        NaN where it can't be told.
        """
        sizes = []
        for change in (step, -step):
            # Nothing may be left to reconstruct where the true focus is at the specimen.
            with suppress(MethodError, SlotError):
                other = self._reconstruct(changed(change))
                sizes.append(abs(phase_slope(other, self._usual).mean - 1) / step)
        return max(sizes, default=math.nan)

    def _reconstruct(self, true: Calibration) -> NDArray[np.float32]:
        """Phase of frames that are taken under a calibration that the method isn't told."""
        frames = predict_frames(
            self._cells, None, self._experiment, true, self._measurement.frames
        )[None].to(self._device)
        images = self._method(frames, torch.ones_like(frames, dtype=torch.bool)).images
        phase = images[0, self._measurement.outputs.index("phase")]
        return np.asarray(phase.float().cpu().numpy())


def _cells(samples: int) -> NDArray[np.float32]:
    """``[N, N]`` radians: round cells with grains, far apart."""
    at = (np.arange(samples, dtype=np.float32) + 0.5) / samples
    phase = np.zeros((samples, samples), np.float32)
    for y, x, radius, peak in _CELLS:
        height = 1 - ((at[:, None] - y) ** 2 + (at - x) ** 2) / radius**2
        phase += peak * np.sqrt(np.maximum(height, 0))
        for turn in range(4):
            dy, dx = np.sin(1.6 * turn) * radius / 2, np.cos(1.6 * turn) * radius / 2
            square = (at[:, None] - y - dy) ** 2 + (at - x - dx) ** 2
            phase += _GRAIN * peak * np.exp(-square / (radius / 6) ** 2)
    return phase
