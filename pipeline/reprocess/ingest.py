"""A recording goes into a run folder, by the writer that a live run uses."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from drivers.recordings import PlannedRecording
from pipeline.experiment import Experiment
from pipeline.frames import FrameStatus, SlotKey, empty_records
from pipeline.store.raw_writer import RawSlot, RawWriter, ShardKey
from pipeline.store.run_folder import RunFolder

# Shards on their way to the disk; each is up to 256 MB.
_IN_FLIGHT = 2


def ingest(
    recording: PlannedRecording,
    folder: RunFolder,
    experiment: Experiment,
    pixel_um: float | None,
    on_slots: Callable[[int], None],
) -> None:
    """Store every planned frame of a recording, or why it is missing; what is stored is skipped.

    Parameters
    ----------
    on_slots
        Called with the number of slots read since the last call.

    Raises
    ------
    LivephaseError
        If a frame can't be read or written; what was committed stays.
    """
    plan = experiment.plan()
    with RawWriter(folder, experiment, pixel_um=pixel_um, in_flight=_IN_FLIGHT) as writer:
        shards = -(-plan.timepoints // writer.timepoints_per_shard)
        for number in range(shards):
            for position in range(len(plan.positions)):
                slots = writer.shard_slots(ShardKey(position, number))
                todo = [key for key in slots if not writer.is_committed(key)]
                if todo:
                    writer.submit(_read(recording, todo))
                    on_slots(len(todo))
        writer.flush()


def _read(recording: PlannedRecording, keys: list[SlotKey]) -> list[RawSlot]:
    """Slots of one shard, side by side in memory: the writer takes them without a copy."""
    plan = recording.plan
    block: NDArray[np.unsignedinteger] = np.zeros((len(keys), *plan.slot_shape), plan.dtype)
    return [
        (key, frames, _fill(recording, key, frames))
        for key, frames in zip(keys, block, strict=True)
    ]


def _fill(
    recording: PlannedRecording, slot: SlotKey, frames: NDArray[np.unsignedinteger]
) -> NDArray[np.void]:
    """Read a slot's frames into ``[K, Y, X]``; returns their records."""
    plan = recording.plan
    records = empty_records(plan.frames_per_slot)
    for key in plan.frame_keys(slot):
        pixels, about = recording.frame(key), recording.about(key)
        index = plan.index(key)
        record = records[index]
        record["image_number"] = about.image_number
        record["led"] = about.led
        record["time_utc"] = about.time_utc
        if pixels is None:
            record["status"], record["reason"] = FrameStatus.MISSING, about.reason
            continue
        frames[index] = pixels
        record["status"] = FrameStatus.WRITTEN
        known = not math.isnan(about.focus_um)
        record["focus_um"] = about.focus_um if known else plan.foci_um[key.focus]
    return records
