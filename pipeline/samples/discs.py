"""Small bodies of one kind: red cells, spherocytes, yeasts, bacteria, beads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.samples.grid import Grid
from pipeline.samples.noise import clouds
from pipeline.samples.shapes import (
    Patch,
    dome,
    least_spacing,
    outline,
    patches,
    raise_to,
    ramp,
    scatter,
)

Floats = NDArray[np.float32]
_MOST_BODIES = 1500
Draw = Callable[[np.random.Generator, Floats, Patch, float, float], None]


def many_discs(rng: np.random.Generator, grid: Grid) -> Floats:
    """A crowd of small bodies, far apart to touching, with a little texture; highest about 1."""
    draw, smallest, largest = _KINDS[int(rng.integers(len(_KINDS)))]
    radius = float(np.exp(rng.uniform(np.log(smallest), np.log(largest))))
    spread = float(rng.choice([0.02, 0.1, 0.3]))
    spacing = 2 * radius * float(np.exp(rng.uniform(np.log(1.0), np.log(3.0))))
    # The smallest bodies would be too many: then some regions of the field stay empty.
    clumping = float(rng.choice([0, rng.random()]))
    spacing = max(spacing, least_spacing(grid, _MOST_BODIES))
    gap = float(rng.choice([0.6, 1.0])) * min(2 * radius, spacing)
    places = scatter(rng, grid, spacing, gap, clumping)
    radii = radius * np.exp(spread * rng.standard_normal(len(places)).clip(-2, 2))
    contrast = float(rng.choice([0.0, 0.15, 0.4]))
    stacked = rng.random() < 0.3
    field = np.zeros(grid.shape, np.float32)
    for k, patch in enumerate(patches(grid, places, 2.6 * radii + 1.0)):
        if patch is None:
            continue
        high = float(np.exp(contrast * rng.standard_normal()))
        own = np.zeros(patch.dx.shape, np.float32)
        here = Patch((slice(None), slice(None)), patch.dx, patch.dy)
        draw(rng, own, here, float(radii[k]), high)
        if stacked:
            field[patch.where] += own
        else:
            raise_to(field, patch, own)
    if rng.random() < 0.6:
        field *= 1 + np.float32(rng.uniform(0.01, 0.08)) * clouds(rng, grid)
    return np.maximum(field, 0)


def _red_cell(
    rng: np.random.Generator, field: Floats, patch: Patch, radius: float, high: float
) -> None:
    """Biconcave (after Evans and Fung 1972), dimple deep to shallow, tilted or bent a little."""
    rho, toward = patch.polar()
    ratio = rho / outline(rng, radius, 0.04, float(rng.uniform(1, 1.25)))[toward]
    squared = np.clip(ratio * ratio, 0, 1)
    dimple = np.float32(rng.uniform(0.25, 0.75))
    shape = dome(ratio, 0.5) * (dimple + (1 - dimple) * 2.4 * squared * (1 - 0.45 * squared))
    lean = np.float32(rng.normal(0, 0.15)) * patch.dx / np.float32(radius)
    raise_to(field, patch, np.float32(high) * shape * (1 + lean))


def _ball(
    rng: np.random.Generator, field: Floats, patch: Patch, radius: float, high: float
) -> None:
    # As round as beads are, to a hundredth.
    wide, tall = radius * np.exp(0.01 * rng.standard_normal(2)).astype(np.float32)
    ratio = np.sqrt((patch.dx / wide) ** 2 + (patch.dy / tall) ** 2)
    raise_to(field, patch, np.float32(high) * dome(ratio, 0.5))


def _yeast(
    rng: np.random.Generator, field: Floats, patch: Patch, radius: float, high: float
) -> None:
    """Oval, with a vacuole and dense bodies; many with a bud."""
    rho, toward = patch.polar()
    ratio = rho / outline(rng, radius, 0.03, float(rng.uniform(1.0, 1.4)))[toward]
    own = np.float32(high) * dome(ratio, 0.5)
    way = rng.uniform(0, 2 * np.pi)
    vacuole, off = float(rng.uniform(0.2, 0.5)) * radius, 0.3 * radius
    near = patch.moved(off * np.cos(way), off * np.sin(way))
    own *= 1 - np.float32(rng.uniform(0.1, 0.5)) * np.exp(
        -(((near.dx**2 + near.dy**2) / np.float32(vacuole**2)) ** 2)
    )
    dense = patch.moved(-0.4 * radius * np.cos(way), -0.4 * radius * np.sin(way))
    own += (
        np.float32(0.3 * high)
        * np.exp(-(dense.dx**2 + dense.dy**2) / np.float32(max(0.15 * radius, 0.4) ** 2))
        * (ratio < 1)
    )
    raise_to(field, patch, own)
    if rng.random() < 0.4:
        bud, way = float(rng.uniform(0.3, 0.8)), rng.uniform(0, 2 * np.pi)
        far = (1 + 0.85 * bud) * radius
        _ball(
            rng, field, patch.moved(far * np.cos(way), far * np.sin(way)), bud * radius, bud * high
        )


def _rod(rng: np.random.Generator, field: Floats, patch: Patch, radius: float, high: float) -> None:
    """A cylinder with round ends, straight or bent, twice to five times as long as wide."""
    width = np.float32(rng.uniform(0.2, 0.45) * radius)
    half = np.float32(radius * rng.uniform(0.7, 1.2))
    along, across = patch.turned(rng.uniform(0, np.pi))
    across += np.float32(rng.normal(0, 0.12) / radius) * along * along
    beyond = np.clip(np.abs(along) - half, 0, None)
    ratio = np.asarray(np.sqrt(across * across + beyond * beyond) / width, np.float32)
    middle = rng.choice([0.0, 0.4]) * np.exp(-((along / np.float32(0.5 * width + 0.3)) ** 2))
    raise_to(field, patch, np.float32(high) * dome(ratio, 0.5) * (1 - np.float32(1) * middle))


def _ghost(
    rng: np.random.Generator, field: Floats, patch: Patch, radius: float, high: float
) -> None:
    """A disc with a flat top, or only its rim: diatoms, platelets, empty shells."""
    rho, toward = patch.polar()
    inside = outline(rng, radius, 0.08, float(rng.uniform(1, 1.8)))[toward] - rho
    wall = np.exp(-(((inside - 0.7) / np.float32(rng.uniform(0.45, 1.0))) ** 2))
    floor = float(rng.uniform(0, 1))
    raise_to(field, patch, np.float32(high) * (floor * ramp(inside, 1.0) + (1 - floor) * wall))


_KINDS: tuple[tuple[Draw, float, float], ...] = (
    (_red_cell, 2.8, 4.5),
    (_red_cell, 2.8, 4.5),
    (_ball, 0.6, 3.0),
    (_ball, 2.0, 10.0),
    (_yeast, 1.8, 4.0),
    (_rod, 1.2, 5.0),
    (_ghost, 1.5, 12.0),
)
"""How they are drawn, and their radii in µm."""
