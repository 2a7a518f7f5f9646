"""Means over many frames of the same that a cosmic ray or a flash does not spoil."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.calibrate.shots import Frames

# A sample so many standard deviations from its pixel's median is none of the noise.
_OUTLIER = 6.0
# Pixels that are sorted at a time: a stack as float32 would take twice the memory of the raw one.
_BLOCK = 2**22


class Average(NamedTuple):
    """Of a stack ``[N, Y, X]``, pixel by pixel.

    `mean` and `std` (of one frame) ``[Y, X]`` float32, counts; `outliers` samples left out.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    outliers: int


def average(frames: Frames, levels: NDArray[np.float64] | None = None) -> Average:
    """Mean and standard deviation of each pixel, outliers left out.

    Parameters
    ----------
    levels
        ``[N]`` of each frame, where the lamp flickers: samples are compared after division by it.
        The mean is that of the frames as they are but for the outliers.
    """
    n, height, width = frames.shape
    rows = max(1, _BLOCK // (n * width))
    mean = np.empty((height, width), np.float32)
    std = np.empty((height, width), np.float32)
    outliers = 0
    steady = np.ones((n, 1, 1), np.float32)
    if levels is not None:
        steady[:, 0, 0] = levels.mean() / levels
    for top in range(0, height, rows):
        samples = frames[:, top : top + rows] * steady
        middle = np.median(samples, axis=0)
        away = np.abs(samples - middle)
        own = 1.4826 * np.median(away, axis=0)
        # A quiet pixel's own spread may be zero counts: that of its neighbours is a floor.
        usual = np.sqrt(np.median(samples.var(axis=0)))
        good = away <= _OUTLIER * np.maximum(own, usual) + 1
        # Rays hit a pixel once or twice; one that strays more often is noisy itself.
        good |= (~good).sum(axis=0) > max(1, n // 8)
        number = good.sum(axis=0)
        mean[top : top + rows] = (samples * good).sum(axis=0) / number
        squares = (np.square(samples - mean[top : top + rows]) * good).sum(axis=0)
        std[top : top + rows] = np.sqrt(squares / np.maximum(number - 1, 1))
        outliers += int(good.size - number.sum())
    return Average(mean, std, outliers)


def robust_spread(values: NDArray[np.floating]) -> float:
    """Standard deviation of the bulk of the values, by the median distance from their median."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))
