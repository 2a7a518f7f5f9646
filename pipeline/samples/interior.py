"""What fills drawn cells: granules, droplets, vacuoles, mitochondria, fibres, texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.samples.grid import Grid
from pipeline.samples.noise import clouds, fibres, grains, threads
from pipeline.samples.splat import COARSE_UM, FINE_UM, MIDDLE_UM, Spots, draw

Floats = NDArray[np.float32]


@dataclass
class Layers:
    """Cells as they are drawn, ``[Y, X]`` each.

    Parameters
    ----------
    height
        Phase of the smooth bodies, highest about 1.
    cytoplasm, nucleus
        0 … 1 where there is some, by how much structure it holds.
    detail
        Phase of single things, in the unit of `height`.
    """

    height: Floats
    cytoplasm: Floats
    nucleus: Floats
    detail: Floats

    @staticmethod
    def empty(grid: Grid) -> Layers:
        """Nothing yet."""
        return Layers(*(np.zeros(grid.shape, np.float32) for _ in range(4)))


def filled(rng: np.random.Generator, grid: Grid, cells: Layers) -> Floats:
    """The cells with their fine structure: 1 … 15 % of their height; ``[Y, X]`` ≥ 0."""
    room = cells.cytoplasm * (1 - 0.85 * cells.nucleus)
    # Thin parts have less to show than thick ones, but not in proportion.
    room *= np.sqrt(np.clip(cells.height, 0, 1))
    total = cells.height + cells.detail
    strength = float(np.exp(rng.uniform(np.log(0.5), np.log(2.4))))
    matter = clouds(rng, grid)
    total += matter * (
        np.float32(strength * rng.uniform(0.015, 0.06)) * room
        + np.float32(strength * rng.uniform(0.015, 0.07)) * cells.nucleus
    )
    if rng.random() < 0.75:
        total += np.float32(strength * rng.uniform(0.04, 0.16)) * room * threads(rng, grid)
    if rng.random() < 0.6:
        # Vesicles of water: less phase than around them.
        sign = -0.7 if rng.random() < 0.35 else 1.0
        total += np.float32(sign * strength * rng.uniform(0.06, 0.3)) * room * grains(rng, grid)
    if rng.random() < 0.35:
        total += np.float32(strength * rng.uniform(0.03, 0.14)) * room * fibres(rng, grid)
    total += granules(rng, grid, room, strength * float(rng.uniform(0.05, 0.3)))
    return np.asarray(np.maximum(total, 0))


def granules(rng: np.random.Generator, grid: Grid, room: Floats, peak: float) -> Floats:
    """Round bright spots of three sizes, the denser the more room there is; peaks log-normal."""
    half_y, half_x = grid.half_um
    per_um2 = float(np.exp(rng.uniform(np.log(0.01), np.log(0.35))))
    layers = {}
    for sigma, share in ((FINE_UM, 0.6), (MIDDLE_UM, 0.3), (COARSE_UM, 0.1)):
        n = min(int(share * per_um2 * 4 * half_x * half_y), 40000)
        x, y = rng.uniform(-half_x, half_x, n), rng.uniform(-half_y, half_y, n)
        here = room[grid.pixels_at(x, y)]
        # Squared: crowded where it is thick, around the nucleus, few in the lamella.
        kept = rng.random(n) < here * here
        height = peak * np.exp(0.6 * rng.standard_normal(n)) * here
        layers[sigma] = Spots(
            *(
                v[kept].astype(np.float32)
                for v in (x, y, np.minimum(height, 4 * peak) * Spots.peak_to_mass(sigma))
            )
        )
    return draw(grid, layers)
