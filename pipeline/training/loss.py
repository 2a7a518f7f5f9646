"""What the training makes small. All take ``[B, 1, Y, X]`` in radians."""

from __future__ import annotations

from functools import lru_cache

import torch

# As the metric's (Wang et al. 2004): Gaussian window, and constants relative to the data range.
_WINDOW, _SIGMA, _K1, _K2 = 11, 1.5, 0.01, 0.03
# A field of nearly nothing: its range would make noise a structure.
_LEAST_SPAN_RAD = 0.5


def sharp_loss(phase: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean absolute error, half the mean square error, and half the gradients' absolute error.

    Finds outlines and a flat background within few steps, but leans low: where a frame hardly tells
    the phase (thin, wide parts of a cell), absolute errors are least at the median, which is near zero.
    """
    error = phase - truth
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + 0.5 * error.square().mean() + 0.5 * edges


def square_loss(phase: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean square error, the paper's loss: least at the mean, so a cell's mass is kept."""
    return (phase - truth).square().mean()


def structure_loss(phase: torch.Tensor, truth: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
    """1 - SSIM, with the data range of each patch's field, ``[B]``: what the paper's figure weighs.

    An error of two hundredths of the range in the flat background halves it there: no other loss cares as
    much about what is empty.
    """
    window = _windows(phase.shape[-1]).to(phase.device)

    def local_mean(values: torch.Tensor) -> torch.Tensor:
        return window @ values @ window.T

    span = spans.clamp_min(_LEAST_SPAN_RAD)[:, None, None, None]
    c1, c2 = (_K1 * span) ** 2, (_K2 * span) ** 2
    ux, uy = local_mean(phase), local_mean(truth)
    vx = local_mean(phase * phase) - ux * ux
    vy = local_mean(truth * truth) - uy * uy
    vxy = local_mean(phase * truth) - ux * uy
    similar = ((2 * ux * uy + c1) * (2 * vxy + c2)) / ((ux**2 + uy**2 + c1) * (vx + vy + c2))
    return 1 - similar.mean()


@lru_cache(maxsize=8)
def _windows(side: int) -> torch.Tensor:
    """``[side - 10, side]``: a window a row. Matrix products are ten times faster than a convolution of one channel."""
    offsets = torch.arange(_WINDOW) - _WINDOW // 2
    weights = torch.exp(-0.5 * (offsets / _SIGMA) ** 2)
    band = torch.zeros(side - _WINDOW + 1, side)
    for i in range(len(band)):
        band[i, i : i + _WINDOW] = weights / weights.sum()
    return band
