"""Outlines, profiles and places that drawn specimens are put together from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pipeline.samples.grid import Grid

Floats = NDArray[np.float32]

ANGLES = 1024
_THETA = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)
_ORDERS = np.arange(2, 14)
_WAVES = np.concatenate([np.cos(_ORDERS[:, None] * _THETA), np.sin(_ORDERS[:, None] * _THETA)])
_PUSHES = 12
"""Rounds in which places too close to each other move apart."""


@dataclass(frozen=True)
class Patch:
    """The pixels around a place: their slices, and their distance from it in µm."""

    where: tuple[slice, slice]
    dx: Floats
    dy: Floats

    def polar(self) -> tuple[Floats, NDArray[np.int32]]:
        """Distance in µm, and direction as an index into a table of `ANGLES`."""
        rho = np.sqrt(self.dx * self.dx + self.dy * self.dy)
        turn = np.arctan2(self.dy, self.dx) * np.float32(ANGLES / (2 * np.pi))
        return rho, turn.astype(np.int32) % ANGLES

    def turned(self, turn_rad: float) -> tuple[Floats, Floats]:
        """Distance along a direction and across it, in µm."""
        c, s = np.float32(np.cos(turn_rad)), np.float32(np.sin(turn_rad))
        return c * self.dx + s * self.dy, c * self.dy - s * self.dx

    def within(self, reach_um: float) -> Patch:
        """Its pixels near the place: a small square, maybe an empty one."""
        left, right = np.searchsorted(self.dx[0], (-reach_um, reach_um))
        top, bottom = np.searchsorted(self.dy[:, 0], (-reach_um, reach_um))
        near = slice(top, bottom), slice(left, right)
        rows, columns = (
            slice(whole.start + part.start, whole.start + part.stop)
            for whole, part in zip(self.where, near, strict=True)
        )
        return Patch((rows, columns), self.dx[near], self.dy[near])

    def moved(self, x_um: float, y_um: float) -> Patch:
        """The same pixels, seen from another place."""
        return Patch(self.where, self.dx - np.float32(x_um), self.dy - np.float32(y_um))


def patches(
    grid: Grid, xy_um: NDArray[np.float64], reach_um: NDArray[np.float64]
) -> Iterator[Patch | None]:
    """The pixels within reach of each place; None where the field ends before."""
    x, y = grid.x(), grid.y()
    left = np.searchsorted(x, xy_um[:, 0] - reach_um)
    right = np.searchsorted(x, xy_um[:, 0] + reach_um)
    top = np.searchsorted(y, xy_um[:, 1] - reach_um)
    bottom = np.searchsorted(y, xy_um[:, 1] + reach_um)
    for k in range(len(xy_um)):
        if left[k] >= right[k] or top[k] >= bottom[k]:
            yield None
            continue
        rows, columns = slice(top[k], bottom[k]), slice(left[k], right[k])
        dx = x[columns] - np.float32(xy_um[k, 0])
        dy = y[rows, None] - np.float32(xy_um[k, 1])
        shape = (len(dy), len(dx))
        yield Patch((rows, columns), np.broadcast_to(dx, shape), np.broadcast_to(dy, shape))


def least_spacing(grid: Grid, most: int) -> float:
    """Of places in µm, so that about `most` lie in the field: drawing one by one takes time."""
    half_y, half_x = grid.half_um
    return float(np.sqrt(4 * half_x * half_y / most))


def scatter(
    rng: np.random.Generator, grid: Grid, spacing_um: float, gap_um: float, clumping: float = 0.0
) -> NDArray[np.float64]:
    """``[N, 2]`` places with one in `spacing_um`², hardly any two closer than `gap_um`, also around the field.

    With `clumping` (0 … 1) they keep to some regions, where they are as dense as without.
    """
    half_y, half_x = grid.half_um
    reach = np.array([half_x, half_y]) + 2 * spacing_um
    points = rng.uniform(-1, 1, (rng.poisson(4 * reach.prod() / spacing_um**2), 2)) * reach
    for _ in range(_PUSHES):
        one, other = KDTree(points).query_pairs(gap_um, output_type="ndarray").T
        apart = points[one] - points[other]
        distance = np.maximum(np.hypot(*apart.T), 1e-6)
        push = 0.6 * apart * (gap_um / distance - 1)[:, None]
        np.add.at(points, one, push)
        np.add.at(points, other, -push)
    if clumping > 0:
        waves = rng.normal(0, 1 / (6 * spacing_um), (10, 2))
        level = np.cos(points @ waves.T * 2 * np.pi + rng.uniform(0, 2 * np.pi, 10)).mean(1)
        points = points[level > 0.5 * clumping - 0.3]
    return np.asarray(points)


def outline(
    rng: np.random.Generator, radius_um: float, irregularity: float, aspect: float, spikes: int = 0
) -> Floats:
    """``[ANGLES]`` a smooth closed curve's distance from its middle in µm."""
    turn = rng.uniform(0, 2 * np.pi)
    r = radius_um / np.sqrt(
        np.cos(_THETA - turn) ** 2 / aspect + np.sin(_THETA - turn) ** 2 * aspect
    )
    size = irregularity * rng.standard_normal((2, len(_ORDERS))) / _ORDERS**1.3
    log = size.ravel() @ _WAVES
    r = r * np.exp(np.clip(log, -0.8, 0.8))
    for _ in range(spikes):
        toward, length, sharp = (
            rng.uniform(0, 2 * np.pi),
            rng.uniform(0.2, 1.2),
            np.exp(rng.uniform(2.7, 7.0)),
        )
        r = r * (1 + length * np.exp(sharp * (np.cos(_THETA - toward) - 1)))
    return np.asarray(r, np.float32)


def dome(ratio: Floats, power: float) -> Floats:
    """``(1 - ratio²)^power`` within 1, its foot rounded off: ½ a ball, 1 a lens, less a plateau."""
    inside = np.clip(1 - ratio * ratio, 0, None)
    if power >= 1:
        return np.asarray(inside ** np.float32(power))
    return np.asarray(inside ** np.float32(power) * (inside / (inside + np.float32(0.06))))


def ramp(distance: Floats, width_um: float) -> Floats:
    """Smooth step from 0 at 0 to 1 at `width_um`."""
    t = np.clip(distance * np.float32(1 / width_um), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def raise_to(field: Floats, patch: Patch, values: Floats) -> None:
    """The higher of both, in place."""
    part = field[patch.where]
    np.maximum(part, values, out=part)
