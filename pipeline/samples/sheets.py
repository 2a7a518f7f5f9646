"""Confluent sheets: thick plateaus of touching cells, with borders, holes and wound edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.samples.grid import Grid
from pipeline.samples.interior import Layers, filled
from pipeline.samples.mitosis import draw_round_cells
from pipeline.samples.noise import spectral_noise
from pipeline.samples.resampling import resampled
from pipeline.samples.shapes import dome, least_spacing, outline, patches, ramp, scatter

Floats = NDArray[np.float32]

_MOST_CELLS = 300
_COARSE = 2
"""Sheets are smooth: they are drawn on every second pixel and interpolated."""


def confluent_sheet(rng: np.random.Generator, grid: Grid) -> Floats:
    """A layer over 40 to 100 % of the field; highest about 1."""
    radius = max(float(rng.uniform(6, 20)), least_spacing(grid, _MOST_CELLS) / 1.8)
    coarse = Grid(
        (-(-grid.shape[0] // _COARSE), -(-grid.shape[1] // _COARSE)), grid.pixel_um * _COARSE
    )
    places = scatter(rng, coarse, 1.8 * radius, 1.4 * radius)
    level, border = _tessellation(rng, coarse, places, radius)
    cover = _cover(rng, coarse)
    plateau, relief = float(rng.uniform(0.3, 1.0)), float(rng.uniform(0.0, 0.45))
    ridge = float(rng.uniform(-0.35, 0.35))
    shape = plateau * (1 + 0.25 * level) + (relief - ridge) * (1 - border) + ridge
    cells = Layers.empty(grid)
    cells.height = np.maximum(resampled(cover * np.maximum(shape, 0.05), grid.shape), 0)
    cells.cytoplasm = np.clip(resampled(cover, grid.shape), 0, 1)
    _nuclei(rng, grid, cells, places, radius)
    dividing = rng.random(len(places)) < rng.choice([0.0, 0.02, 0.08])
    highest = plateau + relief + 0.3
    draw_round_cells(
        rng, grid, cells, places[dividing], np.full(dividing.sum(), 0.6 * radius), highest
    )
    return filled(rng, grid, cells) / np.float32(highest)


def _tessellation(
    rng: np.random.Generator, grid: Grid, places: NDArray[np.float64], radius: float
) -> tuple[Floats, Floats]:
    """Each cell's own level (about ±1), and 0 within cells to 1 on the borders between them.

    Softened Voronoi cells: every place has a weight that falls with the distance, by `sharp` to
    the micrometer; where one weight dominates is that place's cell. The plane is warped first, so
    that borders are not straight.
    """
    total = np.full(grid.shape, 1e-12, np.float32)
    squares, levels = np.full(grid.shape, 1e-24, np.float32), np.zeros(grid.shape, np.float32)
    sharp = np.float32(rng.uniform(0.5, 1.4))
    size = float(rng.uniform(0.05, 0.3)) * radius
    warp = [
        np.float32(size)
        * spectral_noise(rng, grid, exponent=2.5, longest_um=2 * radius, shortest_um=0.4 * radius)
        for _ in range(2)
    ]
    own = rng.standard_normal(len(places)).clip(-2, 2).astype(np.float32)
    aspect = float(np.exp(rng.exponential(0.25)))
    reach = np.full(len(places), 2.4 * radius * np.sqrt(aspect) + 3 * size)
    for k, patch in enumerate(patches(grid, places, reach)):
        if patch is None:
            continue
        dx = (patch.dx + warp[0][patch.where]) * np.float32(np.sqrt(aspect))
        dy = (patch.dy + warp[1][patch.where]) * np.float32(1 / np.sqrt(aspect))
        weight = np.exp(-sharp * np.sqrt(dx * dx + dy * dy))
        total[patch.where] += weight
        weight_squared = weight * weight
        squares[patch.where] += weight_squared
        levels[patch.where] += own[k] * weight_squared
    purity = squares / (total * total)
    return levels / squares, np.clip(2 * (1 - purity), 0, 1)


def _cover(rng: np.random.Generator, grid: Grid) -> Floats:
    """1 where the sheet lies, 0 in holes and beyond wounds; its edge is a slope of some µm."""
    kind = rng.random()
    if kind < 0.12:
        return np.ones(grid.shape, np.float32)
    wide = float(rng.uniform(30, 120))
    ragged = spectral_noise(rng, grid, exponent=2.2, longest_um=wide, shortest_um=4.0)
    if kind < 0.5:
        # A wound: ragged but straight on the whole.
        turn = rng.uniform(0, 2 * np.pi)
        across = np.cos(turn) * grid.x() + np.sin(turn) * grid.y()[:, None]
        distance = across + np.float32(rng.uniform(-0.05, 0.45) * 2 * min(grid.half_um))
        field = distance + np.float32(rng.uniform(3, 15)) * ragged
    else:
        field = (ragged + np.float32(rng.uniform(-0.1, 2.0))) * np.float32(0.25 * wide)
    return ramp(field.astype(np.float32), float(rng.uniform(1.5, 8.0)))


def _nuclei(
    rng: np.random.Generator,
    grid: Grid,
    cells: Layers,
    places: NDArray[np.float64],
    radius: float,
) -> None:
    mean, mound = float(rng.uniform(0.35, 0.6)) * radius, float(rng.uniform(-0.15, 0.4))
    envelope = float(rng.choice([0.0, 1.0])) * float(rng.uniform(0.02, 0.1))
    nucleoli = float(rng.uniform(0.05, 0.35))
    radii = mean * np.exp(0.1 * rng.standard_normal(len(places)))
    for k, patch in enumerate(patches(grid, places, 1.7 * radii + 1.0)):
        if patch is None:
            continue
        rho, toward = patch.polar()
        edge = outline(rng, radii[k], 0.07, float(rng.uniform(1, 1.6)))[toward]
        under = cells.cytoplasm[patch.where]
        values = np.float32(mound) * dome(rho / edge, 0.5)
        if envelope:
            values += np.float32(envelope) * np.exp(-(((edge - rho) / 0.45) ** 2))
        for _ in range(int(rng.integers(1, 5))):
            far, turn = 0.6 * radii[k] * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
            spot = float(rng.uniform(0.12, 0.28)) * radii[k]
            near = patch.moved(far * np.cos(turn), far * np.sin(turn)).within(2.6 * spot)
            cells.detail[near.where] += (
                cells.cytoplasm[near.where]
                * np.float32(nucleoli)
                * np.exp(-(near.dx**2 + near.dy**2) * np.float32(1 / spot**2))
            )
        cells.detail[patch.where] += values * under
        inside = ramp(edge - rho, 1.0) * under
        np.maximum(cells.nucleus[patch.where], inside, out=cells.nucleus[patch.where])
