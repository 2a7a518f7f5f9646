"""The cells of a field at one moment: place, size, roundness and mass, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.samples.grid import Grid
from pipeline.samples.lineage import TRAITS, Cell, Lineages, paths_um, smooth
from pipeline.samples.packing import Borders, Pairs, borders_between, push_apart
from pipeline.samples.style import CultureStyle

Floats = NDArray[np.float64]

_REACH = 3.5
"""In spread radii: what a cell with its protrusions may span."""
_PUSHES = 3


@dataclass(frozen=True)
class Population:
    """N cells; every array is ``[N, …]``."""

    cells: list[Cell]
    time_h: float
    diameter_um: float
    """Of a typical spread cell."""
    xy_um: Floats
    """Middle of the nucleus, where the outline's polar coordinates begin."""
    roundness: Floats
    """0 spread on the glass … 1 a ball, as in mitosis."""
    plate: Floats
    """0 interphase … 1 chromosomes condensed on the metaphase plate."""
    apart: Floats
    """0 just divided and still one with the sister … 1 a cell of its own."""
    own_way: Floats
    """0 newborn … 1 moves, grows and pushes independently of the sister."""
    axis_rad: Floats
    """Of the division that was, or for a mother the one to come."""
    radius_um: Floats
    """Of the circle of equal area, crowding aside."""
    mass: Floats
    """Relative to a typical cell in the middle of its cycle."""
    traits: NDArray[np.float32]
    """Of `Cell`."""
    seeds: NDArray[np.float32]
    """Of `Lineages.seeds`; empty until it is known who is seen."""

    def __len__(self) -> int:
        return len(self.cells)

    def take(self, which: NDArray[np.bool_]) -> Population:
        """The cells that a mask ``[N]`` keeps."""
        arrays: dict[str, Any] = {
            f.name: value[which]
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), np.ndarray)
        }
        return replace(
            self, cells=[c for c, kept in zip(self.cells, which, strict=True) if kept], **arrays
        )


def _within(grid: Grid, xy: Floats, margin_um: float) -> NDArray[np.bool_]:
    half_y, half_x = grid.half_um
    return np.asarray(
        (np.abs(xy[:, 0]) < half_x + margin_um) & (np.abs(xy[:, 1]) < half_y + margin_um)
    )


def population_at(
    lineages: Lineages,
    style: CultureStyle,
    diameter_um: float,
    time_h: float,
    position: int,
    grid: Grid,
) -> tuple[Population, Borders]:
    """Everybody who may be seen in a field, and where their neighbours' ground begins.

    Cells around the field are followed as far as they may still push one that is in it, so a
    larger field shows the same cells at the same places.
    """
    touch = 1.4 * diameter_um
    reach = _REACH * diameter_um / 2
    margin = reach + (_PUSHES + 1) * touch
    cells = [
        cell
        for tile in grid.tiles(lineages.tile_um, margin + lineages.stray_um(time_h))
        for cell in lineages.alive(time_h, position, tile)
    ]
    xy = paths_um(cells, time_h, style.speed)
    near = _within(grid, xy, margin)
    crowd = _states(
        [c for c, n in zip(cells, near, strict=True) if n], xy[near], time_h, diameter_um, style
    )
    sisters = _sisters(crowd.cells)
    xy = crowd.xy_um
    for _ in range(_PUSHES):
        pairs = Pairs.closer_than(touch, xy, sisters)
        xy = push_apart(pairs, xy, crowd.radius_um, crowd.apart, crowd.own_way)
    pairs = Pairs.closer_than(touch, xy, sisters)
    borders = borders_between(pairs, xy, crowd.radius_um, crowd.apart)
    seen = _within(grid, xy, reach)
    visible = replace(crowd, xy_um=xy).take(seen)
    visible = replace(visible, seeds=lineages.seeds(position, visible.cells))
    return visible, borders.take(seen)


def _sisters(cells: list[Cell]) -> NDArray[np.int64]:
    """``[N]`` index of each cell's sister, -1 where there is none."""
    index = {c.key: i for i, c in enumerate(cells)}
    return np.array(
        [-1 if c.founder else index.get((*c.key[:-1], c.key[-1] ^ 1), -1) for c in cells], np.int64
    )


def _states(
    cells: list[Cell], xy: Floats, time_h: float, diameter_um: float, style: CultureStyle
) -> Population:
    traits = np.array([c.traits for c in cells], np.float32).reshape(len(cells), TRAITS)
    life = np.array(
        [(c.birth_h, c.end_h, c.dies, c.founder, c.axis_rad) for c in cells], np.float64
    ).reshape(len(cells), 5)
    scores = np.array(
        [(c.size, c.heaviness, c.mothers_size, c.mothers_heaviness) for c in cells], np.float64
    ).reshape(len(cells), 4)
    age, left, dies, founder = (
        time_h - life[:, 0],
        life[:, 1] - time_h,
        life[:, 2] > 0,
        life[:, 3] > 0,
    )
    apart = np.where(founder, 1.0, smooth(age / 0.6))
    own_way = np.where(founder, 1.0, smooth((age - 0.7) / 2.5))

    rounding = np.where(dies, smooth(2.0 - left), smooth((1.1 - left) / 0.5))
    spreading = np.where(founder, 0.0, 1 - smooth((age - 0.4) / 1.5))
    loner = np.where(traits[:, 19] < style.rounded_share, 0.9, 0.0)
    roundness = np.maximum(np.maximum(rounding, spreading), loner)
    condensed = np.where(dies, 0.0, smooth((0.9 - left) / 0.3))
    plate = np.maximum(condensed, np.where(founder, 0.0, 1 - smooth((age - 0.25) / 0.5)))

    # Daughters begin as heavy and large as halves of their mother and find their own way from there.
    size = scores[:, 2] + (scores[:, 0] - scores[:, 2]) * own_way
    heaviness = scores[:, 3] + (scores[:, 1] - scores[:, 3]) * own_way
    growth = 2 ** (age / (age + left) - 0.5)
    mass = growth * np.exp(style.phase_spread * heaviness)
    radius = diameter_um / 2
    spread = radius * np.exp(style.size_spread * size) * growth**0.4
    # Two sisters that have not parted yet lie in one ball of twice the volume.
    ball = 0.68 * radius * np.cbrt(mass * 2 ** (1 - apart))
    axis = np.where(plate * (left < 2) > 0, 2 * np.pi * traits[:, 18], life[:, 4])
    separation = 0.95 * apart * ball * ~founder
    xy = xy + separation[:, None] * np.stack([np.cos(life[:, 4]), np.sin(life[:, 4])], 1)
    vanishing = np.where(dies, smooth(left / 0.8), 1.0)
    return Population(
        cells=cells,
        time_h=time_h,
        diameter_um=diameter_um,
        xy_um=xy,
        roundness=roundness,
        plate=plate,
        apart=apart,
        own_way=own_way,
        axis_rad=axis,
        radius_um=spread + (ball - spread) * roundness,
        mass=mass * vanishing,
        traits=traits,
        seeds=np.empty((len(cells), 0), np.float32),
    )
