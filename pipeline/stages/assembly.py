"""Frames into slots: where every frame's fate is decided, exactly once.

The assembler turns a driver's `Arrived` and `Lost` into published slots of the ring. A slot is
published when each of its frames is written or missing, or when a frame of another
slot shows that the rest of it will not come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.driver import Arrived, Lost
from pipeline.errors import DriverError
from pipeline.frames import FrameKey, FrameStatus, MissingReason, Plan, SlotKey, empty_records


class AccountError(DriverError):
    """A driver that delivers what nobody asked for, or the same frame twice: no retry makes that right."""


class OpenSlot(Protocol):
    """A slot of the ring that is being filled."""

    frames: NDArray[np.unsignedinteger]
    records: NDArray[np.void]

    def publish(self) -> int:
        """Make it visible to the readers."""
        ...

    def discard(self) -> None:
        """Drop it: no reader ever sees it."""
        ...


class SlotAssembler:
    """Keeps the one open slot of a ring and accounts for each of its frames.

    Parameters
    ----------
    plan
        Says where in its slot a frame belongs.
    begin
        Opens the ring's next slot for a key; blocks while the ring is full.
    published
        Told of each published slot: its key and its frames' records.
    """

    def __init__(
        self,
        plan: Plan,
        begin: Callable[[SlotKey], OpenSlot],
        published: Callable[[SlotKey, NDArray[np.void]], None],
    ) -> None:
        self._plan = plan
        self._begin = begin
        self._published = published
        self._slot: OpenSlot | None = None
        self._key: SlotKey | None = None
        self._expected: deque[SlotKey] = deque()
        # Slots that nobody exposes, and why.
        self._left_out: dict[SlotKey, MissingReason] = {}

    def expect(self, slots: Iterable[SlotKey]) -> None:
        """The slots that come next, in order. None may be open."""
        self._expected = deque(slots)
        self._left_out = {}

    @property
    def remaining(self) -> list[SlotKey]:
        """Slots that were expected and not published yet."""
        return list(self._expected)

    @property
    def to_expose(self) -> list[SlotKey]:
        """Those of them that are not left out."""
        return [slot for slot in self._expected if slot not in self._left_out]

    @property
    def open_records(self) -> NDArray[np.void] | None:
        """``[K]`` what is known so far of the frames of the slot being filled; None between two."""
        return None if self._slot is None else self._slot.records

    def leave_out(self, slots: Iterable[SlotKey], reason: MissingReason) -> None:
        """Expose none of these expected slots: all their frames will be missing for `reason`."""
        self._left_out |= dict.fromkeys(slots, reason)

    def pass_over(self) -> None:
        """Publish slots that are left out and whose turn it is. None may be open."""
        while self._expected and self._expected[0] in self._left_out:
            self._publish_empty()

    def destination(self, key: FrameKey) -> NDArray[np.unsignedinteger]:
        """The memory ``[Y, X]`` in the ring where this frame belongs."""
        slot = self._open(key.slot)
        pixels: NDArray[np.unsignedinteger] = slot.frames[self._plan.index(key)]
        return pixels

    def arrived(self, event: Arrived) -> None:
        """Account for a frame that was written into its destination."""
        slot = self._open(event.key.slot)
        row = slot.records[self._plan.index(event.key)]
        self._refuse_second_fate(row, event.key)
        row["image_number"] = event.image_number
        row["time_utc"] = event.time_utc
        row["time_monotonic"] = event.time_monotonic
        row["focus_um"] = event.focus_um
        row["buffer_fill"] = event.buffer_fill
        row["led"] = event.led
        row["status"] = FrameStatus.WRITTEN
        self._publish_if_complete()

    def lost(self, event: Lost) -> None:
        """Account for frames that will never arrive, over as many slots as they span."""
        for key in event.keys:
            slot = self._open(key.slot)
            self._refuse_second_fate(slot.records[self._plan.index(key)], key)
            self._mark_missing(slot, self._plan.index(key), event.reason)
            self._publish_if_complete()

    def close(self, reason: MissingReason) -> None:
        """Publish the open slot; what has not come is missing for `reason`."""
        if self._slot is None:
            return
        for k in np.flatnonzero(self._slot.records["status"] == FrameStatus.PENDING):
            self._mark_missing(self._slot, int(k), reason)
        self._publish_if_complete()

    def discard(self) -> None:
        """Drop the open slot: it will be taken again."""
        if self._slot is not None:
            self._slot.discard()
            self._slot = self._key = None

    def _open(self, key: SlotKey) -> OpenSlot:
        if self._slot is not None and self._key == key:
            return self._slot
        if key not in self._expected:
            raise AccountError(
                f"the driver delivered a frame of {key}, a slot that was over or never asked for",
                "report this with the run's log.jsonl",
            )
        # A driver reports its gaps; should one ever not, what was passed over is still accounted for.
        self.close(MissingReason.DROPPED)
        while self._expected[0] != key:
            self._publish_empty()
        return self._begin_slot(key)

    def _publish_empty(self) -> None:
        """Publish the next slot without a single frame."""
        key = self._expected[0]
        self._begin_slot(key)
        self.close(self._left_out.get(key, MissingReason.DROPPED))

    def _begin_slot(self, key: SlotKey) -> OpenSlot:
        slot = self._begin(key)
        slot.records[:] = empty_records(self._plan.frames_per_slot)
        self._slot, self._key = slot, key
        return slot

    @staticmethod
    def _refuse_second_fate(row: np.void, key: FrameKey) -> None:
        if row["status"] != FrameStatus.PENDING:
            raise AccountError(
                f"the driver accounted for {key} twice", "report this with the run's log.jsonl"
            )

    @staticmethod
    def _mark_missing(slot: OpenSlot, k: int, reason: MissingReason) -> None:
        slot.frames[k] = 0  # the ring's memory still holds an older frame there
        slot.records[k]["status"] = FrameStatus.MISSING
        slot.records[k]["reason"] = reason

    def _publish_if_complete(self) -> None:
        slot, key = self._slot, self._key
        if slot is None or key is None or (slot.records["status"] == FrameStatus.PENDING).any():
            return
        records = slot.records.copy()
        slot.publish()
        self._expected.popleft()
        self._slot = self._key = None
        self._published(key, records)
