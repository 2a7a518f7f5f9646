"""Many small bright spots drawn onto a grid at once, each at its exact place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.samples.grid import Grid

Floats = NDArray[np.float32]

FINE_UM, MIDDLE_UM, COARSE_UM = 0.27, 0.45, 0.9
"""Standard deviations of the spots. The finest is the smallest that a grid of 0.65 µm holds without aliasing."""

_PAD = 8


@dataclass(frozen=True)
class Spots:
    """Gaussian spots: where (µm), and how much phase each holds in all (rad µm²)."""

    x: Floats
    y: Floats
    mass: Floats

    @staticmethod
    def peak_to_mass(sigma_um: float) -> float:
        """Multiplies a spot's peak in radians."""
        return float(2 * np.pi * sigma_um**2)

    @staticmethod
    def join(parts: Sequence[Spots]) -> Spots:
        """One set out of several."""
        if not parts:
            nothing = np.empty(0, np.float32)
            return Spots(nothing, nothing, nothing)
        return Spots(
            np.concatenate([p.x.ravel() for p in parts]),
            np.concatenate([p.y.ravel() for p in parts]),
            np.concatenate([p.mass.ravel() for p in parts]),
        )


def draw(grid: Grid, layers: dict[float, Spots]) -> Floats:
    """Pixel means of the spots' sum, ``[Y, X]`` in radians.

    Parameters
    ----------
    layers
        Spots by their standard deviation in µm.

    Notes
    -----
    The coarsest spots are laid first and blurred by what they are broader than the next finer
    ones, and so on: one pass over the field per size, however many spots there are. A spot is laid
    as a quadratic B-spline (variance a quarter of a pixel's square), the pixel's own box has a
    twelfth: the last blur makes up the difference.
    """
    p2 = grid.pixel_um**2
    sizes = sorted(layers, reverse=True)
    field = np.zeros((grid.shape[0] + 2 * _PAD, grid.shape[1] + 2 * _PAD), np.float32)
    for sigma, finer in zip(sizes, [*sizes[1:], None], strict=True):
        field += _lay(grid, layers[sigma])
        rest = p2 / 6 if finer is None else finer**2
        field = _blur(field, (sigma**2 - rest) / p2)
    return field[_PAD:-_PAD, _PAD:-_PAD]


def _lay(grid: Grid, spots: Spots) -> Floats:
    height, width = (n + 2 * _PAD for n in grid.shape)
    p = np.float32(grid.pixel_um)
    x = spots.x.ravel() / p + np.float32(grid.shape[1] / 2 - 0.5 + _PAD)
    y = spots.y.ravel() / p + np.float32(grid.shape[0] / 2 - 0.5 + _PAD)
    inside = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
    x, y, mass = x[inside], y[inside], spots.mass.ravel()[inside] / p**2
    column, row = np.rint(x), np.rint(y)
    wx, wy = _weights(x - column), _weights(y - row)
    corner = ((row - 1) * width + column - 1).astype(np.int64)
    index = np.concatenate([corner + (i * width + j) for i in range(3) for j in range(3)])
    weight = np.concatenate([mass * wy[i] * wx[j] for i in range(3) for j in range(3)])
    return np.bincount(index, weight, height * width).astype(np.float32).reshape(height, width)


def _weights(f: Floats) -> tuple[Floats, Floats, Floats]:
    """Of the quadratic B-spline, for a spot `f` pixels right of the middle of three."""
    half = np.float32(0.5)
    return half * (half - f) ** 2, np.float32(0.75) - f**2, half * (half + f) ** 2


def _blur(field: Floats, variance_px: float) -> Floats:
    if variance_px < 1e-3:
        return field
    reach = min(_PAD, max(1, int(np.ceil(4 * np.sqrt(variance_px)))))
    if variance_px < 0.2:
        # A sampled Gaussian this narrow misses its own variance; three taps hit it exactly.
        kernel = np.array([variance_px / 2, 1 - variance_px, variance_px / 2])
    else:
        kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * variance_px))
        kernel /= kernel.sum()
    for axis in (0, 1):
        field = ndimage.correlate1d(field, kernel, axis=axis, mode="constant")
    return field
