"""Does the measured light agree with the reconstruction? Reduced χ² under the camera's noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import EllipsisType

import numpy as np
import torch

from pipeline.calibration import Calibration
from pipeline.experiment import Experiment
from pipeline.optics.forward import diffraction_spread_um
from pipeline.optics.sensor import scaled_flat

# Variance of rounding to whole counts.
_ROUNDING = 1 / 12


def residual(
    frames: torch.Tensor,
    valid: torch.Tensor,
    predicted: torch.Tensor,
    experiment: Experiment,
    calibration: Calibration,
    *,
    indices: Sequence[int] | None = None,
    level: torch.Tensor | None = None,
) -> torch.Tensor:
    """Reduced χ² of predicted against measured frames; 1 is what noise alone leaves.

    Gain (not negative) and offset are fitted to each frame. Left out are invalid pixels and the border
    that light from outside the field reaches (at most a quarter of the frame on each side).
    What one defocused frame can't tell, a wrong z or scale of the phase, it can't tell either.

    Parameters
    ----------
    frames, valid
        ``[B, K, Y, X]`` of `Correction`.
    predicted
        ``[B, K, Y, X]`` of `predict_frames`.
    indices
        Which frames of the slot K are; all of them where None.
    level
        Counts that stand for 1 (`Corrected.level`); the calibration's flat, or half of the camera's
        range where there is none, if not given.

    Returns
    -------
    ``[B]`` float64, NaN where no pixel is left.
    """
    plan = experiment.plan()
    frame_numbers = range(plan.frames_per_slot) if indices is None else indices
    channels = [plan.channels[k // len(plan.foci_um)] for k in frame_numbers]
    camera = experiment.microscope.camera
    if level is None:
        half = np.float32(2.0 ** (camera.bit_depth - 1))
        flats = [scaled_flat(calibration, c) for c in channels]
        planes = np.broadcast_arrays(*(np.atleast_2d(half if f is None else f) for f in flats))
        level = torch.from_numpy(np.stack(planes)).to(frames.device)
    gain = calibration.gain_e_per_count or camera.gain_e_per_count
    read = camera.read_noise_e if calibration.read_noise_e is None else calibration.read_noise_e
    foci = [plan.foci_um[k % len(plan.foci_um)] for k in frame_numbers]
    inner = _inner(experiment, calibration, max(map(abs, foci)))
    measured, model = frames[inner].double(), predicted[inner].double()
    electrons = gain * level.double().expand(*frames.shape[:-2], *level.shape[-2:])
    electrons = electrons.expand(frames.shape)[inner].clamp_min(gain)
    variance = (electrons * model.clamp_min(0) + read**2 + gain**2 * _ROUNDING) / electrons**2
    weight = valid[inner] / variance
    total = weight.sum((-2, -1), keepdim=True)
    mean_model = (weight * model).sum((-2, -1), keepdim=True) / total
    mean_measured = (weight * measured).sum((-2, -1), keepdim=True) / total
    model, measured = model - mean_model, measured - mean_measured
    spread = (weight * model**2).sum((-2, -1), keepdim=True)
    together = (weight * model * measured).sum((-2, -1), keepdim=True)
    # Negative gain would forgive a phase of the wrong sign; a blank prediction has none to fit.
    fitted = torch.where(spread > 0, together / spread, 0.0).clamp_min(0)
    chi_squared = (weight * (measured - fitted * model) ** 2).nansum((-3, -2, -1))
    used = valid[inner].sum((-2, -1))
    freedom = (used - 2).clamp_min(0).sum(-1)
    return torch.where(freedom > 0, chi_squared / freedom, math.nan)


def _inner(
    experiment: Experiment, calibration: Calibration, z_um: float
) -> tuple[EllipsisType, slice, slice]:
    """The field without the border that light from outside reaches."""
    pixel = calibration.pixel_um or experiment.pixel_um
    spread = diffraction_spread_um(experiment.optics, calibration.true_focus_um(z_um))
    y, x = (
        slice(margin, n - margin)
        for n in experiment.plan().frame_shape
        for margin in [min(math.ceil(spread / pixel), n // 4)]
    )
    return (..., y, x)
