"""Append-only ledgers: the one authority on what a run holds.

A ledger is a header and fixed-size records, each keyed by its slot (timepoint,
position). It is read as a set: a later record of a key replaces an earlier one.
What is not in it does not exist, whatever the image files look like.

A raw record is appended after the slot's shard is on the disk; a phase record
after every pyramid level is, and after the raw record of its slot. A skip record
says that a slot can't be reconstructed from these raw pixels.

Layout, little-endian: `_HEADER` (64 bytes), then records of `raw_record(K)`,
`PHASE_RECORD` or `SKIP_RECORD`, each ending in the CRC-32C of its other bytes. A crash can tear
only the last write: on opening for append that tail is cut. A broken record
that later writes follow is damage, and refused.
"""

from __future__ import annotations

import os
from enum import IntEnum
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.durable import append, replace_file, sync_data
from pipeline.errors import RunFolderError, StoreError
from pipeline.frames import FRAME_RECORD, SlotKey
from pipeline.store.checksum import crc32c
from pipeline.store.failures import write_failure
from pipeline.store.locking import lock_within

_MAGIC = b"LIVEPHLG"
_HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("version", "<u2"),
        ("kind", "<u2"),
        ("frames_per_slot", "<u4"),
        ("fingerprint", "V32"),
        ("record_size", "<u4"),
        ("reserved", "V8"),
        ("crc", "<u4"),
    ]
)
# `first_of_write`: number of the first record of the same write. It tells the torn rest of the last
# write (of which a power cut may keep any pages) from damage in the middle of the ledger.
_KEY_FIELDS = [("first_of_write", "<u8"), ("timepoint", "<i4"), ("position", "<i4")]

PHASE_RECORD = np.dtype(
    [
        *_KEY_FIELDS,
        ("raw_crc", "<u4"),  # of the raw slot it was made from
        ("pixels_crc", "<u4"),  # of all pyramid levels, finest first
        ("worker", "<i4"),
        ("uncalibrated", "<f8"),  # 1.0 if the calibration lacks something, else 0.0
        ("residual", "<f8"),  # reduced chi², NaN where the method gives none
        ("unexplained", "<f8"),  # share of the measured structure that the image doesn't predict
        ("alarm", "<f8"),  # above 1: the image wants looking at
        ("scale_uncertainty", "<f8"),  # relative, of the phase's scale; NaN where unknown
        ("valid_share", "<f8"),  # share of the measured pixels that could be used
        ("seconds", "<f8"),  # of computing
        ("latency_s", "<f8"),  # from the slot's last frame to the result
        ("time_utc", "<f8"),  # of the commit, seconds since the epoch
        ("crc", "<u4"),
    ]
)
SKIP_RECORD = np.dtype(
    [
        *_KEY_FIELDS,
        ("raw_crc", "<u4"),  # of the raw slot that no phase can be made of
        ("worker", "<i4"),
        ("time_utc", "<f8"),  # of the commit, seconds since the epoch
        ("crc", "<u4"),
    ]
)
# An old recorder that was just killed may take this long to let go of its ledger (it may be within
# an fsync).
_LOCK_PATIENCE_S = 5.0


class LedgerKind(IntEnum):
    """What a ledger's records are about. Values are on disk."""

    RAW = 1
    PHASE = 2
    SKIPPED = 3


# Format of each kind; 2 of PHASE has more figures of trust.
_VERSIONS = {LedgerKind.RAW: 1, LedgerKind.PHASE: 2, LedgerKind.SKIPPED: 1}


def raw_record(frames_per_slot: int) -> np.dtype[np.void]:
    """Record of one raw slot: key, CRC of the pixels, and what the hardware said of each frame.

    Fields: ``timepoint, position, pixels_crc`` (see `pipeline.store.checksum.slot_crc`),
    ``time_utc`` of the commit, ``frames`` (``[K]`` of `FRAME_RECORD`, each written or missing), and
    the ledger's own ``first_of_write`` and ``crc``.
    """
    return np.dtype(
        [
            *_KEY_FIELDS,
            ("pixels_crc", "<u4"),
            ("time_utc", "<f8"),
            ("frames", FRAME_RECORD, (frames_per_slot,)),
            ("crc", "<u4"),
        ]
    )


