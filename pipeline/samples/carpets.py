"""Wide and faint things that others lie on: lamellae, glia, matrix, biofilm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.samples.grid import Grid
from pipeline.samples.interior import Layers, filled
from pipeline.samples.noise import spectral_noise
from pipeline.samples.shapes import ramp

Floats = NDArray[np.float32]


def faint_carpet(rng: np.random.Generator, grid: Grid) -> Floats:
    """A plateau over some of the field, its rim a step or a slope of tens of µm; highest about 1.

    One frame hardly tells such a slope: a network has to take it from the texture that begins there.
    """
    wide = float(np.exp(rng.uniform(np.log(25), np.log(160))))
    level = spectral_noise(rng, grid, exponent=2.2, longest_um=wide, shortest_um=0.1 * wide)
    ragged = spectral_noise(rng, grid, exponent=2.0, longest_um=12.0, shortest_um=2.0)
    level += np.float32(rng.uniform(0, 0.15)) * ragged
    cover = ramp(
        level + np.float32(rng.uniform(-0.9, 0.9)),
        float(np.exp(rng.uniform(np.log(0.04), np.log(1.5)))),
    )
    uneven = spectral_noise(
        rng, grid, exponent=2.0, longest_um=float(rng.uniform(8, 60)), shortest_um=3.0
    )
    cells = Layers.empty(grid)
    cells.height = np.maximum(cover * (1 + np.float32(rng.uniform(0, 0.2)) * uneven), 0)
    cells.cytoplasm = cover
    texture = filled(rng, grid, cells) - cells.height
    return np.maximum(cells.height + np.float32(rng.uniform(0.1, 1.0)) * texture, 0)
