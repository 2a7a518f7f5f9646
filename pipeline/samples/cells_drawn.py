"""Spread cells on a support, drawn one by one: lamella, dome, nucleus, and what crosses the edge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.samples.grid import Grid
from pipeline.samples.interior import Layers, filled
from pipeline.samples.mitosis import draw_round_cells
from pipeline.samples.shapes import (
    Patch,
    dome,
    least_spacing,
    outline,
    patches,
    raise_to,
    ramp,
    scatter,
)

Floats = NDArray[np.float32]

_MOST_CELLS = 160
_ROUNDED = 45
"""Of `ANGLES`: an outline's details of less than this don't reach the thick middle."""


def spread_cells(rng: np.random.Generator, grid: Grid) -> Floats:
    """A culture of one kind of cell, sparse to crowded, some of them dividing; highest about 1."""
    cells = Layers.empty(grid)
    radius = float(rng.uniform(7, 22))
    crowding = float(np.exp(rng.uniform(np.log(1.5), np.log(5.0))))
    radius = max(radius, least_spacing(grid, _MOST_CELLS) / crowding)
    spacing = radius * crowding
    places = scatter(
        rng, grid, spacing, min(1.3 * radius, 0.8 * spacing), float(rng.choice([0, rng.random()]))
    )
    kind = _Kind(rng)
    radii = radius * np.exp(0.18 * rng.standard_normal(len(places)).clip(-2, 2))
    dividing = rng.random(len(places)) < rng.choice([0.0, 0.05, 0.2])
    outlines = [kind.edge(rng, r) for r in radii]
    reach = np.array([o.max() for o in outlines] or [0.0]) + 1.5
    for k, patch in enumerate(patches(grid, places, reach[: len(places)])):
        if patch is not None and not dividing[k]:
            kind.draw(rng, cells, patch, radii[k], outlines[k])
    draw_round_cells(rng, grid, cells, places[dividing], 0.6 * radii[dividing])
    return filled(rng, grid, cells)


class _Kind:
    """What the cells of one culture have in common."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.irregularity = float(rng.uniform(0.05, 0.5))
        self.aspect = float(np.exp(rng.exponential(0.4)))
        self.spikes = int(rng.choice([0, 1, 3, 6]))
        self.lamella = float(rng.uniform(0.05, 0.45))
        self.rim_um = float(rng.uniform(0.7, 2.2))
        self.power = float(np.exp(rng.uniform(np.log(0.25), np.log(1.4))))
        self.core = float(rng.uniform(0.65, 1.0))
        self.nucleus = float(rng.uniform(0.3, 0.6))
        self.mound = float(rng.uniform(-0.1, 0.6))
        self.envelope = float(rng.choice([0.0, 1.0])) * float(rng.uniform(0.02, 0.1))
        self.nucleoli = float(rng.uniform(0.05, 0.4))
        self.ruffles = float(rng.choice([0.0, 1.0])) * float(rng.uniform(0.05, 0.35))
        self.overlapping = bool(rng.random() < 0.5)

    def edge(self, rng: np.random.Generator, radius: float) -> Floats:
        aspect = min(1 + (self.aspect - 1) * float(rng.uniform(0.5, 1.3)), 5.0)
        spikes = int(rng.integers(0, self.spikes + 1))
        return outline(rng, radius, self.irregularity, aspect, spikes)

    def draw(
        self, rng: np.random.Generator, cells: Layers, patch: Patch, radius: float, edge: Floats
    ) -> None:
        rho, toward = patch.polar()
        end = edge[toward]
        inside = end - rho
        rim = ramp(inside, self.rim_um)
        high = float(np.exp(0.2 * rng.standard_normal()))
        shape = self.lamella * rim
        # Spikes are thin: the dome keeps to the body, whose outline is rounder.
        body = ndimage.gaussian_filter1d(
            np.minimum(edge, 1.1 * np.quantile(edge, 0.85)), _ROUNDED, mode="wrap"
        )
        body = (np.float32(self.core) * body)[toward]
        shape += (1 - self.lamella) * dome(rho / body, self.power) * rim
        if self.ruffles:
            fold = np.exp(-(((inside - np.float32(self.rim_um + 0.8)) / np.float32(0.7)) ** 2))
            wave = np.cos(np.arange(len(edge)) * (2 * np.pi / len(edge)) * rng.integers(1, 6))
            shape += (
                np.float32(self.ruffles) * fold * np.clip(wave, 0, 1).astype(np.float32)[toward]
            )
        values = np.float32(high) * shape
        if self.overlapping:
            part = cells.height[patch.where]
            np.sqrt(part * part + values * values, out=part)
        else:
            raise_to(cells.height, patch, values)
        raise_to(cells.cytoplasm, patch, rim * np.float32(rng.uniform(0.6, 1.0)))
        self._nucleus(rng, cells, patch, min(radius, float(edge.min()) * 1.4), high)

    def _nucleus(
        self, rng: np.random.Generator, cells: Layers, patch: Patch, radius: float, high: float
    ) -> None:
        size = radius * self.nucleus
        away, toward = rng.uniform(0, 0.25) * radius, rng.uniform(0, 2 * np.pi)
        own = patch.moved(away * np.cos(toward), away * np.sin(toward))
        rho, direction = own.polar()
        edge = outline(rng, size, 0.06, float(rng.uniform(1, 1.5)))[direction]
        ratio = rho / edge
        mound = np.float32(self.mound * high) * dome(ratio, 0.5)
        if self.envelope:
            mound += np.float32(self.envelope * high) * np.exp(-(((edge - rho) / 0.45) ** 2))
        cells.detail[patch.where] += mound
        raise_to(cells.nucleus, patch, ramp(edge - rho, 1.0))
        for _ in range(int(rng.integers(1, 5))):
            far, turn = size * 0.65 * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
            spot = float(rng.uniform(0.1, 0.28)) * size
            near = own.moved(far * np.cos(turn), far * np.sin(turn)).within(3 * spot)
            squared = (near.dx**2 + near.dy**2) * np.float32(1 / spot**2)
            bump = np.exp(-(squared**2) / 2) if spot > 0.8 else np.exp(-squared)
            cells.detail[near.where] += np.float32(self.nucleoli * high) * bump
