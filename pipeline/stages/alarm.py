"""One figure that says whether an image wants looking at: above 1 it does.

No single figure sees every fault. Each of four is divided by what good frames hardly ever reach,
and the largest is the alarm:

- the unexplained share of the frame's structure, and that of its worst block (`Agreement`): the
  image doesn't make this frame; dust, scratches, another method's mistake, detail that isn't there;
- saturated pixels, which the residual leaves out, and the method has to guess; also where the well is
  full before the converter is, so that nobody knows the level (`piled_up`);
- light of the wrong sign. -φ at -z makes nearly the same frame as φ at z, so a focus on the wrong side can be
  explained and leaves little. But cells are thicker than what surrounds them, and gather
  light behind themselves: beyond the focus, contrast has bright peaks, before it dark ones, whatever the
  method makes of it. That is counted (`contrast_skewness`) at the scale of a cell's parts, where absorption, always
  dark, is faint against the phase.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import conv1d, pad

# What good frames hardly ever reach. `pipeline.evaluation.trust` measures what those of the evaluation set
# have: with an early network, 0.03-0.12 and 0.02-0.11 of the first two and a skewness of 0.3 and more. The set is
# transparent; the room above is for cells that absorb, of which only what goes with the phase is fitted away.
UNEXPLAINED = 0.3
WORST_BLOCK = 0.5
SATURATED = 0.001
SKEWNESS = 0.6
# Band in which the sign is looked for: between blurs of these standard deviations.
_FINE_UM, _COARSE_UM = 2.6, 7.8
# A distribution is cut off where its maximum has so many times what the counts just below it (this share
# of the maximum) have together.
_TOP, _CUT = 0.002, 2.0
# A finer blur than a camera pixel is none.
_LEAST_PX = 0.8
_REACH = 3.0


class Signs(NamedTuple):
    """What the alarm is made of; NaN where there is no such figure, and then it doesn't count."""

    unexplained: float
    worst_block: float
    saturated: float
    skewness: float


def alarm(signs: Signs) -> float:
    """The largest of the signs, each over its limit: above 1, look; the less, the better. NaN where none is known."""
    parts = (
        signs.unexplained / UNEXPLAINED,
        signs.worst_block / WORST_BLOCK,
        signs.saturated / SATURATED,
        -signs.skewness / SKEWNESS,
    )
    known = [part for part in parts if math.isfinite(part)]
    return max(known) if known else math.nan


def piled_up(raw: NDArray[np.unsignedinteger]) -> float:
    """Share of pixels ``[..., Y, X]`` at a maximum that cuts their distribution off; 0 where it just ends."""
    share = 0.0
    for frame in raw.reshape(-1, raw.shape[-2] * raw.shape[-1]):
        top = int(frame.max())
        near = frame[frame >= top - max(1, round(_TOP * top))]
        at = int((near == top).sum())
        # The tail of any distribution thins out towards its end, also of so few counts that pixels share them.
        if at > _CUT * (len(near) - at):
            share = max(share, at / frame.size)
    return share


def contrast_skewness(frames: torch.Tensor, z_um: Sequence[float], pixel_um: float) -> float:
    """Skewness of the band-passed contrast, positive where phase is as cells' is at the z that is told.

    Parameters
    ----------
    frames
        ``[K, Y, X]`` brightfield frames without invalid pixels.
    z_um
        True defocus of each, as far as it is known; those in focus don't count.
    pixel_um
        Camera pixel at the sample.

    Returns
    -------
    float
        NaN where no frame is defocused. About 0 for noise alone.
    """
    away = [(frame, z) for frame, z in zip(frames, z_um, strict=True) if z]
    if not away:
        return math.nan
    contrast = sum((frame / frame.mean() * math.copysign(1, z) for frame, z in away), frames[0] * 0)
    fine, coarse = (
        _blurred(contrast, max(s / pixel_um, _LEAST_PX * s / _FINE_UM))
        for s in (_FINE_UM, _COARSE_UM)
    )
    band = (fine - coarse).double()
    band = band - band.mean()
    spread = band.square().mean().sqrt()
    return float(band.pow(3).mean() / spread**3) if spread > 0 else 0.0


def _blurred(image: torch.Tensor, sigma_px: float) -> torch.Tensor:
    """``[Y, X]`` under a Gaussian, mirrored at the border."""
    for _ in range(2):
        # As far as a small image can be mirrored.
        reach = min(math.ceil(_REACH * sigma_px), image.shape[-1] - 1)
        at = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
        kernel = torch.exp(-0.5 * (at / sigma_px) ** 2)
        rows = pad(image[:, None], (reach, reach), mode="reflect")
        image = conv1d(rows, (kernel / kernel.sum())[None, None])[:, 0].T
    return image
