"""Corrected frames → what a network is given: contrast of usual size, and the linear estimate."""

from __future__ import annotations

import torch

from pipeline.methods.dl_srqpi.conditions import Conditions
from pipeline.methods.dl_srqpi.linear_estimate import linear_filter

CHANNELS = 2


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
        self._estimate = linear_filter(conditions, frame_shape, device)

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """``[B, Y, X]``, background 1 → ``[B, CHANNELS, Y, X]``."""
        contrast = frame_contrast(frames)
        usual = contrast / (2 * self._estimate.contrast)
        return torch.stack([usual, self._estimate(contrast)], dim=1)


def frame_contrast(frames: torch.Tensor) -> torch.Tensor:
    """``I / mean(I) - 1`` of ``[..., Y, X]``.

    Each whole frame is divided by its own mean, which a flickering lamp changes and defocus doesn't.
    """
    level = frames.mean((-2, -1), keepdim=True).clamp_min(1e-6)
    return frames / level - 1
