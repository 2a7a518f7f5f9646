"""Writes reconstructions: every pyramid level durable, then the record, after the raw record."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.durable import sync_file
from pipeline.errors import StoreError
from pipeline.experiment import Experiment
from pipeline.frames import SlotKey
from pipeline.store.arrays import begin_write, make_context, open_array
from pipeline.store.failures import write_failure
from pipeline.store.layout import array_path, open_layout
from pipeline.store.ledger import PHASE_RECORD, SKIP_RECORD, LedgerKind, LedgerReader, LedgerWriter
from pipeline.store.pyramid import levels_crc, pyramid
from pipeline.store.run_folder import RunFolder
from pipeline.store.slot_checksums import SlotChecksums

# Fields of a phase record that say how far to trust it.
_QUALITY = (
    "residual",
    "unexplained",
    "alarm",
    "scale_uncertainty",
    "valid_share",
    "uncalibrated",
    "seconds",
    "latency_s",
)


class PendingPhase:
    """One slot's pyramid on its way to the disk."""

    def __init__(self, key: SlotKey, futures: list[Any], levels: list[NDArray[np.float32]]) -> None:
        self.key = key
        self.pixels_crc = levels_crc(levels)
        self._futures = futures
        self._levels = levels  # tensorstore reads them until the futures are done

    def done(self) -> bool:
        """Whether every level is on the disk, or failed. Doesn't wait."""
        return all(future.done() for future in self._futures)

    def error(self) -> BaseException | None:
        """Wait for every level; what went wrong, if anything."""
        errors = [future.exception() for future in self._futures]
        return next((error for error in errors if error is not None), None)


class PhaseWriter:
    """One worker's way to the disk. Each slot is written by the worker that owns it (`phase_owner`).

    The store is there already (`create_phase`): it is the supervisor's to make.

    Parameters
    ----------
    folder
        Its lock is held by the run.
    worker
        Number of this worker; it has a ledger of its own.
    experiment
        Of this run.

    Attributes
    ----------
    plan, layout
        Of the run, of the phase store.

    Raises
    ------
    RunFolderError
        The ledger belongs to another experiment, or another process writes it.
    StoreError
        The store is absent or the ledger damaged.

    Not thread-safe: one thread calls it.
    """

    def __init__(self, folder: RunFolder, worker: int, experiment: Experiment) -> None:
        self.folder = folder
        self.worker = worker
        self.plan = experiment.plan()
        self.layout = open_layout(folder.phase_store, experiment)
        self._context = make_context()
        self._arrays: dict[tuple[int, int], Any] = {}
        fingerprint, k = experiment.fingerprint(), self.plan.frames_per_slot
        self._fingerprint = fingerprint
        self._skipped: LedgerWriter | None = None
        self._raw = SlotChecksums(self.plan)
        self._raw_ledger = LedgerReader(folder.raw_ledger, LedgerKind.RAW, fingerprint, k)
        self._ledger = LedgerWriter(folder.phase_ledger(worker), LedgerKind.PHASE, fingerprint, k)

    def write_levels(self, key: SlotKey, images: NDArray[np.float32]) -> PendingPhase:
        """Begin to write the images and their pyramid.

        Parameters
        ----------
        images
            ``[C, Y, X]`` float32; not to be changed until the result is done.

        Raises
        ------
        ValueError
            Wrong shape or type, or a slot outside the plan.
        StoreError
            The store can't be opened or written.
        """
        expected = self.layout.level_shape(0)[1:]
        if images.shape != expected or images.dtype != np.float32:
            raise ValueError(f"{key} is {images.dtype} {images.shape}, not float32 {expected}")
        if not self.plan.has(key):
            raise ValueError(f"{key} is outside the plan")
        levels = pyramid(images, len(self.layout.level_shapes))
        futures = []
        for number, level in enumerate(levels):
            path = array_path(self.folder.phase_store, self.plan, key.position, number)
            shard = path / self.layout.shard_name(key.timepoint)
            array = self._array(key.position, number)
            futures.append(begin_write(array, key.timepoint, level, shard))
        return PendingPhase(key, futures, levels)

    def commit(self, pending: PendingPhase, raw_crc: int, quality: Mapping[str, float]) -> None:
        """Wait for the levels and record them; durable when this returns.

        Parameters
        ----------
        raw_crc
            `slot_crc` of the frames that the images were made from.
        quality
            ``residual`` (reduced χ²), ``unexplained`` share, ``alarm``, ``scale_uncertainty``,
            ``valid_share`` of the measured pixels, ``uncalibrated`` (1 or 0), ``seconds`` of
            computing, ``latency_s`` from the last frame; NaN where absent.
            Other names are not recorded.

        Raises
        ------
        StoreError
            A level could not be written, or the raw ledger has no record of this slot with this
            CRC (as yet). Nothing is recorded.
        """
        error = pending.error()
        if error is not None:
            raise write_failure(self.folder.phase_store, error) from error
        self._require_raw(pending.key, raw_crc)
        record = np.zeros(1, PHASE_RECORD)
        record["timepoint"], record["position"] = pending.key
        record["raw_crc"] = raw_crc
        record["pixels_crc"] = pending.pixels_crc
        record["worker"] = self.worker
        for name in _QUALITY:
            record[name] = quality.get(name, math.nan)
        record["time_utc"] = time.time()
        self._ledger.append(record)

    def write(
        self, key: SlotKey, images: NDArray[np.float32], raw_crc: int, quality: Mapping[str, float]
    ) -> None:
        """`write_levels` and `commit` in one."""
        self.commit(self.write_levels(key, images), raw_crc, quality)

    def skip(self, key: SlotKey, raw_crc: int) -> None:
        """Record that no phase can be made of a slot's frames, so that nobody tries again.

        Parameters
        ----------
        raw_crc
            `slot_crc` of the frames. Whoever finds others in the raw store does try.

        Raises
        ------
        StoreError
            The ledger can't be written.
        """
        if self._skipped is None:
            self._skipped = LedgerWriter(
                self.folder.skipped_ledger(self.worker),
                LedgerKind.SKIPPED,
                self._fingerprint,
                self.plan.frames_per_slot,
            )
        record = np.zeros(1, SKIP_RECORD)
        record["timepoint"], record["position"] = key
        record["raw_crc"] = raw_crc
        record["worker"] = self.worker
        record["time_utc"] = time.time()
        self._skipped.append(record)

    def close(self) -> None:
        """Let go of the store and the ledgers' locks; safe to call again."""
        self._arrays.clear()
        self._ledger.close()
        if self._skipped is not None:
            self._skipped.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _require_raw(self, key: SlotKey, raw_crc: int) -> None:
        """Raise unless the raw record of these pixels is on the disk."""
        if self._raw.get(key) is None:
            recorded_since = self._raw_ledger.poll()
            if len(recorded_since):
                # They may be in memory only: their writer's fdatasync is perhaps not back yet.
                sync_file(self.folder.raw_ledger)
            self._raw.add(recorded_since)
        recorded = self._raw.get(key)
        where = f"timepoint {key.timepoint}, position {key.position}"
        if recorded is None:
            raise StoreError(f"{where} has no raw record as yet", "commit its phase after it")
        if recorded != raw_crc:
            raise StoreError(
                f"the phase of {where} was made from other pixels than those in the raw store",
                "reconstruct it again from the raw store",
            )

    def _array(self, position: int, level: int) -> Any:
        if (position, level) not in self._arrays:
            path = array_path(self.folder.phase_store, self.plan, position, level)
            self._arrays[position, level] = open_array(path, self._context)
        return self._arrays[position, level]
