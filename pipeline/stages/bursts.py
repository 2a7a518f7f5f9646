"""The slots to take, cut into what the camera is armed for at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from pipeline.frames import Plan, SlotKey


@dataclass(frozen=True)
class Burst:
    """Slots taken in one go, due when the first timepoint of them is."""

    series: int
    slots: tuple[SlotKey, ...]


def bursts(plan: Plan, todo: Sequence[SlotKey], pieces: int = 0) -> Iterator[Burst]:
    """Cut the slots to take into bursts, in order.

    Parameters
    ----------
    pieces
        Without an interval: most timepoints in a burst; 0: all of them.
    """
    if plan.interval_s == 0:
        for _, slots in groupby(todo, key=lambda s: _piece(plan, s, pieces)):
            yield Burst(0, tuple(slots))
        return
    # Positions one after the other: each has a time series, and a clock, of its own.
    one_series = plan.slot_order == "tp"
    for (series, _), slots in groupby(
        todo, key=lambda s: (0 if one_series else s.position, s.timepoint)
    ):
        yield Burst(series, tuple(slots))


def _piece(plan: Plan, slot: SlotKey, pieces: int) -> tuple[int, int]:
    """What tells the pieces apart: one series' timepoints and the next one's are never in the same."""
    if not pieces:
        return 0, 0
    return slot.position if plan.slot_order == "pt" else 0, slot.timepoint // pieces
