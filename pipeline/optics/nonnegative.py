"""The phase that explains a measurement and is nowhere below the background.

Decision. What frames tell of whole cells drowns in their noise, or isn't there: one defocused frame holds 0.0014 of
contrast per radian at a period of 50 µm and z = 1 µm, two half circles of LEDs hold nothing along the line between
them. A linear inverse leaves such frequencies out, so that wide cells come out at half of their height and the
background between them dark, and networks learn to mend that slowly and badly. But a specimen delays light and does
not hasten it: its phase is nowhere below the background's. That one sentence fixes most of what the frames leave open.

It is the least squared misfit over all phases ≥ 0, by alternating directions (Boyd et al., Foundations and
Trends in Machine Learning 3, 2011, section 5.2: the constraint costs a comparison, the misfit one FFT and its inverse).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

# Radians that each round takes from everything, or noise, of which only one sign is cut, would lift the background.
_SHRINK = 0.02
# Power spectrum of the phase of cell cultures, P(f) = _POWER / (1 + (f/_KNEE)²)², fitted to the training's own.
_POWER = 34.0  # rad²·µm²
_KNEE = 0.04  # cycles/µm

Transform = Callable[[torch.Tensor], torch.Tensor]


def usual_power(frequencies: NDArray[np.floating], pixel_um: float) -> NDArray[np.floating]:
    """Of a usual specimen's phase, rad² per pixel, at frequencies in cycles/µm."""
    return np.asarray(_POWER / pixel_um**2 / (1 + (frequencies / _KNEE) ** 2) ** 2)


def nonnegative(
    anchor: torch.Tensor,
    share: torch.Tensor,
    transform: Transform,
    image: Transform,
    rounds: int,
) -> torch.Tensor:
    """Phase ``[B, Y, X]`` ≥ 0 in radians.

    Parameters
    ----------
    anchor
        Spectrum of what the measurement alone asks for, over the curvature of misfit, prior and pull together.
    share
        Of that curvature, the pull's: how much each frequency heeds the constraint.
    transform, image
        Of images to spectra and back.
    """
    wanted = image(anchor)
    phase = (wanted - _SHRINK).clamp_min_(0)
    debt = wanted - phase
    for _ in range(rounds - 1):
        wanted = image(anchor + share * transform(phase - debt)) + debt
        phase = (wanted - _SHRINK).clamp_min_(0)
        debt = wanted - phase
    return phase
