"""The slots to take, cut into what the camera is armed for at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from pipeline.frames import Plan, SlotKey


@dataclass(frozen=True)
class Burst:
    """Slots taken in one go. `due_s` counts from the start of its `series`."""

    series: int
    due_s: float
    slots: tuple[SlotKey, ...]


def bursts(plan: Plan, todo: Sequence[SlotKey]) -> Iterator[Burst]:
    """Cut the slots to take into bursts, in order."""
    if plan.interval_s == 0:
        if todo:
            yield Burst(0, 0.0, tuple(todo))
        return
    # Positions one after the other: each has a time series, and a clock, of its own.
    one_series = plan.slot_order == "tp"
    for (series, timepoint), slots in groupby(
        todo, key=lambda s: (0 if one_series else s.position, s.timepoint)
    ):
        yield Burst(series, timepoint * plan.interval_s, tuple(slots))
