"""How fast frames become durable: the record stage beside raw files of the same bytes.

Slots come out of a ring as fast as they are taken, so that the disk and the CPU are all that
is measured. The baseline writes each slot to a file of its own: temporary, fsync, rename.
"""

from __future__ import annotations

import os
import secrets
import shutil
import statistics
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bench.recordings import recording_experiment
from pipeline.bench.scene import noisy_frame
from pipeline.control import ACQUIRE, RECORD, Control, StageControl, StageState
from pipeline.durable import sync_directory
from pipeline.experiment import Experiment
from pipeline.frames import FrameStatus, Plan, SlotKey
from pipeline.lifecycle.preflight import ring_slots, shard_timepoints
from pipeline.ring import Ring
from pipeline.stages.record import Recording
from pipeline.store.raw_writer import RawWriter
from pipeline.store.run_folder import RunFolder, RunState
from pipeline.store.verify import verify
from pipeline.telemetry import Telemetry

_LOOK_S = 0.1


@dataclass(frozen=True)
class Recorded:
    """One measurement of the record stage."""

    seconds: float
    cpu_s: float
    bytes_on_disk: int
    missing: int
    verified: bool


@dataclass(frozen=True)
class DurableBench:
    """The measurement's size. `timepoints` are written in each of the 2 · `pairs`, and in one pair before."""

    frame_shape: tuple[int, int] = (2160, 2560)
    channels: int = 5
    timepoints: int = 24
    pairs: int = 5
    rate_hz: float = 30.0
    """Of the camera as planned: with the frames' size it decides how many timepoints share a file."""

    @property
    def most_bytes(self) -> int:
        """On the disk at any time."""
        return 2 * self._raw_bytes

    @property
    def _raw_bytes(self) -> int:
        return self._experiment().plan().slot_bytes * self.timepoints

    def _experiment(self) -> Experiment:
        return recording_experiment(
            "the bench itself", self.frame_shape, self.channels, self.timepoints, self.rate_hz
        )

    def measure(self, folder: Path) -> dict[str, Any]:
        """Measure in an empty folder, which is left empty.

        Returns
        -------
        dict
            ``durable_ratio`` (median over the pairs), ``compression_ratio``, ``missing`` (frames that are
            not in the ledger), ``mb_per_s`` and ``cpu_ms_per_mb`` of the recorder, and the conditions.
        """
        experiment = self._experiment()
        plan = experiment.plan()
        per_shard = shard_timepoints(experiment)
        slots = ring_slots(experiment, per_shard)
        recorded: list[Recorded] = []
        plain_s: list[float] = []
        name = f"livephase-{secrets.token_hex(4)}-bench"
        with ExitStack() as stack:
            ring = stack.enter_context(Ring.create(name, plan, slots))
            stack.callback(ring.unlink)
            _expose(ring, plan.frame_shape)
            # The first pair warms the disk and the CPU, and does not count.
            for pair in range(self.pairs + 1):
                for way in ("ours", "plain")[:: 1 if pair % 2 else -1]:
                    part = folder / f"{way} {pair}"
                    if way == "ours":
                        recorded.append(_record(part, experiment, ring))
                    else:
                        plain_s.append(_write_files(part, ring, plan))
                    shutil.rmtree(part)
                    # What is left to do for the one way must not fall to the other's account.
                    sync_directory(folder)
        counted, plain_s = recorded[1:], plain_s[1:]
        raw_mb = self._raw_bytes / 1e6
        ratios = [plain / ours.seconds for ours, plain in zip(counted, plain_s, strict=True)]
        return {
            "durable_ratio": round(statistics.median(ratios), 3),
            "compression_ratio": round(1e6 * raw_mb / counted[0].bytes_on_disk, 3),
            "missing": sum(r.missing for r in recorded),
            "mb_per_s": round(raw_mb / statistics.median(r.seconds for r in counted)),
            "cpu_ms_per_mb": round(1e3 * statistics.median(r.cpu_s for r in counted) / raw_mb, 3),
            "durable": {
                "ratios": [round(r, 3) for r in ratios],
                "raw_files_mb_per_s": round(raw_mb / statistics.median(plain_s)),
                "verified": all(r.verified for r in recorded),
                "frame_shape": list(self.frame_shape),
                "dtype": plan.dtype.name,
                "channels": self.channels,
                "compression": experiment.output.compression,
                "mb_each": round(raw_mb),
                "pairs": self.pairs,
                "timepoints_per_file": per_shard,
                "timepoints_per_raw_file": 1,
                "ring_slots": slots,
            },
        }


