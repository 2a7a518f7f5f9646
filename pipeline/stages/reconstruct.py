"""The reconstruct stage: from the ring, or else from the raw store, to phase.

Newest first: what a viewer waits for is the present. What was passed over is
taken from the raw store afterwards, also long after acquisition has ended. Nothing here
can hold up acquisition: the ring is only ever read.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.control import RECONSTRUCT, Command, Control, StageControl, StageState
from pipeline.errors import SlotError
from pipeline.frames import FrameStatus, Plan, SlotKey
from pipeline.mailbox import Mailbox
from pipeline.ring import Ring
from pipeline.stages.backlog import Backlog
from pipeline.stages.context import StageContext, StageReporter, stage_life
from pipeline.stages.newest import NewestSlot
from pipeline.stages.orphan import watch_parent
from pipeline.stages.reconstruction import SlotReconstructor, choose_device, not_reconstructed
from pipeline.store.checksum import slot_crc
from pipeline.store.phase_writer import PendingPhase, PhaseWriter
from pipeline.store.reader import RunReader
from pipeline.telemetry import StageWriter, Telemetry

log = logging.getLogger("livephase")

# The hand-off is to take a millisecond or two, so the ring is looked at that often.
_LOOK_S = 0.001
# Metric and the quality that it shows.
_TRUST_METRICS = (
    ("residual", "residual"),
    ("unexplained", "unexplained"),
    ("alarm", "alarm"),
    ("phase_scale_uncertainty", "scale_uncertainty"),
)
# Results whose pyramid is durable but whose raw record is not there yet: bounds memory.
_MOST_UNCOMMITTED = 32


@dataclass
class _Result:
    """A phase image on its way to the store."""

    pending: PendingPhase
    raw_crc: int
    quality: dict[str, float]


class Reconstructing:
    """The loop of one reconstruct worker, free of process matters."""

    def __init__(
        self,
        plan: Plan,
        ring: Ring,
        reader: RunReader,
        writer: PhaseWriter,
        reconstructor: SlotReconstructor,
        control: StageControl,
        counters: StageWriter,
        mailbox: Mailbox,
        backlog: Backlog,
    ) -> None:
        self._ring = ring
        self._reader = reader
        self._writer = writer
        self._reconstructor = reconstructor
        self._control = control
        self._counters = counters
        self._mailbox = mailbox
        self._backlog = backlog
        self._buffer = np.empty(plan.slot_shape, plan.dtype)
        self._newest = NewestSlot(ring, self._buffer, counters, backlog.wants)
        self._uncommitted: deque[_Result] = deque()

    def run(self) -> None:
        """Reconstruct until everything recorded is reconstructed, or the backlog is to be left."""
        self._control.say(StageState.READY)
        while True:
            self._control.beat()
            recorded_all = self._control.recording in (StageState.FINISHED, StageState.GONE)
            self._backlog.poll()
            self._commit()
            if recorded_all:
                self._drop_unrecorded()
            leaving = self._control.command in (Command.LEAVE_BACKLOG, Command.ABORT)
            if not leaving and (self._from_ring() or self._from_backlog()):
                continue
            if recorded_all and not self._uncommitted:
                break
            time.sleep(_LOOK_S)
        self._control.say(StageState.FINISHED)

    def _from_ring(self) -> bool:
        """Reconstruct the newest slot of the ring, if it is ours and new."""
        if len(self._uncommitted) >= _MOST_UNCOMMITTED:
            return False
        slot = self._newest.take()
        if slot is None:
            return False
        # Its raw record may be known by now, and the slot on the backlog with it.
        self._backlog.begin(slot.key)
        self._reconstruct(slot.key, self._buffer, slot.records, slot.arrived)
        return True

    def _from_backlog(self) -> bool:
        """Reconstruct the newest recorded slot that was passed over, out of the ring if it is still there."""
        if len(self._uncommitted) >= _MOST_UNCOMMITTED:
            return False
        key = self._backlog.next()
        if key is None:
            return False
        sequence = self._ring.find(key)
        read = None if sequence is None else self._ring.copy(sequence, self._buffer)
        if read is not None:
            self._reconstruct(key, self._buffer, read.records, arrived=None)
        else:
            self._reader.poll()
            frames, records = self._reader.raw(key)
            self._reconstruct(key, frames, records, arrived=None)
        return True

    def _reconstruct(
        self,
        key: SlotKey,
        frames: NDArray[np.unsignedinteger],
        records: NDArray[np.void],
        arrived: float | None,
    ) -> None:
        """`arrived` is when the slot's last frame came, for one that is reconstructed as it comes."""
        began = time.monotonic()
        try:
            result = self._reconstructor.reconstruct(frames, records)
        except SlotError as error:
            log.warning("%s, %s", not_reconstructed(key), error, extra={"key": tuple(key)})
            self._writer.skip(key, slot_crc(frames, records))
            self._counters.add("slots_skipped", 1)
            return
        if result is None:
            missing = int((~_written(records)).sum())
            log.warning(
                "%s, frames are missing",
                not_reconstructed(key),
                extra={"key": tuple(key), "missing": missing},
            )
            self._counters.add("slots_skipped", 1)
            return
        now = time.monotonic()
        quality = dict(result.quality)
        if arrived is not None and np.isfinite(arrived):
            quality["latency_s"] = now - arrived
            self._counters.observe("latency_seconds", now - arrived)
        self._mailbox.put(key, result.images[0], quality)
        self._counters.observe("reconstruction_seconds", now - began)
        for metric, name in _TRUST_METRICS:
            if np.isfinite(quality.get(name, np.nan)):
                self._counters.set(metric, quality[name])
        if quality.get("alarm", 0.0) > 1:
            self._counters.add("alarms", 1)
        pending = self._writer.write_levels(key, result.images)
        self._uncommitted.append(_Result(pending, slot_crc(frames, records), quality))

    def _commit(self) -> None:
        """Record what is durable and whose raw frames are recorded, whatever their order."""
        waiting: deque[_Result] = deque()
        while self._uncommitted:
            result = self._uncommitted.popleft()
            if not result.pending.done() or not self._backlog.is_recorded(result.pending.key):
                waiting.append(result)
                continue
            self._writer.commit(result.pending, result.raw_crc, result.quality)
            self._counters.add("slots_reconstructed", 1)
        self._uncommitted = waiting
        self._counters.set("reconstruction_queue", self._backlog.waiting)

    def _drop_unrecorded(self) -> None:
        """Let go of results whose raw frames will not be recorded any more: the recorder gave up."""
        recorded = [r for r in self._uncommitted if self._backlog.is_recorded(r.pending.key)]
        dropped = len(self._uncommitted) - len(recorded)
        if dropped:
            log.warning("dropped: their raw frames were not recorded", extra={"results": dropped})
            self._uncommitted = deque(recorded)


