"""Who lives when: founders, their daughters and granddaughters, each with a birth, a path and an end.

Everything is a pure function of (seed, position, founder, path in the tree): no cell waits for another to be drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.samples.seeding import generator, matern_points
from pipeline.samples.style import CultureStyle

TRAITS = 64
SEEDS = 2048
_FOUNDERS, _CELLS, _ORGANELLES = 1, 2, 5
_TILE_UM = 200.0
_SPEEDS = ((6.5, 5.0), (2.1, 1.3), (0.8, 0.25))
"""(period in hours, amplitude in µm) of the sinusoids that a path is made of."""
STRAY_UM = 4.0 * sum(a for _, a in _SPEEDS)
"""No cell gets farther from its place of birth at speed 1 (amplitudes vary by 1.4 and count twice along x and y)."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One cell's life, from its birth to its division or death."""

    key: tuple[int, ...]
    """Founder's tile and number, then the place in the tree: 1 the founder, 2n and 2n + 1 the daughters of n."""
    birth_h: float
    end_h: float
    dies: bool
    anchor_um: tuple[float, float]
    """Where it is at `anchor_h`: birth, or time 0 for a founder."""
    anchor_h: float
    axis_rad: float
    """Direction in which it leaves its sister."""
    traits: NDArray[np.float32]
    """``[TRAITS]`` uniform in 0 … 1: what makes this cell different.

    By number: 0-17 path, 18 axis of division, 19 whether it spreads, 20-22 size, 23-25 heaviness,
    26-29 long axis, 30-41 protrusions, 42-47 nucleus, 48-50 profile, 51-54 organelles.
    """
    mothers_size: float
    mothers_heaviness: float
    """What it starts from on its way to its own; a founder has arrived."""

    @property
    def founder(self) -> bool:
        """Alive at time 0."""
        return self.key[-1] == 1

    @property
    def mother(self) -> tuple[int, ...] | None:
        """Key of the mother, none for a founder."""
        return None if self.founder else (*self.key[:-1], self.key[-1] // 2)

    @property
    def size(self) -> float:
        """Standard normal score (nearly) of its size among its kind."""
        return _score(self.traits[20:23])

    @property
    def heaviness(self) -> float:
        """Standard normal score (nearly) of its dry mass among its kind."""
        return _score(self.traits[23:26])


def _score(three: NDArray[np.float32]) -> float:
    """Three uniform numbers as one that is nearly standard normal."""
    return 2 * float(three.sum() - 1.5)


def smooth(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 below 0, 1 above 1, and a cubic between."""
    x = np.clip(x, 0.0, 1.0)
    return np.asarray(x * x * (3 - 2 * x))


def paths_um(cells: Sequence[Cell], time_h: float, speed: float) -> NDArray[np.float64]:
    """``[N, 2]`` where the cells' own crawling has taken them, neighbours left aside."""
    places = np.array([c.anchor_um for c in cells], np.float64).reshape(len(cells), 2)
    start = np.array([c.anchor_h for c in cells], np.float64)[:, None]
    traits = np.array([c.traits[:18] for c in cells], np.float64).reshape(len(cells), 3, 3, 2)
    # Sisters part along the axis of division before they crawl off.
    founder = np.array([c.founder for c in cells], np.bool_)[:, None]
    awake = np.where(founder, 1.0, smooth((time_h - start - 0.7) / 2.5))
    for k, (period, amplitude) in enumerate(_SPEEDS):
        tempo, size, phase = traits[:, k, 0], traits[:, k, 1], 2 * np.pi * traits[:, k, 2]
        omega = 2 * np.pi / (period * (0.8 + 0.5 * tempo))
        swing = np.sin(omega * (time_h - start) + phase) - np.sin(phase)
        places = places + awake * amplitude * speed * (0.6 + 0.8 * size) * swing
    return places


class Lineages:
    """All trees of a culture, on an endless plane, for any position on it.

    Parameters
    ----------
    seed
        Of the specimen.
    density_per_um2
        Of founders, on average.
    diameter_um
        Of a spread cell: founders keep a part of it from each other.
    """

    def __init__(
        self, seed: int, density_per_um2: float, diameter_um: float, style: CultureStyle
    ) -> None:
        self._seed = seed
        self._density = density_per_um2
        self._diameter = diameter_um
        self._style = style
        # Where a generation would no longer fit onto the glass, half of its cells die instead of dividing.
        area = 0.6 * diameter_um**2
        self._free_generations = int(
            np.floor(np.log2(max(1.0, 1.0 / max(density_per_um2 * area, 1e-12))))
        )
        # Trees are pure functions of their keys: remembering them changes nothing but the time it takes.
        self.tile = lru_cache(maxsize=4096)(self._tile)
        self._daughters = lru_cache(maxsize=32768)(self._divide)
        self._seeds = lru_cache(maxsize=4096)(self._draw_seeds)

    @property
    def tile_um(self) -> float:
        """Edge of the squares that founders are sown in."""
        return _TILE_UM

    def stray_um(self, time_h: float) -> float:
        """No cell alive then is farther from its founder's first place."""
        generations = 1 + int(time_h / self._style.cycle_h[0])
        return generations * (STRAY_UM * self._style.speed + self._diameter)

    def alive(self, time_h: float, position: int, tile: tuple[int, int]) -> list[Cell]:
        """Cells alive at a time whose founders were sown in a tile, in the order of their keys."""
        found: list[Cell] = []
        waiting = list(self.tile(position, tile))
        while waiting:
            cell = waiting.pop()
            if time_h < cell.end_h:
                found.append(cell)
            elif not cell.dies:
                waiting += self.daughters(position, cell)
        return sorted(found, key=lambda c: c.key)

    def daughters(self, position: int, mother: Cell) -> tuple[Cell, Cell]:
        """The two cells that a division makes."""
        return self._daughters(position, mother)

    def seeds(self, position: int, cells: Sequence[Cell]) -> NDArray[np.float32]:
        """``[N, SEEDS]`` uniform in 0 … 1: where the cells' organelles lie."""
        drawn = [self._seeds(position, c.key) for c in cells]
        return np.array(drawn, np.float32).reshape(len(cells), SEEDS)

    def _tile(self, position: int, tile: tuple[int, int]) -> tuple[Cell, ...]:
        sown = matern_points(
            self._seed, _FOUNDERS, position, tile, _TILE_UM, self._density, 0.9 * self._diameter
        )
        return tuple(
            self._found(position, (*tile, int(n)), (float(x), float(y))) for x, y, n in sown
        )

    def _found(
        self, position: int, founder: tuple[int, int, int], place: tuple[float, float]
    ) -> Cell:
        traits, extra = self._draw(position, (*founder, 1))
        cycle = self._cycle(extra)
        # Ages in an exponentially growing culture: twice as many newborn cells as dividing ones.
        age = -cycle * np.log2(1 - 0.5 * extra[3])
        return Cell(
            key=(*founder, 1),
            birth_h=float(-age),
            end_h=float(cycle - age),
            dies=bool(self._free_generations < 1 and extra[2] < 0.5),
            anchor_um=place,
            anchor_h=0.0,
            axis_rad=0.0,
            traits=traits,
            mothers_size=_score(traits[20:23]),
            mothers_heaviness=_score(traits[23:26]),
        )

    def _divide(self, position: int, mother: Cell) -> tuple[Cell, Cell]:
        x, y = paths_um([mother], mother.end_h, self._style.speed)[0]
        axis = 2 * np.pi * float(mother.traits[18])
        first, second = (
            self._born(position, mother, (float(x), float(y)), axis, i) for i in (0, 1)
        )
        return first, second

    def _born(
        self, position: int, mother: Cell, place: tuple[float, float], axis: float, which: int
    ) -> Cell:
        n = 2 * mother.key[-1] + which
        key = (*mother.key[:-1], n)
        traits, extra = self._draw(position, key)
        generation = n.bit_length()
        return Cell(
            key=key,
            birth_h=mother.end_h,
            end_h=mother.end_h + self._cycle(extra),
            dies=bool(generation > self._free_generations and extra[2] < 0.5),
            anchor_um=place,
            anchor_h=mother.end_h,
            axis_rad=float(axis + np.pi * which),
            traits=traits,
            mothers_size=mother.size,
            mothers_heaviness=mother.heaviness,
        )

    def _cycle(self, extra: NDArray[np.float32]) -> float:
        shortest, longest = self._style.cycle_h
        return shortest + (longest - shortest) * 0.5 * float(extra[0] + extra[1])

    def _draw(
        self, position: int, key: tuple[int, ...]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        numbers = generator(self._seed, _CELLS, position, *key).random(TRAITS + 4, dtype=np.float32)
        return numbers[:TRAITS], numbers[TRAITS:]

    def _draw_seeds(self, position: int, key: tuple[int, ...]) -> NDArray[np.float32]:
        return generator(self._seed, _ORGANELLES, position, *key).random(SEEDS, dtype=np.float32)
