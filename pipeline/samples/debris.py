"""Bits and pieces that drift about between the cells."""

from __future__ import annotations

import numpy as np

from pipeline.samples.grid import Grid
from pipeline.samples.seeding import generator, matern_points
from pipeline.samples.splat import COARSE_UM, FINE_UM, MIDDLE_UM, Spots
from pipeline.samples.style import CultureStyle

_PLACES, _PIECES = 3, 4
_TILE_UM = 200.0
_DRIFT_UM = 4.0


def debris_spots(
    seed: int, position: int, time_h: float, grid: Grid, style: CultureStyle, peak_phase_rad: float
) -> dict[float, Spots]:
    """Clumps of a few spots each, by size of spot."""
    found: dict[float, list[Spots]] = {FINE_UM: [], MIDDLE_UM: [], COARSE_UM: []}
    for tile in grid.tiles(_TILE_UM, 3 * _DRIFT_UM):
        places = matern_points(
            seed, _PLACES, position, tile, _TILE_UM, style.debris_per_mm2 * 1e-6, 10.0
        )
        u = generator(seed, _PIECES, position, *tile).random((len(places), 6, 4))
        if not len(places):
            continue
        swing = 2 * np.pi * (time_h / (1.0 + 3 * u[:, :1, 0]) + u[:, :1, 1])
        x = places[:, :1] + _DRIFT_UM * np.cos(swing) * u[:, :1, 2] + 2.4 * (u[..., 0] - 0.5)
        y = places[:, 1:2] + _DRIFT_UM * np.sin(swing) * u[:, :1, 3] + 2.4 * (u[..., 1] - 0.5)
        for k, sigma in enumerate((FINE_UM, MIDDLE_UM, COARSE_UM)):
            which = slice(2 * k, 2 * k + 2)
            peak = (0.1 + 0.2 * u[:, which, 2]) * (u[:, which, 3] < 0.7) * peak_phase_rad / 2
            found[sigma].append(
                Spots(
                    x[:, which].astype(np.float32).ravel(),
                    y[:, which].astype(np.float32).ravel(),
                    (peak * Spots.peak_to_mass(sigma)).astype(np.float32).ravel(),
                )
            )
    return {sigma: Spots.join(parts) for sigma, parts in found.items()}
