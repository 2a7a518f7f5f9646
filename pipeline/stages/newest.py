"""The newest slot of the ring: noticed and copied out, for those who care about the present."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import FrameStatus, SlotKey
from pipeline.ring import Ring
from pipeline.telemetry import StageWriter


class NewSlot(NamedTuple):
    """A slot that was copied out. Times are of the monotonic clock, in seconds."""

    key: SlotKey
    records: NDArray[np.void]  # [K]
    arrived: float  # its last frame; infinite (negative) if no frame of it has a time
    seen: float  # it was complete for the reader, whose copy began


class NewestSlot:
    """Looks for slots that are new, and passes over all but the newest of them.

    Parameters
    ----------
    ring
        What was published before is not new.
    buffer
        ``[K, Y, X]``, filled by `take`.
    counters
        Told of slots that were passed over or overtaken, and of each hand-off's seconds.
    wants
        Whether to look at a slot at all: another worker's is not copied. None: at every slot.
    """

    def __init__(
        self,
        ring: Ring,
        buffer: NDArray[np.unsignedinteger],
        counters: StageWriter,
        wants: Callable[[SlotKey], bool] | None = None,
    ) -> None:
        self._ring = ring
        self._buffer = buffer
        self._counters = counters
        self._wants = wants
        self._head = ring.head

    @property
    def is_there(self) -> bool:
        """Whether the ring holds what `take` has not looked at."""
        return self._ring.head != self._head

    def take(self) -> NewSlot | None:
        """Copy the newest slot into the buffer; None if none is new, or the writer overtook the copy."""
        head = self._ring.head
        if head == self._head:
            return None
        seen = time.monotonic()
        new, self._head = range(self._head, head), head
        wanted = [sequence for sequence in new if self._is_wanted(sequence)]
        if not wanted:
            return None
        if len(wanted) > 1:
            self._counters.add("ring_passed_over", len(wanted) - 1)
        copied = self._ring.copy(wanted[-1], self._buffer)
        if copied is None:
            self._counters.add("ring_overtaken", 1)
            return None
        key, records = copied
        written = records["status"] == FrameStatus.WRITTEN
        arrived = float(np.max(records["time_monotonic"], initial=-np.inf, where=written))
        if np.isfinite(arrived):
            self._counters.observe("handoff_seconds", max(0.0, time.monotonic() - arrived))
        return NewSlot(key, records, arrived, seen)

    def _is_wanted(self, sequence: int) -> bool:
        if self._wants is None:
            return True
        key = self._ring.key_of(sequence)
        # What was overtaken may have been ours.
        return key is None or self._wants(key)
