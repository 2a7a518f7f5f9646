"""A sheet of cells with holes: Voronoi cells of scattered points."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from pipeline.evaluation.specimens.canvas import Canvas, Floats, Points, step_up
from pipeline.evaluation.specimens.interior import interior, nuclei

# Beyond this many neighbours none is nearest or next to it within a coarse sample.
_NEIGHBOURS = 5


def epithelium(rng: np.random.Generator, canvas: Canvas) -> Floats:
    """Domes of 0.6-1.5 rad with raised junctions, in islands or a sheet."""
    height, size = rng.uniform(0.7, 1.3), rng.uniform(12, 19)
    places = canvas.scatter(rng, size, 6.0)
    apart = _junction_distance(rng, canvas, places, size)
    cover = canvas.noise(rng, canvas.region(90.0)) + np.float32(rng.uniform(-0.6, 0.5))
    cover += 0.10 * canvas.noise(rng, 9.0)
    sheet = step_up(cover, 0.18)
    thick = 0.45 + 0.6 * (1 - np.exp(apart * np.float32(-1 / (0.3 * size))))
    thick += 0.12 * np.exp(-0.5 * (apart / 0.7) ** 2) * (1 + 0.4 * canvas.noise(rng, 2.5))
    thick += 0.20 * nuclei(rng, canvas, places, 0.25 * size)
    thick *= sheet * np.float32(height)
    return np.asarray(thick + interior(rng, canvas, thick) * sheet)


def _junction_distance(
    rng: np.random.Generator, canvas: Canvas, places: Points, size: float
) -> Floats:
    """How much farther the second nearest point is than the nearest: 0 on a junction, µm."""
    coarse = canvas.coarse(2.0)
    warp = np.stack([0.10 * size * coarse.noise(rng, 10.0) for _ in range(2)], -1)
    grid = np.stack(np.meshgrid(coarse.x(), coarse.y()), -1) + warp
    count = min(_NEIGHBOURS, len(places))
    _, near = cKDTree(places).query(grid, k=count)
    x = canvas.x()[None, :] + canvas.refine(warp[..., 0], coarse)
    y = canvas.y()[:, None] + canvas.refine(warp[..., 1], coarse)
    row = np.arange(canvas.shape[0]) * coarse.shape[0] // canvas.shape[0]
    column = np.arange(canvas.shape[1]) * coarse.shape[1] // canvas.shape[1]
    points = places.astype(np.float32)
    first = np.full(canvas.shape, np.inf, np.float32)
    second = first.copy()
    for j in range(count):
        own = points[near[..., j]][row][:, column]
        distance = np.sqrt((x - own[..., 0]) ** 2 + (y - own[..., 1]) ** 2)
        np.minimum(second, np.maximum(first, distance), out=second)
        np.minimum(first, distance, out=first)
    return np.asarray(second - first)
