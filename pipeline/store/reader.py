"""Reads a run, finished or going on: what is committed, pixels, and what the hardware said."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StoreError
from pipeline.frames import (
    FRAME_RECORD,
    FrameStatus,
    MissingReason,
    SlotKey,
    empty_records,
)
from pipeline.store.arrays import make_context, open_array, read_array
from pipeline.store.layout import (
    ImageLayout,
    array_path,
    open_layout,
    stored_channels,
    stored_pixel_um,
)
from pipeline.store.ledger import PHASE_RECORD, SKIP_RECORD, LedgerKind, LedgerReader, raw_record
from pipeline.store.record_table import RecordTable
from pipeline.store.run_folder import RunFolder


class RunReader:
    """A run folder to read from. Takes no lock and changes nothing.

    `raw` and `phase` look for new records where they need one; for all else call `poll`.

    Parameters
    ----------
    path
        The run folder.

    Attributes
    ----------
    folder, experiment, plan
        Of the run.
    raw_records, phase_records, skip_records
        The ledgers as sets, up to the last `poll`; those of all workers as one.

    Raises
    ------
    RunFolderError
        No run folder, or a ledger of another experiment is in it.
    StoreError
        A ledger is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        self.experiment = self.folder.experiment()
        self.plan = self.experiment.plan()
        k = self.plan.frames_per_slot
        self._fingerprint = self.experiment.fingerprint()
        self._raw_ledger = LedgerReader(
            self.folder.raw_ledger, LedgerKind.RAW, self._fingerprint, k
        )
        self._phase_ledgers: dict[int, LedgerReader] = {}
        self.raw_records = RecordTable(self.plan, raw_record(k))
        self.phase_records = RecordTable(self.plan, PHASE_RECORD)
        self._skipped_ledgers: dict[int, LedgerReader] = {}
        self.skip_records = RecordTable(self.plan, SKIP_RECORD)
        self._context = make_context()
        self._arrays: dict[tuple[Path, int, int], Any] = {}
        self.poll()

    def poll(self) -> int:
        """Take in what was committed since; returns how many records that were.

        Raises
        ------
        StoreError
            A ledger is damaged.
        """
        self._open(self._phase_ledgers, self.folder.phase_ledgers(), LedgerKind.PHASE)
        self._open(self._skipped_ledgers, self.folder.skipped_ledgers(), LedgerKind.SKIPPED)
        # Phase before raw, whose records come first: so none is seen without its raw record.
        phase = [ledger.poll() for ledger in self._phase_ledgers.values()]
        skipped = [ledger.poll() for ledger in self._skipped_ledgers.values()]
        raw = self._raw_ledger.poll()
        self.raw_records.add(raw)
        for records in skipped:
            self.skip_records.add(records)
        for records in phase:
            self.phase_records.add(records)
        return len(raw) + sum(len(records) for records in phase)

    def is_committed(self, key: SlotKey) -> bool:
        """Whether the slot's raw frames are in the store."""
        return self.raw_records.get(key) is not None

    def is_reconstructed(self, key: SlotKey) -> bool:
        """Whether a reconstruction from these raw frames is in the store."""
        raw, phase = self.raw_records.get(key), self.phase_records.get(key)
        return raw is not None and phase is not None and raw["pixels_crc"] == phase["raw_crc"]

    def committed(self) -> NDArray[np.bool_]:
        """``[timepoints, positions]``, True where `is_committed`; `slots_where` makes keys of it."""
        return self.raw_records.present

    def reconstructed(self) -> NDArray[np.bool_]:
        """``[timepoints, positions]``, True where `is_reconstructed`."""
        same = self.raw_records.last("pixels_crc") == self.phase_records.last("raw_crc")
        return self.raw_records.present & self.phase_records.present & np.asarray(same, np.bool_)

    def is_skipped(self, key: SlotKey) -> bool:
        """Whether a worker found that no phase can be made of these raw frames."""
        raw, skip = self.raw_records.get(key), self.skip_records.get(key)
        return raw is not None and skip is not None and raw["pixels_crc"] == skip["raw_crc"]

    def is_settled(self, key: SlotKey) -> bool:
        """Whether nothing is left to reconstruct of the recorded frames."""
        return self.is_reconstructed(key) or self.is_skipped(key)

    def skipped(self) -> NDArray[np.bool_]:
        """``[timepoints, positions]``, True where `is_skipped`."""
        same = self.raw_records.last("pixels_crc") == self.skip_records.last("raw_crc")
        return self.raw_records.present & self.skip_records.present & np.asarray(same, np.bool_)

    def raw(self, key: SlotKey) -> tuple[NDArray[np.unsignedinteger], NDArray[np.void]]:
        """Frames ``[K, Y, X]`` of a committed slot and their records ``[K]`` of `FRAME_RECORD`.

        A missing frame is zeros. The pixels are not checked against their CRC (`slot_crc` does).

        Raises
        ------
        StoreError
            Not committed, or unreadable.
        """
        if not self.is_committed(key):
            self.poll()
        record = self.raw_records.get(key)
        if record is None:
            raise _absent(key, "not recorded")
        what = f"timepoint {key.timepoint}, position {key.position} of {self.folder.raw_store}"
        array = self._array(self.folder.raw_store, key.position, 0)
        pixels = read_array(array, key.timepoint, what).reshape(self.plan.slot_shape)
        return pixels, record["frames"].copy()

    def phase(self, key: SlotKey, level: int = 0) -> NDArray[np.float32]:
        """Reconstruction ``[C, y, x]`` of a slot at one pyramid level, C = the method's outputs.

        Raises
        ------
        StoreError
            Not reconstructed, or unreadable.
        """
        if self.phase_records.get(key) is None:
            self.poll()
            if self.phase_records.get(key) is None:
                raise _absent(key, "not reconstructed")
        store = self.folder.phase_store
        what = f"timepoint {key.timepoint}, position {key.position}, level {level} of {store}"
        array = self._array(store, key.position, level)
        pixels: NDArray[np.float32] = read_array(array, key.timepoint, what)
        return pixels

    def raw_frame(self, key: SlotKey, frame: int) -> NDArray[np.unsignedinteger]:
        """One frame ``[Y, X]`` of a committed slot; zeros if it is missing. See `raw_part`."""
        return self.raw_part(key, frame, slice(None), slice(None))

    def raw_part(
        self, key: SlotKey, frame: int, rows: slice, columns: slice
    ) -> NDArray[np.unsignedinteger]:
        """A part ``[h, w]`` of one frame of a committed slot, `frame` along its K axis.

        Only the chunks that hold it are read. Raises `StoreError` as `raw` does.
        """
        if not self.is_committed(key):
            self.poll()
            if not self.is_committed(key):
                raise _absent(key, "not recorded")
        foci = len(self.plan.foci_um)
        at = (frame // foci, frame % foci) if foci > 1 else (frame,)
        array = self._array(self.folder.raw_store, key.position, 0)
        what = f"frame {frame} of timepoint {key.timepoint} of {self.folder.raw_store}"
        pixels: NDArray[np.unsignedinteger] = read_array(
            array, (key.timepoint, *at, rows, columns), what
        )
        return pixels

    def phase_part(
        self, key: SlotKey, output: int, level: int, rows: slice, columns: slice
    ) -> NDArray[np.float32]:
        """A part ``[h, w]`` of one image of a reconstructed slot, in pixels of a pyramid level.

        Only the chunks that hold it are read. Raises `StoreError` as `phase` does.
        """
        if self.phase_records.get(key) is None:
            self.poll()
            if self.phase_records.get(key) is None:
                raise _absent(key, "not reconstructed")
        array = self._array(self.folder.phase_store, key.position, level)
        what = f"timepoint {key.timepoint}, level {level} of {self.folder.phase_store}"
        pixels: NDArray[np.float32] = read_array(
            array, (key.timepoint, output, rows, columns), what
        )
        return pixels

    def phase_levels(self) -> int:
        """How many pyramid levels a reconstruction has. Raises `StoreError` without a store."""
        return len(self.phase_layout().level_shapes)

    def phase_layout(self) -> ImageLayout:
        """Shapes of the reconstructions. Raises `StoreError` without a store."""
        return open_layout(self.folder.phase_store, self.experiment)

    def outputs(self) -> tuple[str, ...]:
        """Names of the images of a reconstruction, "phase" first. Raises `StoreError` without a store."""
        return stored_channels(self.folder.phase_store, self.plan)

    def raw_pixel_um(self) -> float:
        """A camera pixel at the sample, as calibrated. Raises `StoreError` without a store."""
        return stored_pixel_um(self.folder.raw_store, self.plan)

    def phase_pixel_um(self) -> float:
        """A reconstruction's finest pixel at the sample. Raises `StoreError` without a store."""
        return stored_pixel_um(self.folder.phase_store, self.plan)

    def frame_table(self) -> NDArray[np.void]:
        """What the hardware said of every planned frame: ``[t, p, c, z]`` of `FRAME_RECORD`.

        A frame that was never exposed is PENDING; in a run that was cut short it is MISSING (STOPPED).
        """
        plan = self.plan
        slots = (plan.timepoints, len(plan.positions))
        table = np.empty((*slots, plan.frames_per_slot), FRAME_RECORD)
        table[:] = empty_records(1)[0]
        if self.folder.state().cut_short:
            table["status"] = FrameStatus.MISSING
            table["reason"] = MissingReason.STOPPED
        present = self.raw_records.present
        table[present] = self.raw_records.last("frames")[present]
        return table.reshape(*slots, len(plan.channels), len(plan.foci_um))

    def close(self) -> None:
        """Let go of the stores; safe to call again."""
        self._arrays.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(
        self, ledgers: dict[int, LedgerReader], paths: dict[int, Path], kind: LedgerKind
    ) -> None:
        """Follow the workers' ledgers that are new."""
        for worker, path in paths.items():
            if worker not in ledgers:
                ledgers[worker] = LedgerReader(
                    path, kind, self._fingerprint, self.plan.frames_per_slot
                )

    def _array(self, store: Path, position: int, level: int) -> Any:
        key = (store, position, level)
        if key not in self._arrays:
            path = array_path(store, self.plan, position, level)
            self._arrays[key] = open_array(path, self._context)
        return self._arrays[key]


def slots_where(mask: NDArray[np.bool_]) -> list[SlotKey]:
    """The slots of a ``[timepoints, positions]`` mask, in time."""
    t, p = np.nonzero(mask)
    return list(map(SlotKey, t.tolist(), p.tolist()))


def _absent(key: SlotKey, what: str) -> StoreError:
    return StoreError(
        f"timepoint {key.timepoint}, position {key.position} is {what}",
        "see `livephase verify` for what the run holds",
    )
