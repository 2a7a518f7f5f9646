"""Neurons: somata, and neurites that wind, branch, cross and carry beads."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipeline.evaluation.specimens.canvas import Canvas, Floats, Points, step_up, turned
from pipeline.evaluation.specimens.interior import interior, nuclei

# Distance of the points along a neurite, and half its width (a Gaussian's σ), µm.
_STEP_UM = 0.25
_SIGMA_UM = 0.35


def neurons(rng: np.random.Generator, canvas: Canvas) -> Floats:
    """Somata of 1.5-3 rad, neurites of 0.1-0.4 rad and about a micrometre across, over flat glia in places."""
    height, size = rng.uniform(1.4, 2.4), rng.uniform(6, 9)
    places = canvas.scatter(rng, rng.uniform(3.6, 5.5) * size, 1.6, 250.0)
    n = len(places)
    angle, long = rng.uniform(0, np.pi, n), rng.uniform(1, 1.3, n).astype(np.float32)
    girth = (size * rng.uniform(0.8, 1.15, n)).astype(np.float32)

    def soma(dx: Floats, dy: Floats, k: np.ndarray) -> Floats:
        along, across = turned(dx, dy, angle[k])
        q = ((along / long[k]) ** 2 + (across * long[k]) ** 2) / girth[k] ** 2
        return np.asarray(np.clip(1 - q, 0, None) ** np.float32(0.85))

    somata = canvas.zeros()
    canvas.lay(somata, places, 1.35 * girth, soma)
    paths: list[Points] = []
    for x, y in places:
        for heading in rng.uniform(0, 2 * np.pi, int(rng.integers(3, 6))):
            _grow(rng, (x, y), heading, rng.uniform(40, 160), 1.0, paths)
    neurites = _trace(canvas, np.concatenate(paths)) if paths else canvas.zeros()
    somata += 0.14 * nuclei(rng, canvas, places, 0.5 * size) * np.clip(2 * somata, 0, 1)
    somata *= np.float32(height)
    inside = interior(rng, canvas, somata)
    cells = np.maximum(somata, np.float32(rng.uniform(0.15, 0.3)) * neurites) + inside
    return np.asarray(cells + _glia(rng, canvas))


def _glia(rng: np.random.Generator, canvas: Canvas) -> Floats:
    """A carpet of 0.3-0.6 rad: where a random field is high, thinning out at its rim."""
    level = canvas.noise(rng, canvas.region(60.0)) + 0.12 * canvas.noise(rng, 8.0)
    level -= np.float32(rng.uniform(-0.3, 0.7))
    sheet = step_up(level, 0.9) * np.float32(rng.uniform(0.35, 0.6))
    sheet *= 1 + 0.12 * canvas.noise(rng, 12.0)
    return np.asarray(sheet + 0.8 * interior(rng, canvas, sheet))


def _grow(
    rng: np.random.Generator,
    start: tuple[float, float],
    heading: float,
    length_um: float,
    weight: float,
    paths: list[Points],
) -> None:
    """Append ``[n, 3]`` x, y, weight of a neurite that thins, beads and branches."""
    n = max(8, int(length_um / _STEP_UM))
    far = np.arange(n) * _STEP_UM
    turn = heading + np.cumsum(rng.normal(0, 0.03, n))
    turn += 0.35 * np.sin(far / rng.uniform(4, 14) + rng.uniform(0, 6))
    x = start[0] + _STEP_UM * np.cumsum(np.cos(turn))
    y = start[1] + _STEP_UM * np.cumsum(np.sin(turn))
    rough = ndimage.gaussian_filter1d(rng.standard_normal(n), 3.0) * 3.3
    beads = 1 + 0.8 * np.clip(rough - 1.3, 0, None)
    paths.append(np.column_stack([x, y, weight * np.linspace(1, 0.45, n) * beads]))
    if length_um > 25 and rng.random() < 0.75:
        k = int(n * rng.uniform(0.25, 0.8))
        side = heading_side(rng) * rng.uniform(0.4, 1.0)
        _grow(rng, (x[k], y[k]), turn[k] + side, 0.6 * length_um, 0.75 * weight, paths)


def heading_side(rng: np.random.Generator) -> float:
    """Left or right."""
    return -1.0 if rng.random() < 0.5 else 1.0


def _trace(canvas: Canvas, points: Points) -> Floats:
    """Neurites of height about 1 from points along them: bilinear weights, then a blur."""
    rows, columns = canvas.shape
    x = points[:, 0] / canvas.pixel_um - 0.5
    y = points[:, 1] / canvas.pixel_um - 0.5
    inside = (x > 0) & (x < columns - 1) & (y > 0) & (y < rows - 1)
    x, y, weight = x[inside], y[inside], points[inside, 2]
    i, j = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    fy, fx = y - i, x - j
    corner = i * columns + j
    index = np.concatenate([corner, corner + 1, corner + columns, corner + columns + 1])
    share = [(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx]
    laid = np.bincount(index, np.concatenate(share) * np.tile(weight, 4), rows * columns)
    blurred = ndimage.gaussian_filter(
        laid.reshape(rows, columns).astype(np.float32), _SIGMA_UM / canvas.pixel_um
    )
    # Of a line of points with weight 1 a step apart: height 1 on the line.
    return np.asarray(
        blurred * np.float32(np.sqrt(2 * np.pi) * _SIGMA_UM * _STEP_UM / canvas.pixel_um**2)
    )
