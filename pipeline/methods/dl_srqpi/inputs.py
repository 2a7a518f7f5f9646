"""Corrected frames → what a network is given: contrast of usual size, and two estimates of the phase."""

from __future__ import annotations

import torch

from pipeline.methods.dl_srqpi.conditions import Conditions
from pipeline.methods.dl_srqpi.frame_model import frame_kernel
from pipeline.methods.dl_srqpi.linear_estimate import LinearEstimate
from pipeline.methods.dl_srqpi.nonnegative_estimate import NonnegativeEstimate
from pipeline.methods.dl_srqpi.weak_model import weak_model

CHANNELS = 3
ESTIMATE = 1
"""The channel that networks correct, the linear estimate: their output is added to it, enlarged."""


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
        self._conditions, self._device = conditions, device
        self._model = model = weak_model(conditions, frame_shape, device)
        # Contrast of usual size is about one.
        self._usual = 2 * model.contrast
        self._linear, self._nonnegative = LinearEstimate(model), NonnegativeEstimate(model)

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """``[B, Y, X]``, background 1 → ``[B, CHANNELS, Y, X]``."""
        contrast = frame_contrast(frames)
        spectrum = self._model.spectrum(contrast)
        estimates = self._linear(contrast, spectrum), self._nonnegative(contrast, spectrum)
        return torch.stack([contrast / self._usual, *estimates], dim=1)

    def kernels(self, upsampling: int) -> torch.Tensor:
        """``[1, u², n, n]`` with which `explained` makes the first channel of a phase."""
        kernel = frame_kernel(self._conditions, upsampling).to(self._device)
        return kernel[None] / self._usual


def frame_contrast(frames: torch.Tensor) -> torch.Tensor:
    """``I / mean(I) - 1`` of ``[..., Y, X]``.

    Each whole frame is divided by its own mean, which a flickering lamp changes and defocus doesn't.
    """
    level = frames.mean((-2, -1), keepdim=True).clamp_min(1e-6)
    return frames / level - 1
