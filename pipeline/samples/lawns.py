"""Very many bodies near the diffraction limit: bacteria in colonies and films, spirals, colloids."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.samples.grid import Grid
from pipeline.samples.noise import spectral_noise
from pipeline.samples.splat import FINE_UM, MIDDLE_UM, Spots, draw

Floats = NDArray[np.float32]

_MOST_BODIES, _MOST_SPOTS = 30_000, 150_000


def lawn(rng: np.random.Generator, grid: Grid) -> Floats:
    """Dots, rods or filaments of one kind, scattered or in patches, lying anyhow or in line; highest about 1."""
    sigma = (FINE_UM, MIDDLE_UM)[int(rng.integers(2))]
    step = 1.6 * sigma
    length = float(np.exp(rng.uniform(np.log(0.3), np.log(8.0))))
    spots = np.arange(max(1, round(length / step)))
    x, y, turn = _places(rng, grid, min(_MOST_BODIES, _MOST_SPOTS // len(spots)))
    n = len(x)
    along = (spots - spots.mean()) * step
    # Bodies differ in length: the ends of the shorter ones hold nothing.
    reach = 0.5 * length * np.exp(0.25 * rng.standard_normal((n, 1)))
    bend = rng.normal(0, 0.15, (n, 1)) / length * along**2
    height = np.exp(float(rng.choice([0.1, 0.4])) * rng.standard_normal((n, 1)))
    peak = height * (np.abs(along) <= np.maximum(reach, 0.5 * step))
    # So that a row of spots has about the height of a single one.
    peak = peak / np.exp(-0.5 * (along / sigma) ** 2).sum()
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    parts = (
        x[:, None] + along * cos - bend * sin,
        y[:, None] + along * sin + bend * cos,
        peak * Spots.peak_to_mass(sigma),
    )
    return np.maximum(draw(grid, {sigma: Spots(*(v.astype(np.float32).ravel() for v in parts))}), 0)


def _places(
    rng: np.random.Generator, grid: Grid, most: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Bodies' middles in µm and their directions."""
    half_y, half_x = grid.half_um
    per_um2 = float(np.exp(rng.uniform(np.log(0.002), np.log(0.25))))
    n = min(int(per_um2 * 4 * half_x * half_y), most)
    x, y = rng.uniform(-half_x, half_x, n), rng.uniform(-half_y, half_y, n)
    wide = float(np.exp(rng.uniform(np.log(10), np.log(120))))
    level = spectral_noise(rng, grid, exponent=2.2, longest_um=wide, shortest_um=4.0)[
        grid.pixels_at(x, y)
    ]
    blurred = float(rng.choice([0.05, 0.6])) * rng.standard_normal(n)
    kept = level + blurred > float(rng.choice([-9.0, rng.uniform(-0.8, 1.5)]))
    # Where bodies lie in line, the line turns slowly.
    together = float(rng.choice([0.0, 1.0]))
    turn = np.pi * (0.6 * level * together + rng.random(n) * (1 - 0.9 * together))
    return x[kept], y[kept], turn[kept]
