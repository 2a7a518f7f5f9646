"""What the training makes small."""

from __future__ import annotations

import torch


def phase_loss(phase: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean absolute error, half the mean square error, and half the gradients'.

    The squares hold the scale of thick cells, the absolute values the flat background, the
    gradients the outlines that a mean square smooths away. Both ``[B, 1, Y, X]`` in radians.
    """
    error = phase - truth
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + 0.5 * error.square().mean() + 0.5 * edges
