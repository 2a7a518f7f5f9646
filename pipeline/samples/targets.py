"""Targets of known shape that do not change: phase steps (beads, bars, lenses), an absorbing grating, nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.experiment import TargetSpecimen
from pipeline.samples.grid import Grid, checked_indices
from pipeline.samples.seeding import matern_points

Floats = NDArray[np.float32]

_BEADS = 10
_SUPERSAMPLING = 4
# Amplitude that a ruling's lines absorb.
_CHROME = np.float32(0.9)
MICROLENS_PITCH = 1.25
"""From one microlens to the next, in diameters."""


class PhaseTarget:
    """A target that absorbs nothing, but for a grating; only beads differ from position to position.

    Parameters
    ----------
    spec
        Shape, size in µm and height in radians.
    seed
        Decides where beads lie.
    """

    def __init__(self, spec: TargetSpecimen, *, seed: int) -> None:
        self.spec = spec
        self.seed = seed
        self._drawn = lru_cache(maxsize=4)(self._draw)

    def __reduce__(
        self,
    ) -> tuple[Callable[[TargetSpecimen, int], PhaseTarget], tuple[TargetSpecimen, int]]:
        return _rebuild, (self.spec, self.seed)

    def render(
        self, timepoint: float, position: int, shape: tuple[int, int], pixel_um: float
    ) -> tuple[Floats, Floats]:
        """As `Specimen.render`; the same at every timepoint."""
        checked_indices(timepoint, position)
        if self.spec.shape == "grating":
            spec = self.spec
            lines = grating(Grid(shape, pixel_um), spec.size_um, spec.rotation_deg, spec.line_share)
            return np.zeros(shape, np.float32), _CHROME * lines
        phase = self._drawn(position if self.spec.shape == "beads" else 0, tuple(shape), pixel_um)
        return phase.copy(), np.zeros(shape, np.float32)

    def _draw(self, position: int, shape: tuple[int, int], pixel_um: float) -> Floats:
        grid = Grid(shape, pixel_um)
        size, height = self.spec.size_um, self.spec.phase_rad
        if self.spec.shape == "beads":
            return height * caps(grid, self._beads(grid, position), size / 2, 0.5)
        if self.spec.shape == "microlenses":
            return height * caps(
                grid, _lattice(grid, size * MICROLENS_PITCH, size / 2), size / 2, 1.0
            )
        if self.spec.shape == "bars":
            return height * bars(grid, size)
        return np.zeros(shape, np.float32)

    def _beads(self, grid: Grid, position: int) -> NDArray[np.float64]:
        size = self.spec.size_um
        tile = max(200.0, 8 * size)
        density = 0.12 / (np.pi / 4 * size**2)
        found = [
            matern_points(self.seed, _BEADS, position, t, tile, density, 1.1 * size)
            for t in grid.tiles(tile, size)
        ]
        return np.concatenate(found)[:, :2]


def _rebuild(spec: TargetSpecimen, seed: int) -> PhaseTarget:
    return PhaseTarget(spec, seed=seed)


def caps(grid: Grid, xy_um: NDArray[np.float64], radius_um: float, power: float) -> Floats:
    """Caps ``(1 - (ρ/R)²)^power`` of height 1, as pixel means ``[Y, X]``.

    Power ½ is what light sees of a sphere, power 1 is a microlens.
    """
    field = np.zeros(grid.shape, np.float32)
    p, n = grid.pixel_um, _SUPERSAMPLING
    offsets = (np.arange(n) + 0.5) / n - 0.5
    reach = int(np.ceil(radius_um / p)) + 1
    rows, columns = grid.shape
    for x, y in xy_um:
        column, row = int(np.floor(x / p + columns / 2)), int(np.floor(y / p + rows / 2))
        top, bottom = max(row - reach, 0), min(row + reach + 1, rows)
        left, right = max(column - reach, 0), min(column + reach + 1, columns)
        if top >= bottom or left >= right:
            continue
        sub_y = ((np.arange(top, bottom)[:, None] + 0.5 - rows / 2 + offsets) * p).ravel() - y
        sub_x = ((np.arange(left, right)[:, None] + 0.5 - columns / 2 + offsets) * p).ravel() - x
        inside = np.clip(1 - (sub_y[:, None] ** 2 + sub_x**2) / radius_um**2, 0, None) ** power
        means = inside.reshape(bottom - top, n, right - left, n).mean((1, 3))
        field[top:bottom, left:right] = np.maximum(field[top:bottom, left:right], means)
    return field


def _lattice(grid: Grid, pitch_um: float, margin_um: float) -> NDArray[np.float64]:
    """``[n, 2]`` square lattice with a point at the origin."""
    half_y, half_x = grid.half_um
    nx, ny = (int(np.floor((half + margin_um) / pitch_um)) for half in (half_x, half_y))
    x, y = np.meshgrid(np.arange(-nx, nx + 1), np.arange(-ny, ny + 1))
    return np.asarray(np.stack([x.ravel(), y.ravel()], axis=1) * pitch_um, np.float64)


def bars(grid: Grid, width_um: float) -> Floats:
    """A resolution chart of height 1: triplets of bars, upright and lying, ``[Y, X]`` pixel means.

    An element holds three bars of width w and length 5w with gaps of w, upright on the left and
    lying on the right. The widths shrink by √2 from one element to the next, down the chart, from
    `width_um` in six steps; the chart repeats over the field.
    """
    field = np.zeros(grid.shape, np.float32)
    widths = width_um * 2.0 ** (-np.arange(6) / 2)
    tall = float(sum(7 * w for w in widths))
    wide = 14 * width_um
    half_y, half_x = grid.half_um
    for i in range(-int(np.ceil(half_x / wide)) - 1, int(np.ceil(half_x / wide)) + 1):
        for j in range(-int(np.ceil(half_y / tall)) - 1, int(np.ceil(half_y / tall)) + 1):
            y0 = (j + 0.5) * tall
            for w in widths:
                x0 = (i + 0.5) * wide
                for k in range(3):
                    near, far = 2 * k * w, (2 * k + 1) * w
                    _box(field, grid, (x0 + near, x0 + far), (y0, y0 + 5 * w))
                    _box(field, grid, (x0 + 7 * w, x0 + 12 * w), (y0 + near, y0 + far))
                y0 += 7 * w
    return field


def grating(grid: Grid, period_um: float, rotation_deg: float, line_share: float) -> Floats:
    """Dark lines of height 1 across the direction `rotation_deg`, ``[Y, X]`` pixel means.

    The first line begins at the origin; `line_share` is a line's width in periods.
    """
    a, n = np.deg2rad(rotation_deg), _SUPERSAMPLING
    offsets = (np.arange(n) + 0.5) / n - 0.5
    field = np.zeros(grid.shape, np.float64)
    # A pixel's extent across the lines: a run of samples along it has each its share by the integral.
    reach = grid.pixel_um * (abs(np.cos(a)) + abs(np.sin(a))) / n
    for dy in offsets:
        for dx in offsets:
            x = grid.x().astype(np.float64) + dx * grid.pixel_um
            y = grid.y().astype(np.float64) + dy * grid.pixel_um
            across = np.cos(a) * x + np.sin(a) * y[:, None]
            ends = [
                _dark_length((across + side * reach / 2) / period_um, line_share)
                for side in (-1, 1)
            ]
            field += (ends[1] - ends[0]) * period_um / reach
    return (field / n**2).astype(np.float32)


def _dark_length(periods: NDArray[np.float64], line_share: float) -> NDArray[np.float64]:
    """Periods in the dark from the origin to here."""
    whole = np.floor(periods)
    return np.asarray(whole * line_share + np.minimum(periods - whole, line_share))


def _box(field: Floats, grid: Grid, x_um: tuple[float, float], y_um: tuple[float, float]) -> None:
    """Adds a rectangle by its exact share of each pixel."""
    (left, across), (top, down) = (
        _coverage(edges, size, grid.pixel_um)
        for edges, size in ((x_um, grid.shape[1]), (y_um, grid.shape[0]))
    )
    field[top : top + len(down), left : left + len(across)] += down[:, None] * across


def _coverage(edges_um: tuple[float, float], size: int, pixel_um: float) -> tuple[int, Floats]:
    start, stop = (np.clip(e / pixel_um + size / 2, 0, size) for e in edges_um)
    first, last = int(np.floor(start)), int(np.ceil(stop))
    pixels = np.arange(first, last)
    share = np.minimum(pixels + 1, stop) - np.maximum(pixels, start)
    return first, np.clip(share, 0, 1).astype(np.float32)
