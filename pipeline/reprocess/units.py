"""What one worker reconstructs at a time, and how it does it.

A unit is a range of timepoints at one position. Each timepoint's phase is a shard of its own, and
each unit has a ledger of its own, so no two processes write one file. What a unit has committed is
done, also if it was cut short: the ledger is its done-marker, slot by slot.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pipeline.calibration import Calibration
from pipeline.errors import SlotError
from pipeline.frames import Measurement, Plan, SlotKey
from pipeline.log import log_to, stop_logging
from pipeline.stages.reconstruction import (
    SlotReconstructor,
    choose_device,
    not_reconstructed,
    reconstructible,
)
from pipeline.store.checksum import slot_crc
from pipeline.store.phase_writer import PendingPhase, PhaseWriter
from pipeline.store.reader import RunReader

log = logging.getLogger("livephase")

# More units than workers, so that none waits long for the last; each costs a ledger file.
_UNITS_PER_WORKER = 4


@dataclass(frozen=True)
class Unit:
    """Timepoints `begin` … `end` - 1 at one position; `number` is also its ledger's."""

    number: int
    position: int
    begin: int
    end: int

    def __str__(self) -> str:
        return f"position {self.position}, timepoints {self.begin} to {self.end - 1}"

    def slots(self) -> list[SlotKey]:
        """Its slots in time."""
        return [SlotKey(t, self.position) for t in range(self.begin, self.end)]


def unit_timepoints(plan: Plan, per_shard: int, workers: int) -> int:
    """Timepoints of one unit: a few units for every worker; whole raw shards where it is long."""
    timepoints = plan.slots // (_UNITS_PER_WORKER * workers)
    return max(1, timepoints if timepoints < per_shard else timepoints // per_shard * per_shard)


def split_into_units(plan: Plan, timepoints: int) -> list[Unit]:
    """Every slot of a plan in units of so many timepoints."""
    begins = range(0, plan.timepoints, timepoints)
    return [
        Unit(position * len(begins) + i, position, t, min(t + timepoints, plan.timepoints))
        for position in range(len(plan.positions))
        for i, t in enumerate(begins)
    ]


def slots_to_do(reader: RunReader, measurement: Measurement, unit: Unit) -> list[SlotKey]:
    """Slots of a unit that have the frames that are needed, and are neither reconstructed nor skipped."""
    todo = []
    for key in unit.slots():
        record = reader.raw_records.get(key)
        if record is None or reader.is_settled(key):
            continue
        if reconstructible(measurement, record["frames"]):
            todo.append(key)
    return todo


def reconstruct_unit(run: Path, unit: Unit, threads: int | None = None) -> int:
    """Reconstruct what is left of a unit; returns how many images that gave.

    Runs in a worker, which needs nothing but the run folder. `threads` are torch's on the CPU, its
    own choice where None.

    Raises
    ------
    LivephaseError
        What was committed before stays.
    """
    reader = RunReader(run)
    experiment = reader.experiment
    device = choose_device(experiment.reconstruction.device, unit.number)
    core = _reconstructor(run, experiment.fingerprint(), device, threads)
    todo = slots_to_do(reader, core.measurement, unit)
    # A worker process has no log as yet.
    handler = log_to(reader.folder.log, f"unit-{unit.number}")
    try:
        with PhaseWriter(reader.folder, unit.number, experiment) as writer:
            return _reconstruct_slots(core, reader, writer, todo)
    finally:
        stop_logging(handler)


def _reconstruct_slots(
    core: SlotReconstructor, reader: RunReader, writer: PhaseWriter, todo: list[SlotKey]
) -> int:
    skipped = 0
    # One image is on its way to the disk while the next is computed.
    before: tuple[PendingPhase, int, dict[str, float]] | None = None
    for key in todo:
        frames, records = reader.raw(key)
        # Of what was read, not of what the ledger says: pixels that rotted are refused.
        crc = slot_crc(frames, records)
        try:
            result = core.reconstruct(frames, records)
        except SlotError as error:
            log.warning("%s, %s", not_reconstructed(key), error)
            writer.skip(key, crc)
            skipped += 1
            continue
        assert result is not None, "slots_to_do lists only those that can be reconstructed"
        if before is not None:
            writer.commit(*before)
        before = writer.write_levels(key, result.images), crc, result.quality
    if before is not None:
        writer.commit(*before)
    return len(todo) - skipped


@lru_cache(maxsize=1)
def _reconstructor(
    run: Path,
    fingerprint: str,  # noqa: ARG001 - part of what the cached object is of
    device: str,
    threads: int | None,
) -> SlotReconstructor:
    """Loaded once a process: transfer functions and networks cost seconds."""
    reader = RunReader(run)
    calibration = Calibration.load(reader.folder.calibration)
    return SlotReconstructor(reader.experiment, calibration, device, threads)
