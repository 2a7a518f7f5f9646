"""A livephase run as a recording: what its ledger says is written, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivers.recordings.recording import RecordedFrame, Recording
from pipeline.errors import RunFolderError, StoreError
from pipeline.frames import FrameKey, FrameStatus, MissingReason, SlotKey, empty_records
from pipeline.store.checksum import slot_crc
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunState


class RunRecording(Recording):
    """Frames of a run folder by key; frames that the run lost stay missing.

    Raises
    ------
    RunFolderError, StoreError
        If the folder holds no readable run, or one that is still going on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = RunReader(path)
        if self._reader.folder.state() is RunState.RUNNING:
            raise RunFolderError(
                f"the run in {path} is still going on: frames to come would count as missing",
                "wait until it has ended; it is reconstructed live by its own method",
            )
        self._reader.poll()
        plan = self._reader.plan
        self._plan = plan
        self.frame_shape, self.dtype, self.bit_depth = plan.frame_shape, plan.dtype, plan.bit_depth
        self.positions = len(plan.positions)
        self.channels, self.foci = len(plan.channels), len(plan.foci_um)
        self.channel_names = tuple(c.name for c in plan.channels)
        self.foci_um = plan.foci_um
        self.pixel_um = self._reader.experiment.pixel_um
        # A stopped run has fewer timepoints than it planned.
        recorded = np.flatnonzero(self._reader.committed().any(axis=1))
        self.timepoints = int(recorded[-1]) + 1 if recorded.size else 0
        # One slot is read at a time: its frames are asked for one after the other.
        self._slot: SlotKey | None = None
        self._frames: NDArray[np.unsignedinteger] = np.empty(plan.slot_shape, plan.dtype)
        self._records: NDArray[np.void] = empty_records(0)

    def frame(self, key: FrameKey) -> NDArray[np.unsignedinteger] | None:
        """The frame, where the run has it."""
        if not self._load(key.slot):
            return None
        index = self._plan.index(key)
        if self._records[index]["status"] != FrameStatus.WRITTEN:
            return None
        pixels: NDArray[np.unsignedinteger] = self._frames[index]
        return pixels

    def about(self, key: FrameKey) -> RecordedFrame:
        """What the hardware said when the run was recorded."""
        if not self._load(key.slot):
            return RecordedFrame()
        record = self._records[self._plan.index(key)]
        return RecordedFrame(
            image_number=int(record["image_number"]),
            # UTC, not the monotonic clock: that one begins anew with every resume on another boot.
            time_s=float(record["time_utc"]),
            time_utc=float(record["time_utc"]),
            focus_um=float(record["focus_um"]),
            led=int(record["led"]),
            reason=MissingReason(int(record["reason"])) or MissingReason.SOURCE,
        )

    def close(self) -> None:
        """Let go of the run's stores."""
        self._reader.close()

    def _load(self, slot: SlotKey) -> bool:
        """Read a slot, unless it is the last one read; False if the run does not have it."""
        if slot == self._slot:
            return True
        record = self._reader.raw_records.get(slot)
        if record is None:
            return False
        frames, records = self._reader.raw(slot)
        if slot_crc(frames, records) != record["pixels_crc"]:
            raise StoreError(
                f"timepoint {slot.timepoint}, position {slot.position} of {self.path} is damaged: "
                "its pixels don't fit their checksum",
                "restore the file from a copy; `livephase verify` lists the damage",
            )
        self._slot, self._frames, self._records = slot, frames, records
        return True
