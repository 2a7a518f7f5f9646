"""Tiles that overlap, reconstructed one by one, and the field that they make together.

Each tile has a piston of its own (its own background): overlaps tell by how much neighbours differ. Then
they are blended, each fading out towards its neighbours over the overlap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.methods.background import zero_background


@dataclass(frozen=True)
class Span:
    """Camera pixels of a tile: half-open ranges along y and x."""

    y: tuple[int, int]
    x: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """``(Y, X)``."""
        return self.y[1] - self.y[0], self.x[1] - self.x[0]

    @property
    def centre(self) -> tuple[float, float]:
        """(y, x) in camera pixels from the field's first corner."""
        return (self.y[0] + self.y[1]) / 2, (self.x[0] + self.x[1]) / 2

    def cut(self, images: torch.Tensor, upsampling: int = 1) -> torch.Tensor:
        """Its part of images ``[..., u·Y, u·X]``, a view."""
        (top, bottom), (left, right) = self.y, self.x
        u = upsampling
        return images[..., u * top : u * bottom, u * left : u * right]

    def common(self, other: Span) -> Span | None:
        """What two tiles share; None where nothing."""
        y = max(self.y[0], other.y[0]), min(self.y[1], other.y[1])
        x = max(self.x[0], other.x[0]), min(self.x[1], other.x[1])
        return Span(y, x) if y[0] < y[1] and x[0] < x[1] else None

    def within(self, outer: Span) -> Span:
        """As seen from another's corner."""
        (top, bottom), (left, right) = self.y, self.x
        return Span(
            (top - outer.y[0], bottom - outer.y[0]), (left - outer.x[0], right - outer.x[0])
        )


def plan_spans(shape: tuple[int, int], tile_px: int, overlap_px: int) -> list[Span]:
    """As few tiles of at most `tile_px` a side as cover the field and overlap by at least `overlap_px`, row by row.

    Raises
    ------
    ValueError
        If the overlap is as large as the tile.
    """
    if overlap_px >= tile_px:
        raise ValueError(f"tiles of {tile_px} pixels can't overlap by {overlap_px}")
    rows, columns = (_starts(n, tile_px, overlap_px) for n in shape)
    high, wide = (min(n, tile_px) for n in shape)
    return [Span((y, y + high), (x, x + wide)) for y in rows for x in columns]


def _starts(side: int, tile: int, overlap: int) -> list[int]:
    if side <= tile:
        return [0]
    count = ceil((side - overlap) / (tile - overlap))
    return [round(i * (side - tile) / (count - 1)) for i in range(count)]


class Mosaic:
    """A field put together from the tiles that are there.

    Parameters
    ----------
    shape
        ``(Y, X)`` of the field in camera pixels.
    spans
        All of its tiles, as `plan_spans` gives them.
    upsampling
        Image pixels per camera pixel.
    """

    def __init__(self, shape: tuple[int, int], spans: Sequence[Span], upsampling: int) -> None:
        self.shape = shape
        self.spans = tuple(spans)
        self.upsampling = upsampling
        self._fades = [
            (
                _fade(s.y, shape[0], overlap[0], upsampling),
                _fade(s.x, shape[1], overlap[1], upsampling),
            )
            for overlap in [self._overlap()]
            for s in self.spans
        ]

    def together(self, tiles: Mapping[int, torch.Tensor], *, align: bool = True) -> torch.Tensor:
        """The field of the tiles so far, zero where there is none.

        Parameters
        ----------
        tiles
            Number of a tile in `spans` → its image ``[..., u·y, u·x]``.
        align
            Take each tile's piston from the overlaps (of phases), and zero the background in the end.
        """
        some = next(iter(tiles.values()))
        u = self.upsampling
        total = some.new_zeros(*some.shape[:-2], u * self.shape[0], u * self.shape[1])
        if len(self.spans) == 1:
            return zero_background(some) if align else some
        weight = torch.zeros_like(total)
        pistons = self.pistons(tiles) if align else {}
        # In their own order, not that in which they were made: sums of floats depend on it.
        for number, image in sorted(tiles.items(), key=lambda tile: tile[0]):
            fade_y, fade_x = (f.to(image.device) for f in self._fades[number])
            fade = fade_y[:, None] * fade_x
            span = self.spans[number]
            level = image - pistons[number][..., None, None] if align else image
            span.cut(total, u).add_(level * fade)
            span.cut(weight, u).add_(fade)
        out = torch.where(weight > 0, total / weight.clamp_min(torch.finfo(weight.dtype).tiny), 0)
        if not align:
            return out
        covered = weight > 0
        return torch.where(covered, zero_background(out), 0) if bool(covered.all()) else out

    def pistons(self, tiles: Mapping[int, torch.Tensor]) -> dict[int, torch.Tensor]:
        """Level ``[...]`` of each tile against the others, by least squares over what they share; of zero mean."""
        numbers = sorted(tiles)
        rows: list[NDArray[np.float64]] = []
        differences: list[torch.Tensor] = []
        for i, first in enumerate(numbers):
            for j in range(i + 1, len(numbers)):
                second = numbers[j]
                a, b = self.spans[first], self.spans[second]
                shared = a.common(b)
                if shared is None:
                    continue
                root = float(np.sqrt(shared.shape[0] * shared.shape[1]))
                row = np.zeros(len(numbers))
                row[i], row[j] = root, -root
                rows.append(row)
                mine = shared.within(a).cut(tiles[first], self.upsampling)
                theirs = shared.within(b).cut(tiles[second], self.upsampling)
                differences.append((mine - theirs).flatten(-2).median(-1).values.double() * root)
        first_tile = tiles[numbers[0]]
        if not rows:
            return {n: torch.zeros_like(first_tile[..., 0, 0]) for n in numbers}
        inverse = torch.from_numpy(np.linalg.pinv(np.stack(rows))).to(first_tile.device)
        levels = torch.stack(differences, -1) @ inverse.T
        return {n: levels[..., i].to(first_tile.dtype) for i, n in enumerate(numbers)}

    def _overlap(self) -> tuple[int, int]:
        """Least overlap of neighbours along each axis; 0 where there is one tile."""
        return _least([s.y for s in self.spans]), _least([s.x for s in self.spans])


def _least(ranges: Sequence[tuple[int, int]]) -> int:
    ordered = sorted(set(ranges))
    return min((a[1] - b[0] for a, b in pairwise(ordered)), default=0)


def _fade(span: tuple[int, int], side: int, overlap: int, upsampling: int) -> torch.Tensor:
    """``[u·(stop - start)]``: 1 inside, falling to nearly nothing at edges that have a neighbour."""
    length = upsampling * (span[1] - span[0])
    at = torch.arange(length, dtype=torch.float32) + 0.5
    width = max(1, upsampling * overlap)
    fade = torch.ones(length)
    if span[0] > 0:
        fade = torch.minimum(fade, at / width)
    if span[1] < side:
        fade = torch.minimum(fade, at.flip(0) / width)
    return fade
