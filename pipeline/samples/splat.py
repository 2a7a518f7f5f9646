"""Many small bright spots drawn onto a grid at once, each at its exact place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pipeline.samples.grid import Grid

Floats = NDArray[np.float32]

FINE_UM, MIDDLE_UM, COARSE_UM = 0.27, 0.5, 0.95
"""Standard deviations of the spots. The finest is just below what NA 0.4 resolves at 0.55 µm."""

_STEPS = 512
"""Places within a pixel that are told apart: a thousandth of a pixel is nearer than anything can see."""
_LEAST_RAD = 5e-4
"""Spots with a lower peak are left out."""
_CHUNK = 65536
"""Stamped pixels laid at once: they stay in the processor's cache."""


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
    """Exact pixel means of the spots' sum, ``[Y, X]`` in radians; zero away from them.

    Parameters
    ----------
    layers
        Spots by their standard deviation in µm.

    Notes
    -----
    A Gaussian's mean over a pixel is a product of one factor a row and one a column. The factors
    are tabulated for places within a pixel, so that a spot costs two look-ups and one small outer
    product.
    """
    # Wide enough for every stamp that touches the field, and for the rest of that stamp.
    pad = 2 * max(_reach(sigma, grid.pixel_um) for sigma in layers) + 1
    rows, columns = (n + 2 * pad for n in grid.shape)
    field = np.zeros(rows * columns, np.float32)
    for sigma, spots in layers.items():
        reach = _reach(sigma, grid.pixel_um)
        stamp = _factors(sigma / grid.pixel_um, reach)
        offset = np.arange(-reach, reach + 1)
        window = offset[:, None] * columns + offset
        x = spots.x / np.float32(grid.pixel_um) + np.float32(grid.shape[1] / 2 + pad)
        y = spots.y / np.float32(grid.pixel_um) + np.float32(grid.shape[0] / 2 + pad)
        inside = (x >= reach) & (x < columns - reach) & (y >= reach) & (y < rows - reach)
        inside &= np.abs(spots.mass) > _LEAST_RAD * Spots.peak_to_mass(sigma)
        x, y, mass = x[inside], y[inside], spots.mass[inside] / np.float32(grid.pixel_um**2)
        column, row = x.astype(np.int64), y.astype(np.int64)
        across = stamp[((x - column) * _STEPS).astype(np.int64)]
        down = stamp[((y - row) * _STEPS).astype(np.int64)] * mass[:, None]
        middle = row * columns + column
        at_once = max(1, _CHUNK // window.size)
        for start in range(0, len(middle), at_once):
            part = slice(start, start + at_once)
            index = middle[part, None, None] + window
            np.add.at(field, index.ravel(), (down[part, :, None] * across[part, None, :]).ravel())
    return field.reshape(rows, columns)[pad:-pad, pad:-pad]


def _reach(sigma_um: float, pixel_um: float) -> int:
    """Pixels on either side of the middle one that a spot is drawn on."""
    return int(np.ceil(3.3 * np.hypot(sigma_um / pixel_um, 0.29)))


def _factors(sigma_px: float, reach: int) -> Floats:
    """``[_STEPS, 2 reach + 1]`` share of a unit Gaussian in each pixel, by its place in the middle one."""
    place = (np.arange(_STEPS) + 0.5)[:, None] / _STEPS
    edges = np.arange(-reach, reach + 2)
    below = special.ndtr((edges - place) / sigma_px)
    share = np.diff(below, axis=1)
    return np.asarray(share / share.sum(1, keepdims=True), np.float32)