def _expose(ring: Ring, frame_shape: tuple[int, int]) -> None:
    """Fill every slot of the ring with frames of its own, which stay in its memory."""
    rng = np.random.default_rng(0)
    for number in range(ring.slots):
        slot = ring.begin(SlotKey(number, 0), timeout_s=0.0)
        assert slot is not None, "a new ring is empty"
        for frame in slot.frames:
            frame[:] = noisy_frame(frame_shape, rng)
        slot.records["status"] = FrameStatus.WRITTEN
        slot.publish()
    ring.free(ring.head)


def _publish(ring: Ring, key: SlotKey, timeout_s: float) -> bool:
    """A camera of unlimited speed: the slot's frames are what its memory holds already."""
    slot = ring.begin(key, timeout_s)
    if slot is None:
        return False
    slot.records["status"] = FrameStatus.WRITTEN
    slot.records["time_utc"] = time.time()
    slot.records["time_monotonic"] = time.monotonic()
    slot.publish()
    return True


def _record(path: Path, experiment: Experiment, ring: Ring) -> Recorded:
    """Record the experiment's slots with the record stage's own loop."""
    folder = RunFolder(path)
    over = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(folder.lock())
        folder.create(experiment)
        control = stack.enter_context(Control.create(f"{ring.name}-ctl"))
        stack.callback(control.unlink)
        telemetry = stack.enter_context(Telemetry.create(f"{ring.name}-tel"))
        stack.callback(telemetry.unlink)
        writer = stack.enter_context(RawWriter(folder, experiment))
        stage, counters = control.stage(RECORD), telemetry.writer("record")
        recording = Recording(ring, writer, stage, counters, experiment.output.shard_s)
        camera = threading.Thread(
            target=_feed, args=(ring, writer.plan, control.stage(ACQUIRE), over), daemon=True
        )
        cpu, start = time.process_time(), time.monotonic()
        camera.start()
        try:
            recording.run()
        finally:
            seconds, cpu_s = time.monotonic() - start, time.process_time() - cpu
            over.set()
            camera.join()
        folder.update(RunState.DONE)
    found = verify(path)
    shards = folder.raw_store.rglob("c.*")
    return Recorded(
        seconds,
        cpu_s,
        bytes_on_disk=sum(shard.stat().st_size for shard in shards),
        missing=found.planned - found.written,
        verified=found.ok,
    )


def _feed(ring: Ring, plan: Plan, stage: StageControl, over: threading.Event) -> None:
    """Publish every slot of the plan as soon as the ring has room, in the acquire stage's place."""
    stage.say(StageState.RUNNING)
    try:
        for key in plan.slot_keys():
            while not _publish(ring, key, _LOOK_S):
                if over.is_set():
                    return
    finally:
        stage.say(StageState.FINISHED)


def _write_files(path: Path, ring: Ring, plan: Plan) -> float:
    """Write the same slots as raw files; the seconds that it took."""
    path.mkdir()
    start = time.monotonic()
    for key in plan.slot_keys():
        _publish(ring, key, _LOOK_S)
        slot = ring.take(ring.tail)
        assert slot is not None, "it was published just now"
        final = path / f"{key.timepoint}.raw"
        temporary = final.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(slot.frames.data)
            os.fsync(file.fileno())
        temporary.replace(final)
        ring.free(slot.sequence + 1)
    return time.monotonic() - start
