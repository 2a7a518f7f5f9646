"""Corrected frames → what a network is given: contrast of usual size, and two estimates of the phase."""

from __future__ import annotations

import torch

from pipeline.methods.dl_srqpi.conditions import Conditions
from pipeline.methods.dl_srqpi.linear_estimate import LinearEstimate
from pipeline.methods.dl_srqpi.nonnegative_estimate import NonnegativeEstimate
from pipeline.methods.dl_srqpi.weak_model import weak_model

CHANNELS = 3
ESTIMATE = 1
"""The channel that networks correct: their output is added to it, enlarged."""


class NetworkInputs:
    """For frames of one shape, taken under one set of conditions.

    Parameters
    ----------
    frame_shape
        ``(y, x)``.
    """

    def __init__(
        self,
        conditions: Conditions,
        frame_shape: tuple[int, int],
        device: torch.device | str = "cpu",
    ) -> None:
        model = weak_model(conditions, frame_shape, device)
        self._usual_contrast = model.contrast
        self._nonnegative, self._linear = NonnegativeEstimate(model), LinearEstimate(model)

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """``[B, Y, X]``, background 1 → ``[B, CHANNELS, Y, X]``."""
        contrast = frame_contrast(frames)
        usual = contrast / (2 * self._usual_contrast)
        return torch.stack([usual, self._nonnegative(contrast), self._linear(contrast)], dim=1)


def frame_contrast(frames: torch.Tensor) -> torch.Tensor:
    """``I / mean(I) - 1`` of ``[..., Y, X]``.

    Each whole frame is divided by its own mean, which a flickering lamp changes and defocus doesn't.
    """
    level = frames.mean((-2, -1), keepdim=True).clamp_min(1e-6)
    return frames / level - 1