def record_dtype(kind: LedgerKind, frames_per_slot: int) -> np.dtype[np.void]:
    """The record of a ledger of this kind."""
    if kind is LedgerKind.RAW:
        return raw_record(frames_per_slot)
    return PHASE_RECORD if kind is LedgerKind.PHASE else SKIP_RECORD


def record_key(record: np.void) -> SlotKey:
    """The slot that a record is about."""
    return SlotKey(int(record["timepoint"]), int(record["position"]))


class LedgerWriter:
    """Appends records durably. One writer at a time; a lock on the file sees to it.

    Parameters
    ----------
    path
        Made with a header if absent.
    kind, frames_per_slot
        Decide the record.
    fingerprint
        `Experiment.fingerprint()`: 64 hexadecimal digits.

    Attributes
    ----------
    records
        What the ledger held when it was opened, in order.

    Raises
    ------
    RunFolderError
        The ledger belongs to another experiment, or another process is writing it.
    StoreError
        It is damaged or can't be written.
    """

    def __init__(
        self, path: Path, kind: LedgerKind, fingerprint: str, frames_per_slot: int
    ) -> None:
        self.path = path
        self.dtype = record_dtype(kind, frames_per_slot)
        header = _make_header(kind, fingerprint, frames_per_slot)
        try:
            if not path.exists():
                # The header is there whole or not at all: a ledger is never torn within it.
                replace_file(path, header)
            # O_BINARY: Windows would otherwise change line ends.
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise write_failure(path, error) from error
        try:
            if not lock_within(self._fd, _LOCK_PATIENCE_S):
                raise RunFolderError(
                    f"another process is writing {path}",
                    "wait until it has ended, or end it, then try again",
                )
            content = path.read_bytes()
            _check_header(path, content, header)
            records, torn = _scan(path, content[_HEADER.itemsize :], self.dtype, 0)
            if torn:
                os.ftruncate(self._fd, _HEADER.itemsize + records.nbytes)
            # A writer that was killed may have left whole records that are in memory only.
            sync_data(self._fd)
        except BaseException:
            os.close(self._fd)
            raise
        self.records = records
        self._count = len(records)

    def append(self, records: NDArray[np.void]) -> None:
        """Append records in one write; they are on the disk when this returns.

        Parameters
        ----------
        records
            ``[N]`` of `dtype`; the ledger fills in ``first_of_write`` and ``crc``.

        Raises
        ------
        StoreError
            Nothing was appended; the ledger is as before.
        """
        if len(records) == 0:
            return
        records = records.copy()
        records["first_of_write"] = self._count
        size = self.dtype.itemsize - 4
        for record, content in zip(records, records.view(f"V{self.dtype.itemsize}"), strict=True):
            record["crc"] = crc32c(content.tobytes()[:size])
        try:
            append(self._fd, records.tobytes())
        except OSError as error:
            raise write_failure(self.path, error) from error
        self._count += len(records)

    def close(self) -> None:
        """Close the file and release its lock; safe to call again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LedgerReader:
    """Follows a ledger that may still be growing. Takes no lock and changes nothing.

    Parameters
    ----------
    path
        May be absent as yet.
    kind, fingerprint, frames_per_slot
        What it is expected to be; refused otherwise.
    """

    def __init__(
        self, path: Path, kind: LedgerKind, fingerprint: str, frames_per_slot: int
    ) -> None:
        self.path = path
        self.dtype = record_dtype(kind, frames_per_slot)
        self._header = _make_header(kind, fingerprint, frames_per_slot)
        self._offset = 0  # bytes read so far, header included

    def poll(self) -> NDArray[np.void]:
        """New whole records since the last call, ``[N]``, in order.

        Costs one ``stat`` if there are none.

        A torn tail (its writer is at work or dead) is left for later.

        Raises
        ------
        RunFolderError
            Another experiment's ledger.
        StoreError
            A damaged or unreadable one.
        """
        try:
            if self.path.stat().st_size < max(self._offset, _HEADER.itemsize) + self._least():
                return np.empty(0, self.dtype)
            with self.path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return np.empty(0, self.dtype)
        except OSError as error:
            raise StoreError(
                f"can't read the ledger {self.path} ({error.strerror})", "check the disk"
            ) from error
        if self._offset == 0:
            _check_header(self.path, content, self._header)
            self._offset = _HEADER.itemsize
            content = content[_HEADER.itemsize :]
        first = (self._offset - _HEADER.itemsize) // self.dtype.itemsize
        records, _ = _scan(self.path, content, self.dtype, first)
        self._offset += records.nbytes
        return records

    def _least(self) -> int:
        """Bytes behind the offset that are worth a look; at first the header alone is."""
        return self.dtype.itemsize if self._offset else 0


def _make_header(kind: LedgerKind, fingerprint: str, frames_per_slot: int) -> bytes:
    header = np.zeros((), _HEADER)
    header["magic"] = _MAGIC
    header["version"] = _VERSIONS[kind]
    header["kind"] = kind
    header["frames_per_slot"] = frames_per_slot
    header["fingerprint"] = np.void(bytes.fromhex(fingerprint))
    header["record_size"] = record_dtype(kind, frames_per_slot).itemsize
    header["crc"] = crc32c(header.tobytes()[:-4])
    return header.tobytes()


def _check_header(path: Path, content: bytes, expected: bytes) -> None:
    """Raise unless `content` begins with the header that this experiment's ledger has."""
    found = content[: len(expected)]
    if found == expected:
        return
    fix = "restore it from a copy, or begin a run in a new folder"
    if len(found) < len(expected):
        raise StoreError(f"the ledger {path} ends within its header", fix)
    header = np.frombuffer(found, _HEADER)[0]
    if header["magic"] != _MAGIC or header["crc"] != crc32c(found[:-4]):
        raise StoreError(f"{path} is no ledger, or its header is damaged", fix)
    wanted = np.frombuffer(expected, _HEADER)[0]
    known = int(wanted["version"])
    if header["kind"] == wanted["kind"] and header["version"] != known:
        raise StoreError(
            f"the ledger {path} is of format {header['version']}, this version knows {known}",
            "use the livephase version that is named in the run's run.json",
        )
    raise RunFolderError(
        f"the ledger {path} belongs to another experiment",
        "give the experiment that began this run, or a new folder",
    )


def _scan(
    path: Path, content: bytes, dtype: np.dtype[np.void], first: int
) -> tuple[NDArray[np.void], bool]:
    """The whole records at the beginning of `content`, and whether a torn rest follows.

    `first` is the number of the first record in `content`, counted over the whole ledger.
    """
    size = dtype.itemsize
    count = len(content) // size
    good = 0
    while good < count and _whole(content[good * size : (good + 1) * size]):
        good += 1
    records = np.frombuffer(content, dtype, count)
    for later in range(good + 1, count):
        if records[later]["first_of_write"] > first + good and _whole(
            content[later * size : (later + 1) * size]
        ):
            raise StoreError(
                f"record {first + good} of the ledger {path} is damaged, and later ones are not",
                "restore the ledger from a copy: a crash does not do this, a failing disk does",
            )
    return records[:good].copy(), good * size < len(content)


def _whole(record: bytes) -> bool:
    """Whether a record's own checksum fits."""
    return crc32c(record[:-4]) == int.from_bytes(record[-4:], "little")
