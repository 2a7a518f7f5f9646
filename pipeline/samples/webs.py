"""Long thin things: neurites with their swellings and cell bodies, fibres of a network, hyphae."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.samples.grid import Grid
from pipeline.samples.interior import Layers, filled
from pipeline.samples.noise import clouds
from pipeline.samples.shapes import dome, outline, patches, raise_to, scatter
from pipeline.samples.splat import COARSE_UM, FINE_UM, MIDDLE_UM, Spots, draw

Floats = NDArray[np.float32]

_STEP_UM = 0.4
_MOST_STEPS = 120_000


def thread_web(rng: np.random.Generator, grid: Grid) -> Floats:
    """Threads that wander, branch by crossing, and begin at cell bodies or anywhere; highest about 1."""
    half_y, half_x = grid.half_um
    extent = np.array([half_x, half_y])
    bodies = rng.random() < 0.6
    if bodies:
        radius = float(rng.uniform(4, 9))
        somata = scatter(rng, grid, radius * float(rng.uniform(4, 12)), 2 * radius)
        begin = np.repeat(somata, rng.integers(1, 6, len(somata)), axis=0)
    else:
        radius, somata = 0.0, np.empty((0, 2))
        begin = rng.uniform(-1.1, 1.1, (int(rng.integers(20, 160)), 2)) * extent
    length = float(rng.uniform(20, 200))
    steps = max(8, min(int(length / _STEP_UM), _MOST_STEPS // max(len(begin), 1)))
    xy = _walks(rng, begin, steps, curl=float(np.exp(rng.uniform(np.log(0.01), np.log(0.12)))))
    sigma = (FINE_UM, MIDDLE_UM, COARSE_UM)[int(rng.integers(3))]
    field = _beaded(rng, grid, xy, sigma)
    if not bodies:
        return field
    cells = Layers.empty(grid)
    cells.detail = field * np.float32(rng.uniform(0.25, 0.8))
    for patch in patches(grid, somata, np.full(len(somata), 2 * radius + 1)):
        if patch is None:
            continue
        rho, toward = patch.polar()
        ratio = rho / outline(rng, radius, 0.15, float(rng.uniform(1, 1.8)))[toward]
        raise_to(cells.height, patch, dome(ratio, 0.6))
        raise_to(cells.cytoplasm, patch, np.clip(3 * (1 - ratio), 0, 1))
        raise_to(cells.nucleus, patch, np.clip(3 - 6 * ratio, 0, 1))
    return filled(rng, grid, cells)


def _walks(
    rng: np.random.Generator, begin: NDArray[np.float64], steps: int, curl: float
) -> NDArray[np.float64]:
    """``[N, steps, 2]`` paths of steady pace whose direction diffuses and swings."""
    turn = rng.uniform(0, 2 * np.pi, (len(begin), 1))
    turn = turn + np.cumsum(curl * rng.standard_normal((len(begin), steps)), axis=1)
    path = np.stack([np.cos(turn), np.sin(turn)], 2) * _STEP_UM
    return np.asarray(begin[:, None] + np.cumsum(path, axis=1))


def _beaded(rng: np.random.Generator, grid: Grid, xy: NDArray[np.float64], sigma: float) -> Floats:
    """Threads of unit height, thicker here and there, thinning out."""
    number, steps = xy.shape[:2]
    along = np.arange(steps) * _STEP_UM
    phase, period = rng.uniform(0, 2 * np.pi, (number, 1)), rng.uniform(4, 15, (number, 1))
    beads = np.clip(np.cos(2 * np.pi * along / period + phase), 0, 1) ** 8
    taper = 1 - along / (along[-1] + 1) * rng.random((number, 1))
    height = np.exp(0.3 * rng.standard_normal((number, 1))) * taper
    # So closely set, spots add up to a ridge of √(2π) σ / step times their peak.
    mass = height * (1 + rng.uniform(0, 1.5) * beads) * _STEP_UM * np.sqrt(2 * np.pi) * sigma
    spots = Spots(*(v.astype(np.float32).ravel() for v in (xy[..., 0], xy[..., 1], mass)))
    field = draw(grid, {sigma: spots})
    return np.maximum(field * (1 + np.float32(0.06) * clouds(rng, grid)), 0)