def _written(records: NDArray[np.void]) -> NDArray[np.bool_]:
    written: NDArray[np.bool_] = records["status"] == FrameStatus.WRITTEN
    return written


def worker_threads(cores: int, workers: int) -> int:
    """Threads of each worker: all share the cores but one, which acquisition and storage keep.

    Reconstructors that spin on more slow each other down.
    """
    return max(1, (cores - 1) // workers)


def reconstruct(context: StageContext, reporter: StageReporter) -> None:
    """Entry point of the process."""
    with stage_life(context, reporter) as stack:
        watch_parent()
        experiment = context.experiment
        worker = context.index - RECONSTRUCT
        threads = worker_threads(os.cpu_count() or 1, experiment.reconstruction.workers)
        device = choose_device(experiment.reconstruction.device, worker)
        reconstructor = SlotReconstructor(
            experiment, context.calibration(), device=device, threads=threads
        )
        reconstructor.warm_up()
        ring = stack.enter_context(Ring.attach(context.ring))
        control = stack.enter_context(Control.attach(context.control))
        telemetry = stack.enter_context(Telemetry.attach(context.telemetry))
        mailbox = stack.enter_context(Mailbox.attach(context.mailbox, lane=worker))
        reader = RunReader(context.run)
        writer = stack.enter_context(PhaseWriter(context.folder, worker, experiment))
        Reconstructing(
            context.plan,
            ring,
            reader,
            writer,
            reconstructor,
            control.stage(context.index),
            telemetry.writer(context.stage),
            mailbox,
            Backlog(context.folder, experiment, worker, reader.is_settled),
        ).run()
