"""A livephase run as a recording: what its ledger says is written, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pipeline.store.reader import RunReader

from drivers.recordings.recording import RecordedFrame, Recording
from pipeline.frames import FrameKey, FrameStatus, SlotKey, empty_records


class RunRecording(Recording):
    """Frames of a run folder by key; frames that the run lost stay missing.

    Raises
    ------
    RunFolderError, StoreError
        If the folder holds no readable run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = RunReader(path)
        plan = self._reader.plan
        self._plan = plan
        self.frame_shape, self.dtype, self.bit_depth = plan.frame_shape, plan.dtype, plan.bit_depth
        self.positions = len(plan.positions)
        self.channels, self.foci = len(plan.channels), len(plan.foci_um)
        self.channel_names = tuple(c.name for c in plan.channels)
        self.foci_um = plan.foci_um
        self.pixel_um = self._reader.experiment.pixel_um
        self.recorded = frozenset(self._reader.raw_keys())
        # A stopped run has fewer timepoints than it planned.
        self.timepoints = 1 + max((key.timepoint for key in self.recorded), default=-1)
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
        )

    def close(self) -> None:
        """Close the run."""
        self._reader.close()

    def _load(self, slot: SlotKey) -> bool:
        if slot not in self.recorded:
            return False
        if slot != self._slot:
            self._frames, self._records = self._reader.raw_slot(slot)
            self._slot = slot
        return True
