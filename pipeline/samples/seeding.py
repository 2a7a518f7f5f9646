"""Random numbers that are a pure function of what they are for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def generator(seed: int, *key: int) -> np.random.Generator:
    """Stream of its own for each key; integers of either sign."""
    folded = tuple(2 * k if k >= 0 else -2 * k - 1 for k in key)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=folded)))


def matern_points(
    seed: int,
    domain: int,
    position: int,
    tile: tuple[int, int],
    tile_um: float,
    density: float,
    gap_um: float,
) -> NDArray[np.float64]:
    """Points of one square tile of an endless plane that keep a distance from each other.

    A Matérn hard-core process of type II: of two candidates closer than `gap_um`, the one with the
    lower mark stays. It needs the neighbouring tiles' candidates only, so a tile never depends on
    how much of the plane is looked at.

    Parameters
    ----------
    density
        Points per µm² that remain on average.
    gap_um
        Wanted distance; made smaller where the density leaves no room, and at most one tile.

    Returns
    -------
    ``[n, 3]`` x and y in µm, and the candidate's number in its tile.

    References
    ----------
    B. Matérn, Spatial Variation, Springer 1986.
    """
    if density <= 0:
        return np.empty((0, 3))
    gap = min(gap_um, np.sqrt(0.7 / (np.pi * density)), tile_um)
    disc = np.pi * gap**2
    raw = -np.log1p(-density * disc) / disc if disc > 0 else density
    own = _candidates(seed, domain, position, tile, tile_um, raw)
    around = np.concatenate(
        [
            _candidates(seed, domain, position, (tile[0] + i, tile[1] + j), tile_um, raw)
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
        ]
    )
    close = ((own[:, None, :2] - around[None, :, :2]) ** 2).sum(2) < gap**2
    beaten = (close & (around[None, :, 2] < own[:, None, 2])).any(1)
    numbered = np.column_stack([own[:, :2], np.arange(len(own))])
    return np.asarray(numbered[~beaten])


def _candidates(
    seed: int, domain: int, position: int, tile: tuple[int, int], tile_um: float, density: float
) -> NDArray[np.float64]:
    rng = generator(seed, domain, position, *tile)
    xyu = rng.random((rng.poisson(density * tile_um**2), 3))
    xyu[:, :2] = (xyu[:, :2] + tile) * tile_um
    return xyu
