"""Rounded cells: floating, dying, and dividing (metaphase plate, anaphase, telophase with its midbody)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.samples.grid import Grid
from pipeline.samples.interior import Layers, filled
from pipeline.samples.shapes import Patch, dome, least_spacing, outline, patches, raise_to, scatter

Floats = NDArray[np.float32]

_MOST_CELLS = 250
_STAGES = ("interphase", "prometaphase", "metaphase", "anaphase", "telophase", "blebbing")


def round_cells(rng: np.random.Generator, grid: Grid) -> Floats:
    """Suspended or arrested cells, all of them round and thick; highest about 1."""
    cells = Layers.empty(grid)
    radius = float(rng.uniform(4, 10))
    crowding = float(np.exp(rng.uniform(np.log(1.0), np.log(2.6))))
    radius = max(radius, least_spacing(grid, _MOST_CELLS) / (2 * crowding))
    spacing = 2 * radius * crowding
    places = scatter(
        rng, grid, spacing, min(1.9 * radius, spacing), float(rng.choice([0, rng.random()]))
    )
    radii = radius * np.exp(0.12 * rng.standard_normal(len(places)).clip(-2, 2))
    draw_round_cells(rng, grid, cells, places, radii, height=1.0)
    return filled(rng, grid, cells)


def draw_round_cells(
    rng: np.random.Generator,
    grid: Grid,
    cells: Layers,
    xy_um: NDArray[np.float64],
    radii_um: NDArray[np.float64],
    height: float = 1.7,
) -> None:
    """Each in a stage of its own, drawn into the layers in place."""
    for k, patch in enumerate(patches(grid, xy_um, 2.6 * radii_um + 1.0)):
        if patch is None:
            continue
        stage = str(rng.choice(_STAGES))
        turn = float(rng.uniform(0, 2 * np.pi))
        _DRAW[stage](
            rng, cells, patch, float(radii_um[k]), turn, height * float(rng.uniform(0.8, 1.2))
        )


def _interphase(
    rng: np.random.Generator, cells: Layers, patch: Patch, radius: float, turn: float, high: float
) -> None:
    _ball(rng, cells, patch, radius, high)
    away = float(rng.uniform(0, 0.3)) * radius
    own = patch.moved(away * np.cos(turn), away * np.sin(turn))
    ratio = np.sqrt(own.dx**2 + own.dy**2) / np.float32(radius * rng.uniform(0.4, 0.65))
    cells.detail[patch.where] += np.float32(high * rng.uniform(-0.1, 0.15)) * dome(ratio, 0.5)
    raise_to(cells.nucleus, patch, np.clip(4 - 4 * ratio, 0, 1))


def _ball(
    rng: np.random.Generator, cells: Layers, patch: Patch, radius: float, high: float
) -> None:
    rho, toward = patch.polar()
    ratio = rho / outline(rng, radius, 0.03, float(rng.uniform(1, 1.15)))[toward]
    raise_to(cells.height, patch, np.float32(high) * dome(ratio, float(rng.uniform(0.45, 0.6))))
    raise_to(cells.cytoplasm, patch, np.clip(4 * (1 - ratio), 0, 1))


def _bar(
    cells: Layers, patch: Patch, at: float, long: float, wide: float, turn: float, high: float
) -> None:
    """A plate of chromosomes across the direction `turn`, `at` µm along it."""
    patch = patch.moved(at * np.cos(turn), at * np.sin(turn)).within(1.6 * long + 2.8 * wide)
    along, across = patch.turned(turn)
    squared = (along / np.float32(wide)) ** 2 + (across / np.float32(long)) ** 4
    plate = np.exp(-squared)
    cells.detail[patch.where] += np.float32(high) * plate
    raise_to(cells.nucleus, patch, plate)


def _prometaphase(
    rng: np.random.Generator, cells: Layers, patch: Patch, radius: float, turn: float, high: float
) -> None:
    _ball(rng, cells, patch, radius, high)
    for _ in range(int(rng.integers(5, 12))):
        far, way = 0.45 * radius * np.sqrt(rng.random()), turn + rng.normal(0, 1.5)
        own = patch.moved(far * np.cos(way), far * np.sin(way))
        _bar(
            cells,
            own,
            0.0,
            rng.uniform(0.8, 2.0),
            rng.uniform(0.4, 0.7),
            rng.uniform(0, np.pi),
            0.12 * high,
        )


def _metaphase(
    rng: np.random.Generator, cells: Layers, patch: Patch, radius: float, turn: float, high: float
) -> None:
    _ball(rng, cells, patch, radius, high)
    contrast = float(rng.uniform(0.1, 0.4))
    _bar(cells, patch, 0.0, 0.6 * radius, float(rng.uniform(0.8, 1.6)), turn, contrast * high)


def _anaphase(
    rng: np.random.Generator, cells: Layers, patch: Patch, radius: float, turn: float, high: float
) -> None:
    _ball(rng, cells, patch, radius, high)
    apart, contrast = float(rng.uniform(0.2, 0.55)) * radius, float(rng.uniform(0.1, 0.4))
    for side in (-1, 1):
        _bar(
            cells,
            patch,
            side * apart,
            0.5 * radius,
            float(rng.uniform(0.7, 1.3)),
            turn,
            contrast * high,
        )


def _telophase(
    rng: np.random.Generator, cells: Layers, patch: Patch, radius: float, turn: float, high: float
) -> None:
    apart = float(rng.uniform(0.7, 1.15)) * radius
    for side in (-1, 1):
        own = patch.moved(side * apart * np.cos(turn), side * apart * np.sin(turn))
        _ball(rng, cells, own, 0.8 * radius, 0.8 * high)
        _bar(cells, own, side * 0.2 * radius, 0.4 * radius, 0.8, turn, 0.2 * high)
    # The midbody: a thin bridge with a knot.
    _bar(cells, patch, 0.0, 0.6, 0.5 * apart, turn, 0.12 * high)
    _bar(cells, patch, 0.0, 0.7, 0.7, turn, 0.15 * high)


def _blebbing(
    rng: np.random.Generator, cells: Layers, patch: Patch, radius: float, turn: float, high: float
) -> None:
    _ball(rng, cells, patch, 0.8 * radius, high)
    for _ in range(int(rng.integers(3, 14))):
        way, size = turn + rng.normal(0, 1.5), float(rng.uniform(0.1, 0.4)) * radius
        far = 0.8 * radius + 0.4 * size
        own = patch.moved(far * np.cos(way), far * np.sin(way)).within(1.2 * size)
        rho = np.sqrt(own.dx**2 + own.dy**2) / np.float32(size)
        raise_to(cells.height, own, np.float32(high * rng.uniform(0.1, 0.4)) * dome(rho, 0.5))


_DRAW = {
    "interphase": _interphase,
    "prometaphase": _prometaphase,
    "metaphase": _metaphase,
    "anaphase": _anaphase,
    "telophase": _telophase,
    "blebbing": _blebbing,
}
