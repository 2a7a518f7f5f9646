"""Cells make room for each other: they push softly, and abut where they meet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Neighbours: `of` sees `other`; every pair is there both ways, sorted by `of`."""

    of: Ints
    other: Ints
    sisters: NDArray[np.bool_]

    @classmethod
    def closer_than(cls, distance_um: float, xy_um: Floats, sister: Ints) -> Pairs:
        """Pairs of places ``[N, 2]``; ``sister[i]`` is the index of i's sister or -1."""
        if len(xy_um) < 2:
            nobody = np.empty(0, np.int64)
            return cls(nobody, nobody, np.empty(0, np.bool_))
        once = cKDTree(xy_um).query_pairs(distance_um, output_type="ndarray").astype(np.int64)
        both = np.concatenate([once, once[:, ::-1]])
        both = both[np.lexsort((both[:, 1], both[:, 0]))]
        return cls(both[:, 0], both[:, 1], sister[both[:, 0]] == both[:, 1])


@dataclass(frozen=True)
class Borders:
    """Straight borders to neighbours, each as cell `of` sees it."""

    of: Ints
    angle_rad: Floats
    """Where the neighbour lies."""
    distance_um: Floats
    weight: Floats
    """0 no border … 1 a full one."""

    def take(self, which: NDArray[np.bool_]) -> Borders:
        """Borders of the cells that a mask ``[N]`` keeps, renumbered."""
        number = np.cumsum(which) - 1
        kept = which[self.of]
        return Borders(
            number[self.of[kept]], self.angle_rad[kept], self.distance_um[kept], self.weight[kept]
        )


def push_apart(
    pairs: Pairs, xy_um: Floats, radius_um: Floats, apart: Floats, own_way: Floats
) -> Floats:
    """One soft step apart for all who are too close, a smooth function of everybody's place."""
    offset = xy_um[pairs.of] - xy_um[pairs.other]
    distance = np.sqrt((offset**2).sum(1))
    contact = 0.85 * (radius_um[pairs.of] + radius_um[pairs.other])
    overlap = np.clip(contact - distance, 0.0, None)
    # Two sisters push as one cell until they part, and not each other before they crawl.
    strength = np.where(pairs.sisters, own_way[pairs.of], 0.5 + 0.5 * apart[pairs.other])
    # The offset is softened: two cells that crawl over each other must not jump as they pass.
    step = 0.6 * strength * overlap**2 / contact / np.sqrt(distance**2 + (0.6 * contact) ** 2)
    moved = [np.bincount(pairs.of, step * offset[:, k], len(xy_um)) for k in (0, 1)]
    return xy_um + np.stack(moved, axis=1)


def borders_between(pairs: Pairs, xy_um: Floats, radius_um: Floats, apart: Floats) -> Borders:
    """Where neighbours abut: between two middles, in the ratio of their radii."""
    offset = xy_um[pairs.other] - xy_um[pairs.of]
    distance = np.sqrt((offset**2).sum(1))
    own, theirs = radius_um[pairs.of], radius_um[pairs.other]
    share = distance * own / (own + theirs)
    return Borders(
        of=pairs.of,
        angle_rad=np.arctan2(offset[:, 1], offset[:, 0]),
        # A cell that is crawled over keeps some ground: the border never reaches its middle.
        distance_um=np.sqrt(share**2 + (0.35 * own) ** 2),
        # The outline takes the sixth root of a weight: the furrow cuts in as the sisters part.
        weight=np.where(pairs.sisters, apart[pairs.of] ** 6, 0.5 + 0.5 * apart[pairs.other]),
    )
