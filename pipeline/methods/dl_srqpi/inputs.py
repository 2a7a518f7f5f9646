"""Corrected frames → what a network is given: contrast of usual size, and the linear estimate."""

from __future__ import annotations

import torch

from pipeline.methods.dl_srqpi.conditions import Conditions
from pipeline.methods.dl_srqpi.linear_estimate import apply_filter, linear_filter, margin_px

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
        known = linear_filter(conditions, frame_shape)
        self._response = torch.from_numpy(known.response).to(device)
        self._usual = known.contrast
        self._margin = margin_px(conditions.pixel_um)

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """``[B, Y, X]``, background 1 → ``[B, CHANNELS, Y, X]``."""
        contrast = frame_contrast(frames)
        estimate = apply_filter(contrast, self._response, self._margin)
        return torch.stack([contrast / (2 * self._usual), estimate], dim=1)


def frame_contrast(frames: torch.Tensor) -> torch.Tensor:
    """``I / mean(I) - 1`` of ``[..., Y, X]``.

    Each whole frame is divided by its own mean, which a flickering lamp changes and defocus doesn't.
    """
    level = frames.mean((-2, -1), keepdim=True).clamp_min(1e-6)
    return frames / level - 1
