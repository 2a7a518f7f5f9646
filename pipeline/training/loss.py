"""What the training makes small. All take ``[B, 1, Y, X]`` in radians."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional

# As the metric's (Wang et al. 2004): Gaussian window, and constants relative to the data range.
_WINDOW, _SIGMA, _K1, _K2 = 11, 1.5, 0.01, 0.03
# Pixels that are averaged in one matrix product: more cost more products with zero, fewer more calls.
_BLOCK = 34
# A field of nearly nothing: its range would make noise a structure.
_LEAST_SPAN_RAD = 0.5
# A usual specimen's range: what the errors in radians are weighted for.
_USUAL_SPAN_RAD = 2.0
# Each of so many of the last's, and its weight.
_COARSE = ((16, 2.0), (4, 4.0), (4, 8.0))


def evened(values: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
    """Phase as if its field had a usual range: thin specimens count as much as thick ones, as in the metric.

    In radians, a single sheet of six would outweigh all that a step learns of thinner specimens.
    """
    return values * _per_patch(_USUAL_SPAN_RAD / spans.clamp_min(_LEAST_SPAN_RAD))


def sharp_loss(phase: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean absolute error, half the mean square error, and half the gradients' absolute error.

    Finds outlines and a flat background within few steps, but leans low: where a frame hardly tells
    the phase (thin, wide parts of a cell), absolute errors are least at the median, which is near zero.
    """
    error = phase - truth
    across = functional.l1_loss(error[..., 1:], error[..., :-1])
    edges = across + functional.l1_loss(error[..., 1:, :], error[..., :-1, :])
    return error.abs().mean() + 0.5 * error.square().mean() + 0.5 * edges


def square_loss(phase: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean square error, the paper's loss: least at the mean, so a cell's mass is kept."""
    return (phase - truth).square().mean()


def structure_loss(phase: torch.Tensor, truth: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
    """1 - SSIM of the image with its piston aligned, as the metric's, and half as much of the image as it is.

    With the data range of each patch's field, ``[B]``. An error of two hundredths of the range in the flat
    background halves the metric there: no other loss cares as much about what is empty and, with the
    piston aligned, about the mean height of what is not.
    """
    span = _per_patch(spans.clamp_min(_LEAST_SPAN_RAD))
    c1, c2 = (_K1 * span) ** 2, (_K2 * span) ** 2
    ux, uy = _local_mean(phase), _local_mean(truth)
    covariance = _local_mean(phase * truth) - ux * uy
    # Of both together: the metric has them in a sum only.
    variances = _local_mean(phase * phase + truth * truth) - ux * ux - uy * uy
    structure = (2 * covariance + c2) / (variances + c2)

    def dissimilar(means: torch.Tensor) -> torch.Tensor:
        return 1 - (structure * (2 * means * uy + c1) / (means * means + uy * uy + c1)).mean()

    piston = (phase - truth).mean((1, 2, 3), keepdim=True)
    return dissimilar(ux - piston) + 0.5 * dissimilar(ux)


def coarse_loss(phase: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean square error of the means over 16, 64 and 256 pixels, twice as heavy at each step.

    One frame hardly tells how high wide parts of a cell are; what little it tells drowns among the errors of
    single pixels.
    """
    error, total = phase - truth, phase.new_zeros(())
    for pixels, weight in _COARSE:
        error = functional.avg_pool2d(error, min(pixels, *error.shape[-2:]))
        total = total + weight * error.square().mean()
    return total


def _per_patch(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None, None]


def _local_mean(values: torch.Tensor) -> torch.Tensor:
    mean: torch.Tensor = _LocalMean.apply(values)  # type: ignore[no-untyped-call]  # torch's own
    return mean


class _LocalMean(torch.autograd.Function):
    """``[..., Y, X]`` → ``[..., Y - 10, X - 10]``: means in the window, where all of it lies in the image.

    Small matrix products: on a CPU four times faster than products with the whole band matrix, which is
    nearly empty, and than a convolution of one channel.
    """

    @staticmethod
    def forward(_: Any, values: torch.Tensor) -> torch.Tensor:
        return _both_axes(values)

    @staticmethod
    def backward(_: Any, *gradients: torch.Tensor) -> torch.Tensor:
        # The window is symmetric: what each pixel gave to the means around it comes back by the same means.
        beyond = _WINDOW - 1
        return _both_axes(functional.pad(gradients[0], (beyond,) * 4))


def _both_axes(values: torch.Tensor) -> torch.Tensor:
    band = _band(values.device)
    more = _WINDOW - 1
    rows = range(0, values.shape[-2] - more, _BLOCK)
    columns = range(0, values.shape[-1] - more, _BLOCK)
    across = []
    for i in columns:
        part = values[..., i : i + _BLOCK + more]
        across.append(part @ band[: part.shape[-1], : part.shape[-1] - more])
    half = torch.cat(across, -1)
    down = []
    for i in rows:
        part = half[..., i : i + _BLOCK + more, :]
        down.append(band.T[: part.shape[-2] - more, : part.shape[-2]] @ part)
    return torch.cat(down, -2)


@lru_cache(maxsize=4)
def _band(device: torch.device) -> torch.Tensor:
    """``[_BLOCK + 10, _BLOCK]``: the window, a pixel further down in each column."""
    offsets = torch.arange(_WINDOW) - _WINDOW // 2
    weights = torch.exp(-0.5 * (offsets / _SIGMA) ** 2)
    band = torch.zeros(_BLOCK + _WINDOW - 1, _BLOCK)
    for i in range(_BLOCK):
        band[i : i + _WINDOW, i] = weights / weights.sum()
    return band.to(device)
