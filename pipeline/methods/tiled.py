"""Methods that make a field of tiles: what is looked at first, the rest when there is time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from pipeline.frames import Region
from pipeline.methods.background import zero_background
from pipeline.methods.contract import Part, Reconstruction
from pipeline.methods.mosaic import Mosaic, Span

Prepared = TypeVar("Prepared")


@dataclass(frozen=True)
class Tile:
    """What is made of one tile.

    Parameters
    ----------
    images
        ``[C, u·y, u·x]``, phase first.
    predicted
        ``[K, y, x]``, as `Reconstruction.predicted`.
    """

    images: torch.Tensor
    predicted: torch.Tensor | None = None


class TiledReconstructor(ABC, Generic[Prepared]):
    """The part of a reconstructor that tiles have in common.

    Parameters
    ----------
    mosaic
        The field.
    first
        Where to begin, unless asked for another region; the middle where None.
    """

    def __init__(self, mosaic: Mosaic, first: Region | None) -> None:
        self.mosaic = mosaic
        self._first = first

    @abstractmethod
    def prepared(self, frames: torch.Tensor, valid: torch.Tensor) -> Prepared:
        """What all tiles of a measurement ``[K, Y, X]`` need. Raises `SlotError`."""

    @abstractmethod
    def tile(self, prepared: Prepared, span: Span) -> Tile:
        """One of them."""

    @torch.inference_mode()
    def __call__(self, frames: torch.Tensor, valid: torch.Tensor) -> Reconstruction:
        """See `Reconstructor`."""
        made = [_end_of(self.parts(f, v, None)) for f, v in zip(frames, valid, strict=True)]
        predicted = [m.predicted[0] for m in made if m.predicted is not None]
        return Reconstruction(
            torch.cat([m.images for m in made]), torch.stack(predicted) if predicted else None
        )

    def parts(
        self, frames: torch.Tensor, valid: torch.Tensor, first: Region | None
    ) -> Generator[Part, None, Reconstruction]:
        """See `PartByPart`."""
        with torch.inference_mode():
            prepared = self.prepared(frames, valid)
        order, wanted = self.order(first)
        done: dict[int, Tile] = {}
        for count, number in enumerate(order, 1):
            with torch.inference_mode():
                made = self.tile(prepared, self.mosaic.spans[number])
                phase = zero_background(made.images[0])
                done[number] = Tile(torch.cat([phase[None], made.images[1:]]), made.predicted)
            if count < len(order):
                yield Part(count, len(order), count >= wanted, lambda: self._together(done))
        with torch.inference_mode():
            return Reconstruction(self._together(done)[None], self._predicted(frames, done))

    def order(self, region: Region | None) -> tuple[list[int], int]:
        """Numbers of tiles from the region outwards, and how many of them it needs."""
        region = region or self._first
        spans = self.mosaic.spans
        height, width = self.mosaic.shape
        if region is None:
            region = Region(height / 2, width / 2, 0.0, 0.0)
        middle = region.y + region.height / 2, region.x + region.width / 2

        def distance(number: int) -> float:
            y, x = spans[number].centre
            return (y - middle[0]) ** 2 + (x - middle[1]) ** 2

        nearest = sorted(range(len(spans)), key=distance)
        inside = [n for n in nearest if _overlap(spans[n], region)] or nearest[:1]
        return [*inside, *(n for n in nearest if n not in inside)], len(inside)

    def _together(self, done: dict[int, Tile]) -> torch.Tensor:
        """``[C, u·Y, u·X]`` of the tiles so far."""
        phase = self.mosaic.together({n: t.images[0] for n, t in done.items()})
        others = next(iter(done.values())).images.shape[0] - 1
        return torch.stack(
            [
                phase,
                *(
                    self.mosaic.together({n: t.images[c + 1] for n, t in done.items()}, align=False)
                    for c in range(others)
                ),
            ]
        )

    def _predicted(self, frames: torch.Tensor, done: dict[int, Tile]) -> torch.Tensor | None:
        """``[1, K, Y, X]``; where tiles overlap, one's: they have fitted it as well as each other."""
        if any(t.predicted is None for t in done.values()):
            return None
        out = torch.empty_like(frames)
        for number, tile in sorted(done.items()):
            assert tile.predicted is not None
            self.mosaic.spans[number].cut(out)[:] = tile.predicted.to(out.device)
        return out[None]


def _overlap(span: Span, region: Region) -> bool:
    (top, bottom), (left, right) = span.y, span.x
    return (
        top <= region.y + region.height
        and bottom >= region.y
        and left <= region.x + region.width
        and right >= region.x
        # A region of no extent is a place: whole tiles beside it are not meant.
        and (region.height > 0 or region.width > 0)
    )


def _end_of(parts: Generator[Part, None, Reconstruction]) -> Reconstruction:
    while True:
        try:
            next(parts)
        except StopIteration as end:
            result: Reconstruction = end.value
            return result


def region_of(first_px: Sequence[float] | None) -> Region | None:
    """Of a setting (y, x, height, width)."""
    return None if first_px is None else Region(*first_px)
