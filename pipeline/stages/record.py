"""The record stage: from the ring into the raw store, and nothing else in its way.

Slots are collected into shards, which are written whole. Only this stage's cursor
frees slots of the ring, and only up to the last slot before the first that is not
yet in the ledger: a recorder that dies finds everything uncommitted still in the ring.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from pipeline.control import Control, StageControl, StageState
from pipeline.frames import FrameStatus, SlotKey
from pipeline.ring import HeldSlot, Ring
from pipeline.stages.context import StageContext, StageReporter, stage_life
from pipeline.stages.orphan import watch_parent
from pipeline.store.raw_writer import Pending, RawWriter, ShardKey
from pipeline.telemetry import StageWriter, Telemetry

# An idle recorder looks this often: far below the ring's ten seconds, and of no weight on a core.
_LOOK_S = 0.001
# A shard that waits this many times longer for its slots than it was to take (a camera slower than its data
# sheet) is written part-filled, and whole again later: no frame stays in memory for long.
_LONGEST_WAIT = 2.0


@dataclass
class _Group:
    """The slots of one shard that are waiting for the rest of it."""

    expected: int
    since: float
    slots: list[HeldSlot] = field(default_factory=list)


class Recording:
    """The loop of the record stage, free of process matters."""

    def __init__(
        self,
        ring: Ring,
        writer: RawWriter,
        control: StageControl,
        counters: StageWriter,
        shard_s: float,
    ) -> None:
        self._ring = ring
        self._writer = writer
        self._control = control
        self._counters = counters
        self._longest_wait_s = _LONGEST_WAIT * shard_s
        self._next = ring.tail
        # Taken from the ring and not yet freed, in the ring's order.
        self._held: deque[tuple[int, SlotKey]] = deque()
        self._open: dict[ShardKey, _Group] = {}
        # With the time at which each was submitted.
        self._in_flight: deque[tuple[Pending, list[HeldSlot], float]] = deque()

    def run(self) -> None:
        """Record until acquisition is over and the ring is empty."""
        self._control.say(StageState.READY)
        while True:
            self._control.beat()
            # Asked before looking into the ring: what was published before the end is still seen.
            source = self._control.acquisition
            slot = self._ring.take(self._next)
            self._retire(wait=False)
            if slot is not None:
                self._next += 1
                self._collect(slot)
                continue
            if source in (StageState.PAUSED, StageState.FINISHED, StageState.GONE):
                self._flush(older_than_s=0.0)
                self._retire(wait=True)
                if source in (StageState.FINISHED, StageState.GONE):
                    break
            else:
                self._flush(older_than_s=self._longest_wait_s)
            time.sleep(_LOOK_S)
        self._control.say(StageState.FINISHED)

    def _collect(self, slot: HeldSlot) -> None:
        self._held.append((slot.sequence, slot.key))
        if self._writer.is_committed(slot.key):
            # By a recorder that died before it could free the slot.
            self._free()
            return
        shard = self._writer.shard_of(slot.key)
        if shard not in self._open:
            expected = sum(
                not self._writer.is_committed(k) for k in self._writer.shard_slots(shard)
            )
            self._open[shard] = _Group(expected, time.monotonic())
        group = self._open[shard]
        group.slots.append(slot)
        if len(group.slots) == group.expected:
            self._submit(shard)

    def _flush(self, older_than_s: float) -> None:
        now = time.monotonic()
        for shard in [s for s, g in self._open.items() if now - g.since >= older_than_s]:
            self._submit(shard)

    def _submit(self, shard: ShardKey) -> None:
        slots = self._open.pop(shard).slots
        pending = self._writer.submit([(s.key, s.frames, s.records) for s in slots])
        self._in_flight.append((pending, slots, time.monotonic()))

    def _retire(self, wait: bool) -> None:
        """Take note of what has been committed and free the ring up to the first slot that has not."""
        while self._in_flight:
            pending, slots, submitted = self._in_flight[0]
            if wait:
                pending.wait()
            elif not pending.done():
                break
            self._in_flight.popleft()
            self._counters.observe("commit_seconds", time.monotonic() - submitted)
            for slot in slots:
                written = int((slot.records["status"] == FrameStatus.WRITTEN).sum())
                self._counters.add("frames_written", written)
                self._counters.add("bytes_written", slot.frames.nbytes)
                self._counters.add("slots_committed", 1)
            self._free()

    def _free(self) -> None:
        up_to = None
        while self._held and self._writer.is_committed(self._held[0][1]):
            up_to, _ = self._held.popleft()
        if up_to is not None:
            self._ring.free(up_to + 1)
            self._counters.set("ring_fill", self._ring.fill)


def record(context: StageContext, reporter: StageReporter) -> None:
    """Entry point of the process."""
    with stage_life(context, reporter) as stack:
        watch_parent()
        ring = stack.enter_context(Ring.attach(context.ring))
        control = stack.enter_context(Control.attach(context.control))
        telemetry = stack.enter_context(Telemetry.attach(context.telemetry))
        writer = stack.enter_context(RawWriter(context.folder, context.experiment))
        stage = control.stage(context.index)
        counters = telemetry.writer(context.stage)
        Recording(ring, writer, stage, counters, context.experiment.output.shard_s).run()
