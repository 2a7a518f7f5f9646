"""Specimens that no network has seen: built from level sets of random fields, not from outlines and spots."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from pipeline.samples.grid import Grid
from pipeline.samples.seeding import generator

Floats = NDArray[np.float32]

_HELD_OUT = 30
_FINEST_UM = 0.25


def heldout_field(seed: int, shape: tuple[int, int], pixel_um: float) -> Floats:
    """One field to judge a network by.

    Fibroblast-like, epithelial, neuron-like, amoeboid (metaballs) or blood cells, made of implicit
    surfaces and level sets of random fields: another construction than `training_field`'s.

    Parameters
    ----------
    seed
        Each gives another field, always the same one; the five kinds take turns.
    shape
        (y, x) in pixels.
    pixel_um
        Edge of a pixel.

    Returns
    -------
    ``[Y, X]`` float32 phase in radians, not negative, zero in the background.
    """
    kinds: tuple[Callable[[np.random.Generator, Grid], Floats], ...] = (
        _amoeboid,
        _epithelium,
        _fibroblasts,
        _blood,
        _neurons,
    )
    grid = Grid(shape, pixel_um)
    rng = generator(seed, _HELD_OUT)
    phase = kinds[seed % len(kinds)](rng, grid)
    # What is thinner than a thousandth of a radian is background.
    return np.asarray(np.maximum(phase - np.float32(1e-3), 0), np.float32)


def _noise(rng: np.random.Generator, grid: Grid, scale_um: float) -> Floats:
    """Gaussian random field of unit variance with features of about a size."""
    white = rng.standard_normal(grid.shape, dtype=np.float32)
    field = ndimage.gaussian_filter(white, scale_um / grid.pixel_um / 2, mode="reflect")
    return np.asarray(field / max(float(field.std()), 1e-12))


def _network(rng: np.random.Generator, grid: Grid, mesh_um: float, width_um: float) -> Floats:
    """Thin curved threads: the zero level set of a random field, ``[Y, X]`` in 0 … 1."""
    field = _noise(rng, grid, mesh_um)
    gy, gx = np.gradient(field, grid.pixel_um)
    distance = field / np.sqrt(gx**2 + gy**2 + (0.15 / mesh_um) ** 2)
    return np.asarray(np.exp(-0.5 * (distance / width_um) ** 2))


def _specks(rng: np.random.Generator, grid: Grid, size_um: float, rare: float) -> Floats:
    """Isolated grains: what rises above a level in a random field."""
    return np.asarray(np.clip(_noise(rng, grid, size_um) - rare, 0, None))


def _interior(rng: np.random.Generator, grid: Grid, thick: Floats, richness: float) -> Floats:
    """Phase of everything inside, for bodies of a thickness: threads, grains and lumps in proportion to it."""
    depth = np.sqrt(np.clip(thick, 0, 1.5))
    width = max(_FINEST_UM, 0.4 * grid.pixel_um)
    threads = 0.5 * _network(rng, grid, 5.0, width) + 0.5 * _network(rng, grid, 2.5, width)
    grains = 0.22 * _specks(rng, grid, 1.0, 1.6) + 0.25 * _specks(rng, grid, 1.8, 2.0)
    lumps = 0.05 * _noise(rng, grid, 1.2) + 0.06 * _noise(rng, grid, 4.0)
    return np.asarray(depth * np.float32(richness) * (0.16 * threads + grains + lumps))


def _scatter(
    rng: np.random.Generator, grid: Grid, gap_um: float, tries: int
) -> NDArray[np.float64]:
    """``[n, 2]`` x, y that keep a distance, by dart throwing, a little beyond the field too."""
    half_y, half_x = grid.half_um
    darts = (rng.random((tries, 2)) * 2 - 1) * (half_x + gap_um, half_y + gap_um)
    kept: list[int] = []
    tree = cKDTree(darts)
    taken = np.zeros(tries, bool)
    for i, near in enumerate(tree.query_ball_point(darts, gap_um)):
        if not taken[i]:
            kept.append(i)
            taken[near] = True
    return np.asarray(darts[kept])


def _window(
    grid: Grid, x: float, y: float, reach_um: float
) -> tuple[slice, slice, Floats, Floats] | None:
    xs, ys = grid.x(), grid.y()
    columns = slice(*np.searchsorted(xs, (x - reach_um, x + reach_um)))
    rows = slice(*np.searchsorted(ys, (y - reach_um, y + reach_um)))
    if rows.start == rows.stop or columns.start == columns.stop:
        return None
    return rows, columns, ys[rows, None] - np.float32(y), xs[None, columns] - np.float32(x)


def _count(grid: Grid, gap_um: float, filling: float) -> int:
    half_y, half_x = grid.half_um
    return max(2, int(filling * 4 * (half_x + gap_um) * (half_y + gap_um) / gap_um**2))


def _nuclei(
    rng: np.random.Generator, grid: Grid, places: NDArray[np.float64], radius_um: float
) -> Floats:
    """Flat-topped discs with dense spots: super-ellipses through a logistic edge."""
    field = np.zeros(grid.shape, np.float32)
    for x, y in places:
        r = radius_um * rng.uniform(0.8, 1.2)
        found = _window(grid, x, y, 2 * r)
        if found is None:
            continue
        rows, columns, dy, dx = found
        a, long = rng.uniform(0, np.pi), rng.uniform(1, 1.5)
        u, v = (dx * np.cos(a) + dy * np.sin(a)) / long, (dy * np.cos(a) - dx * np.sin(a)) * long
        rho = (np.abs(u) ** 2.5 + np.abs(v) ** 2.5) ** (1 / 2.5)
        disc = 1 / (1 + np.exp(np.clip((rho - r) / 0.35, -30, 30)))
        spots = np.zeros_like(disc)
        for _ in range(int(rng.integers(1, 4))):
            sx, sy = rng.uniform(-0.5, 0.5, 2) * r
            spots += np.exp(
                -(((u - sx) / rng.uniform(0.6, 1.3)) ** 2 + ((v - sy) / rng.uniform(0.6, 1.3)) ** 2)
            )
        field[rows, columns] += (disc * (1 + 0.9 * spots)).astype(np.float32)
    return field


def _amoeboid(rng: np.random.Generator, grid: Grid) -> Floats:
    """Metaballs: a level set of a sum of Gaussian blobs."""
    height, size = rng.uniform(0.8, 2.5), rng.uniform(6, 11)
    places = _scatter(rng, grid, 3.2 * size, _count(grid, 3.2 * size, rng.uniform(0.4, 1.5)))
    blobs = np.zeros(grid.shape, np.float32)
    for x, y in places:
        for _ in range(int(rng.integers(4, 9))):
            r = size * rng.uniform(0.35, 0.8)
            a, far = rng.uniform(0, 2 * np.pi), size * rng.uniform(0, 1.1)
            found = _window(grid, x + far * np.cos(a), y + far * np.sin(a), 3 * r)
            if found:
                rows, columns, dy, dx = found
                blobs[rows, columns] += np.exp(-(dx**2 + dy**2) / r**2)
    blobs *= 1 + 0.12 * _noise(rng, grid, 3.0)
    thick = np.clip(blobs - 0.25, 0, None)
    thick = thick / (0.6 + thick) * 1.4
    nuclei = _nuclei(rng, grid, places, 0.42 * size) * np.clip(3 * thick, 0, 1)
    return np.asarray(
        height
        * np.clip(
            thick + 0.2 * nuclei + _interior(rng, grid, thick, rng.uniform(0.5, 1.5)) * (thick > 0),
            0,
            None,
        )
    )


def _epithelium(rng: np.random.Generator, grid: Grid) -> Floats:
    """A sheet with holes: Voronoi cells, thick in the middle, with raised junctions."""
    height, size = rng.uniform(0.5, 1.6), rng.uniform(12, 22)
    places = _scatter(rng, grid, size, _count(grid, size, 6.0))
    x, y = np.meshgrid(grid.x(), grid.y())
    warp = size * 0.12
    xy = np.stack([x + warp * _noise(rng, grid, 6.0), y + warp * _noise(rng, grid, 6.0)], axis=-1)
    near, _ = cKDTree(places).query(xy, k=2)
    gap = (near[..., 1] - near[..., 0]).astype(np.float32)
    sheet = 1 / (
        1 + np.exp(-np.clip((_noise(rng, grid, 45.0) + rng.uniform(-0.2, 1.2)) * 14, -30, 30))
    )
    sheet = np.where(sheet > 0.02, sheet, 0).astype(np.float32)
    dome = 1 - np.exp(-gap / (0.35 * size))
    junctions = np.exp(-0.5 * (gap / 0.8) ** 2) * (0.6 + 0.4 * _noise(rng, grid, 2.0))
    thick = sheet * (0.35 + 0.75 * dome)
    nuclei = _nuclei(rng, grid, places, 0.26 * size) * sheet
    return np.asarray(
        height
        * np.clip(
            thick
            + 0.18 * junctions * sheet
            + 0.25 * nuclei
            + _interior(rng, grid, thick, rng.uniform(0.4, 1.2)),
            0,
            None,
        )
    )


def _fibroblasts(rng: np.random.Generator, grid: Grid) -> Floats:
    """Long spindles along curved spines, with parallel fibres."""
    height, size = rng.uniform(0.8, 2.2), rng.uniform(16, 34)
    places = _scatter(rng, grid, 1.3 * size, _count(grid, 1.3 * size, rng.uniform(0.5, 2.0)))
    common = rng.uniform(0, np.pi)
    thick = np.zeros(grid.shape, np.float32)
    stripes = np.zeros(grid.shape, np.float32)
    for x, y in places:
        found = _window(grid, x, y, 2.2 * size)
        if found is None:
            continue
        rows, columns, dy, dx = found
        a = common + rng.normal(0, 0.5)
        along, across = dx * np.cos(a) + dy * np.sin(a), dy * np.cos(a) - dx * np.sin(a)
        across = across - rng.uniform(-0.35, 0.35) * along**2 / size
        half = size * rng.uniform(0.9, 1.6)
        taper = np.clip(1 - (along / half) ** 2, 0, None)
        width = size * rng.uniform(0.16, 0.3) * taper**1.3 + 0.9 * taper
        profile = np.clip(1 - (across / np.maximum(width, 1e-3)) ** 2, 0, None) * (width > 0.05)
        body = (
            profile
            * (0.25 + 0.85 * np.exp(-((along / (0.35 * size)) ** 2)))
            * np.clip(width / 1.5, 0, 1)
        )
        thick[rows, columns] = np.maximum(thick[rows, columns], body)
        wave = np.cos(2 * np.pi * across / rng.uniform(1.2, 2.4) + 6 * rng.random() + 0.05 * along)
        stripes[rows, columns] += (np.clip(body, 0, 0.4) * wave**8).astype(np.float32)
    thick = ndimage.gaussian_filter(thick, _FINEST_UM / grid.pixel_um)
    nuclei = _nuclei(rng, grid, places, 0.17 * size) * np.clip(3 * thick, 0, 1)
    return np.asarray(
        height
        * np.clip(
            thick
            + 0.2 * stripes
            + 0.22 * nuclei
            + _interior(rng, grid, thick, rng.uniform(0.4, 1.3)),
            0,
            None,
        )
    )


def _blood(rng: np.random.Generator, grid: Grid) -> Floats:
    """Biconcave discs after Evans and Fung (1972), flat or tilted, some balls among them."""
    height = rng.uniform(0.9, 2.5)
    phase = np.zeros(grid.shape, np.float32)
    gap = rng.uniform(6.0, 11.0)
    for x, y in _scatter(rng, grid, gap, _count(grid, gap, rng.uniform(0.3, 2.0))):
        radius = rng.uniform(3.3, 4.3)
        found = _window(grid, x, y, 1.3 * radius)
        if found is None:
            continue
        rows, columns, dy, dx = found
        a, tilt = rng.uniform(0, np.pi), rng.uniform(0.65, 1.0)
        u, v = dx * np.cos(a) + dy * np.sin(a), (dy * np.cos(a) - dx * np.sin(a)) / tilt
        q = np.clip((u**2 + v**2) / radius**2, 0, None)
        inside = np.clip(1 - q, 0, None)
        if rng.random() < 0.12:
            disc = 1.5 * np.sqrt(inside + 0.02) * (inside > 0)
        else:
            disc = np.sqrt(inside) * (0.81 + 7.83 * q - 4.39 * q**2) / 2.4 / tilt
        phase[rows, columns] += disc * rng.uniform(0.85, 1.15)
    # The rim of a disc is steeper than light can tell; blur to what an objective passes.
    phase = ndimage.gaussian_filter(phase, max(_FINEST_UM / grid.pixel_um, 0.45))
    grains = 0.15 * _specks(rng, grid, 1.0, 2.6)
    return np.asarray(height * (phase + grains))


def _neurons(rng: np.random.Generator, grid: Grid) -> Floats:
    """Somata with branching neurites that run over each other and carry beads."""
    height, size = rng.uniform(1.0, 2.8), rng.uniform(5, 9)
    places = _scatter(rng, grid, 5 * size, _count(grid, 5 * size, rng.uniform(0.8, 2.0)))
    soma = np.zeros(grid.shape, np.float32)
    paths: list[NDArray[np.float64]] = []
    for x, y in places:
        found = _window(grid, x, y, 2 * size)
        if found:
            rows, columns, dy, dx = found
            a, long = rng.uniform(0, np.pi), rng.uniform(1, 1.5)
            u, v = (
                (dx * np.cos(a) + dy * np.sin(a)) / long,
                (dy * np.cos(a) - dx * np.sin(a)) * long,
            )
            soma[rows, columns] += np.clip(1 - (u**2 + v**2) / size**2, 0, None) ** 0.9
        for _ in range(int(rng.integers(3, 7))):
            _grow(rng, (x, y), rng.uniform(0, 2 * np.pi), rng.uniform(30, 110), 1.0, paths)
    points = np.concatenate(paths) if paths else np.empty((0, 3))
    neurites = _trace(grid, points)
    return np.asarray(
        height
        * np.clip(
            soma
            + neurites
            + 0.25 * _nuclei(rng, grid, places, 0.5 * size) * np.clip(2 * soma, 0, 1)
            + _interior(rng, grid, soma, rng.uniform(0.5, 1.3)),
            0,
            None,
        )
    )


def _grow(
    rng: np.random.Generator,
    start: tuple[float, float],
    heading: float,
    length: float,
    width: float,
    paths: list[NDArray[np.float64]],
) -> None:
    """A wiggling neurite that thins, beads, and branches now and then; appends ``[n, 3]`` x, y, weight."""
    n = max(4, int(length / 0.4))
    turn = (
        heading
        + np.cumsum(rng.normal(0, 0.05, n))
        + 0.3 * np.sin(np.arange(n) * 0.4 / rng.uniform(5, 15))
    )
    xy = np.asarray(start) + 0.4 * np.cumsum(np.stack([np.cos(turn), np.sin(turn)], 1), 0)
    beads = 1 + 1.5 * np.clip(
        ndimage.gaussian_filter1d(rng.standard_normal(n), 2.0) * 3.5 - 1.2, 0, None
    )
    weight = width * np.linspace(1, 0.35, n) * beads
    paths.append(np.column_stack([xy, weight]))
    if length > 25 and rng.random() < 0.7:
        k = int(n * rng.uniform(0.3, 0.8))
        _grow(
            rng,
            (xy[k, 0], xy[k, 1]),
            turn[k] + rng.choice([-1, 1]) * rng.uniform(0.4, 1.0),
            0.55 * length,
            0.7 * width,
            paths,
        )


def _trace(grid: Grid, points: NDArray[np.float64]) -> Floats:
    """Neurites about 0.7 µm wide and a quarter high, from points along them (bilinear weights, then a blur)."""
    rows, columns = grid.shape
    x, y = (
        points[:, 0] / grid.pixel_um + columns / 2 - 0.5,
        points[:, 1] / grid.pixel_um + rows / 2 - 0.5,
    )
    inside = (x > 0) & (x < columns - 1) & (y > 0) & (y < rows - 1)
    x, y, weight = x[inside], y[inside], points[inside, 2]
    i, j = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    fy, fx = y - i, x - j
    index = np.concatenate(
        [i * columns + j, i * columns + j + 1, (i + 1) * columns + j, (i + 1) * columns + j + 1]
    )
    share = np.concatenate([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx]) * np.tile(
        weight, 4
    )
    laid = np.bincount(index, share, rows * columns).reshape(rows, columns).astype(np.float32)
    sigma = 0.35
    blurred = ndimage.gaussian_filter(laid, sigma / grid.pixel_um)
    return np.asarray(
        blurred * np.float32(0.25 * 0.4 * np.sqrt(2 * np.pi) * sigma / grid.pixel_um**2)
    )
