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
from collections.abc import Generator
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
from pipeline.stages.reconstruction import (
    Progress,
    SlotReconstructor,
    SlotResult,
    choose_device,
    not_reconstructed,
)
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
# Slots whose tiles wait for time: a wide field is gigabytes.
_MOST_ASIDE = 4


@dataclass
class _Result:
    """A phase image on its way to the store."""

    pending: PendingPhase
    raw_crc: int
    quality: dict[str, float]


@dataclass
class _Work:
    """A slot that is being reconstructed, perhaps in parts.

    Parameters
    ----------
    arrived
        When its last frame came; None of one that is caught up with.
    shown
        Whether what is looked at is there.
    pending
        Tiles.
    seconds
        Of computing so far.
    """

    key: SlotKey
    parts: Generator[Progress, None, SlotResult | None]
    frames: NDArray[np.unsignedinteger] | None
    records: NDArray[np.void]
    arrived: float | None
    shown: bool = False
    pending: int = 0
    seconds: float = 0.0
    _checksum: int | None = None

    def keep_checksum(self) -> None:
        """Before the frames' memory takes another slot."""
        if self.frames is not None:
            self._checksum, self.frames = slot_crc(self.frames, self.records), None

    @property
    def checksum(self) -> int:
        """Of the raw pixels."""
        self.keep_checksum()
        assert self._checksum is not None
        return self._checksum

    @property
    def is_live(self) -> bool:
        """Whether somebody waits for it."""
        return self.arrived is not None and bool(np.isfinite(self.arrived))

    @property
    def age_s(self) -> float:
        """Since its last frame came."""
        return time.monotonic() - (self.arrived or 0.0)


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
        self._aside: list[_Work] = []

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
            if not self._is_leaving() and (
                self._from_ring() or self._from_aside() or self._from_backlog()
            ):
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

    def _from_aside(self) -> bool:
        """Go on with the newest slot that was set aside for a newer one."""
        if not self._aside or len(self._uncommitted) >= _MOST_UNCOMMITTED:
            return False
        self._go_on(self._aside.pop())
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
        parts = self._reconstructor.begin(frames, records)
        self._go_on(_Work(key, parts, frames, records, arrived))

    def _go_on(self, work: _Work) -> None:
        """Up to the end; or, once what is looked at is there, until a newer slot comes."""
        began = time.monotonic()
        try:
            while True:
                progress = next(work.parts)
                work.keep_checksum()
                work.pending = progress.of - progress.done
                self._control.beat()
                if progress.region_done and not work.shown:
                    self._show_region(work, progress)
                if work.shown and (self._newest.is_there or self._is_leaving()):
                    work.seconds += time.monotonic() - began
                    self._set_aside(work)
                    return
        except StopIteration as end:
            work.seconds += time.monotonic() - began
            self._finish(work, end.value)
        except SlotError as error:
            log.warning(
                "%s, %s", not_reconstructed(work.key), error, extra={"key": tuple(work.key)}
            )
            self._writer.skip(work.key, work.checksum)
            self._counters.add("slots_skipped", 1)
        self._count_pending()

    def _show_region(self, work: _Work, progress: Progress) -> None:
        """What is looked at is there, the rest is not."""
        work.shown = True
        if work.is_live:
            self._counters.observe("region_seconds", work.age_s)
        info = {"pending": progress.of - progress.done, "parts": progress.of}
        self._mailbox.put(work.key, progress.images()[0], info)

    def _set_aside(self, work: _Work) -> None:
        self._aside.append(work)
        if len(self._aside) > _MOST_ASIDE:
            # The oldest begins anew when there is time: its tiles would fill the memory.
            self._backlog.again(self._aside.pop(0).key)
        self._count_pending()

    def _count_pending(self) -> None:
        self._counters.set("tiles_pending", sum(work.pending for work in self._aside))

    def _is_leaving(self) -> bool:
        return self._control.command in (Command.LEAVE_BACKLOG, Command.ABORT)

    def _finish(self, work: _Work, result: SlotResult | None) -> None:
        key = work.key
        if result is None:
            missing = int((~_written(work.records)).sum())
            log.warning(
                "%s, frames are missing",
                not_reconstructed(key),
                extra={"key": tuple(key), "missing": missing},
            )
            self._counters.add("slots_skipped", 1)
            return
        quality = dict(result.quality)
        if work.is_live:
            quality["latency_s"] = work.age_s
            self._counters.observe("latency_seconds", work.age_s)
        self._mailbox.put(key, result.images[0], quality)
        self._counters.observe("reconstruction_seconds", work.seconds)
        for metric, name in _TRUST_METRICS:
            if np.isfinite(quality.get(name, np.nan)):
                self._counters.set(metric, quality[name])
        if quality.get("alarm", 0.0) > 1:
            self._counters.add("alarms", 1)
        pending = self._writer.write_levels(key, result.images)
        self._uncommitted.append(_Result(pending, work.checksum, quality))

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
