"""What a camera frame's counts amount to: their histogram, and how much of the range they use."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Histogram(NamedTuple):
    """Pixels in equal bins ``[N]`` over the camera's whole range, from 0 to `top` counts, both included."""

    pixels: NDArray[np.int64]
    top: int


def histogram(counts: NDArray[np.unsignedinteger], bit_depth: int, bins: int = 64) -> Histogram:
    """Histogram of raw counts over the range of a camera of this bit depth (at most 16)."""
    levels = 2**bit_depth
    bins = min(bins, levels)
    # Counting whole levels and adding them up is ten times faster than sorting pixels into bins.
    per_level = np.bincount(counts.ravel(), minlength=levels)[:levels]
    edges = (np.arange(bins) * levels) // bins
    return Histogram(np.add.reduceat(per_level, edges), levels - 1)


def saturated_share(counts: NDArray[np.unsignedinteger], saturation_counts: float) -> float:
    """Share of the pixels at or above the count at which a pixel is saturated."""
    return float(np.count_nonzero(counts >= saturation_counts) / counts.size)
