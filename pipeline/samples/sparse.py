"""Fields with next to nothing in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.samples.grid import Grid
from pipeline.samples.splat import COARSE_UM, FINE_UM, MIDDLE_UM, Spots, draw

Floats = NDArray[np.float32]


def sparse_debris(rng: np.random.Generator, grid: Grid) -> Floats:
    """Single points and clumps of them, often none at all; highest about 1."""
    half_y, half_x = grid.half_um
    layers = {}
    clumps = int(rng.choice([0, int(rng.integers(1, 8)), int(rng.integers(8, 200))]))
    for sigma in (FINE_UM, MIDDLE_UM, COARSE_UM):
        place = rng.uniform(-1, 1, (clumps, 1, 2)) * (half_x, half_y)
        xy = place + rng.normal(0, 0.8, (clumps, 3, 2))
        peak = rng.random((clumps, 3)) ** 2 * Spots.peak_to_mass(sigma)
        layers[sigma] = Spots(
            *(v.astype(np.float32).ravel() for v in (xy[..., 0], xy[..., 1], peak))
        )
    return draw(grid, layers)
