"""Does the measured light agree with the reconstruction? Under the camera's noise, in two figures.

The residual (reduced χ²) is what DESIGN.md defines: 1 is the camera's own noise. A network's own small
error is many times a good camera's noise and grows with the specimen's contrast, so the residual of good
frames is anything from 1 to 100: as an alarm it is only good beside what the same specimen usually leaves.

So a second figure counts the *unexplained share*: what the prediction leaves of the frame's structure,
the camera's noise subtracted from both. It doesn't grow with contrast or light. And since a specimen that
absorbs a little is no failure of its phase, absorption in proportion to the phase is fitted away, where
the residual keeps it: an amplitude of 0.97 at the thickest spot leaves more than a wrong network does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

from pipeline.calibration import Calibration
from pipeline.experiment import Experiment
from pipeline.optics.sensor import scaled_flat
from pipeline.optics.spread import diffraction_spread_um

# Variance of rounding to whole counts.
_ROUNDING = 1 / 12
# Structure below this share of the noise's own is none: an empty field has nothing to explain.
_FAINT = 0.25
# Edge of a block in camera pixels: a grain of dust, or a piece of a scratch.
BLOCK_PX = 16


@dataclass(frozen=True)
class Agreement:
    """Of predicted with measured frames; each ``[B]`` float64, NaN where no pixel is left.

    Parameters
    ----------
    residual
        Reduced χ², gain and offset fitted; see `residual`.
    unexplained
        Share of the frames' structure that is not predicted, 0 to about 1; noise alone gives 0, a little more or less.
    worst_block
        Largest share in blocks of `BLOCK_PX`² pixels, of the block's structure and the field's mean: a
        defect of a small part of the field shows here.
    """

    residual: torch.Tensor
    unexplained: torch.Tensor
    worst_block: torch.Tensor


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
    """Reduced χ² ``[B]`` of predicted against measured frames; 1 is what noise alone leaves.

    Arguments as of `agreement`.
    """
    return agreement(
        frames, valid, predicted, experiment, calibration, indices=indices, level=level
    ).residual


def agreement(
    frames: torch.Tensor,
    valid: torch.Tensor,
    predicted: torch.Tensor,
    experiment: Experiment,
    calibration: Calibration,
    *,
    indices: Sequence[int] | None = None,
    level: torch.Tensor | None = None,
    absorption: torch.Tensor | None = None,
) -> Agreement:
    """How well predicted frames agree with measured ones.

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
    absorption
        ``[B, K, Y, X]`` of `absorption_contrast`: as much of it (not negative) as fits is not
        counted as unexplained.
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
    model, measured = _levelled(model, weight), _levelled(measured, weight)
    fitted = _gain(model, measured, weight)
    squares = weight * (measured - fitted * model) ** 2
    used = valid[inner].double()
    freedom = (used.sum((-2, -1)) - 2).clamp_min(0).sum(-1)
    chi_squared = torch.where(freedom > 0, squares.nansum((-3, -2, -1)) / freedom, math.nan)
    if absorption is not None:
        thick = _levelled(absorption[inner].double(), weight)
        squares = weight * _without(model, thick, measured, weight) ** 2
    structure = weight * measured**2 - used
    return Agreement(chi_squared, *_shares(squares - used, structure, used))


def _levelled(image: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Each frame less its weighted mean: the offset's fit."""
    total = weight.sum((-2, -1), keepdim=True)
    return image - (weight * image).sum((-2, -1), keepdim=True) / total


def _gain(model: torch.Tensor, measured: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``[B, K, 1, 1]`` how much of the model each frame holds; none of one of the wrong sign."""
    spread = (weight * model**2).sum((-2, -1), keepdim=True)
    together = (weight * model * measured).sum((-2, -1), keepdim=True)
    # Negative gain would forgive a phase of the wrong sign; a blank prediction has none to fit.
    return torch.where(spread > 0, together / spread, 0.0).clamp_min(0)


def _without(
    model: torch.Tensor, absorption: torch.Tensor, measured: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """What gain and absorption, fitted together, leave; neither may be negative."""
    alone = measured - _gain(model, measured, weight) * model
    dark = absorption - _projection(absorption, model, weight) * model
    share = _projection(measured, dark, weight)
    left = measured - _projection(measured, model, weight) * model - share * dark
    gain = _projection(measured - share * absorption, model, weight)
    return torch.where((share > 0) & (gain > 0), left, alone)


def _projection(image: torch.Tensor, onto: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``[B, K, 1, 1]`` factor of `onto` in the least squares fit to an image."""
    square = (weight * onto**2).sum((-2, -1), keepdim=True)
    product = (weight * image * onto).sum((-2, -1), keepdim=True)
    return torch.where(square > 0, product / square, 0.0)


def _shares(
    excess: torch.Tensor, structure: torch.Tensor, used: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unexplained share of the field and of its worst block, ``[B]`` each.

    Parameters
    ----------
    excess, structure
        ``[B, K, Y, X]`` squares left over and there, both in units of the noise and less its share.
    used
        ``[B, K, Y, X]`` 1 for pixels that count.
    """
    excess, structure = excess.nan_to_num(), structure.nan_to_num()
    pixels = used.sum((-3, -2, -1))
    faint = _FAINT * used
    whole = (structure + faint).sum((-3, -2, -1)).clamp_min(_FAINT)
    unexplained = torch.where(pixels > 0, excess.sum((-3, -2, -1)) / whole, math.nan)
    edge = min(BLOCK_PX, *excess.shape[-2:])
    left, there = (
        avg_pool2d(image.sum(-3, keepdim=True), edge)[..., 0, :, :]
        for image in (excess, structure.clamp_min(0) + faint)
    )
    mean = there.mean((-2, -1), keepdim=True).clamp_min(_FAINT / edge**2)
    worst = (left / (there + mean)).amax((-2, -1))
    return unexplained, torch.where(pixels > 0, worst, math.nan)


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
