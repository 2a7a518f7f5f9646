"""Matter without cells: clouds in ragged islands, foam, and overlapping leaves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.samples.grid import Grid
from pipeline.samples.leaves import dead_leaves
from pipeline.samples.noise import spectral_noise
from pipeline.samples.shapes import ramp

Floats = NDArray[np.float32]


def islands(rng: np.random.Generator, grid: Grid) -> Floats:
    """Random fields with power-law spectra where a smoother one is high; highest about 1."""
    wide = float(np.exp(rng.uniform(np.log(10), np.log(80))))
    where = spectral_noise(rng, grid, exponent=2.5, longest_um=wide, shortest_um=0.15 * wide)
    where += np.float32(rng.uniform(-1.0, 1.0))
    edge = float(np.exp(rng.uniform(np.log(0.1), np.log(2.5))))
    mask = ramp(where, edge)
    matter = spectral_noise(
        rng,
        grid,
        exponent=float(rng.uniform(1.2, 2.4)),
        longest_um=float(np.exp(rng.uniform(np.log(4), np.log(60)))),
        stretch=float(np.exp(rng.uniform(0, 1))),
        turn_rad=float(rng.uniform(0, np.pi)),
    )
    kind = rng.random()
    if kind < 0.25:
        matter = np.abs(matter)  # creases
    elif kind < 0.4:
        matter = 1 - np.abs(matter)  # walls of foam
    contrast = np.float32(np.exp(rng.uniform(np.log(0.05), np.log(0.5))))
    return np.asarray(mask * np.clip(1 + contrast * matter, 0, 3))


def leaves(rng: np.random.Generator, grid: Grid) -> Floats:
    """`dead_leaves`, few to many; highest 1."""
    return dead_leaves(rng, grid, cover=float(rng.uniform(0.2, 2.0)), height_rad=1.0)
