"""What the training makes small."""

from __future__ import annotations

import torch


def sharp_loss(phase: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean absolute error, half the mean square error, and half the gradients' absolute error.

    Finds outlines and a flat background within few steps, but leans low: where a frame hardly tells
    the phase (thin, wide parts of a cell), absolute errors are least at the median, which is near zero.
    """
    error = phase - truth
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + 0.5 * error.square().mean() + 0.5 * edges


def square_loss(phase: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Twice the mean square error, the paper's loss: least at the mean, so a cell's mass is kept.

    Both losses take ``[B, 1, Y, X]`` in radians.
    """
    return 2 * (phase - truth).square().mean()
