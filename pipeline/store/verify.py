"""Checks a run against itself: every pixel against its checksum, every record against the plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import LivephaseError, StoreError
from pipeline.frames import FrameStatus, SlotKey
from pipeline.store.checksum import crc32c, slot_crc
from pipeline.store.frame_counts import count_frames
from pipeline.store.layout import array_path, open_layout
from pipeline.store.ledger import record_key
from pipeline.store.pyramid import levels_crc
from pipeline.store.reader import RunReader, slots_where
from pipeline.store.record_table import RecordTable
from pipeline.store.run_folder import RunFolder, RunState


@dataclass(frozen=True)
class VerifyReport:
    """What a run holds, and what is wrong with it.

    Parameters
    ----------
    ok
        No mismatch, and every planned frame is accounted for.
    planned, written, missing, pending
        Frames. Pending ones can still be taken, by `again`; a run that is done has none.
    reconstructed
        Phase images, one a timepoint and position.
    mismatches
        One sentence for each thing that is wrong, naming the slot or file.
    state
        Of the run.
    missing_by_reason
        Frames by the name of their `MissingReason`, in lower case.
    again
        The command that goes on with the run.
    """

    ok: bool
    planned: int
    written: int
    missing: int
    reconstructed: int
    mismatches: list[str]
    pending: int
    state: RunState
    missing_by_reason: dict[str, int] = field(default_factory=dict)
    again: str = "livephase run … --resume"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def text(self, path: Path) -> str:
        """For a person."""
        lines = [
            f"{'ok' if self.ok else 'NOT OK'}: {path} ({self.state})",
            f"  frames  planned {self.planned}  written {self.written}  missing {self.missing}"
            + (f"  pending {self.pending}" if self.pending else ""),
            f"  phase   {self.reconstructed} images",
        ]
        reasons = ", ".join(f"{name} {count}" for name, count in self.missing_by_reason.items())
        if reasons:
            lines.append(f"  missing because: {reasons}")
        if self.pending and self.state is not RunState.DONE:
            lines.append(f"  the run is not over: `{self.again}` takes what is pending")
        return "\n".join([*lines, *(f"  mismatch: {text}" for text in self.mismatches)])


def verify(path: Path) -> VerifyReport:
    """Check every committed slot, phase and record of a run. Reads all of it, a slot at a time.

    May be called while the run is going on: it then checks what is committed so far.

    Raises
    ------
    RunFolderError
        `path` is no run folder.
    ExperimentError
        Its experiment.yaml can't be read.
    """
    folder = RunFolder(path)
    experiment = folder.experiment()
    plan = experiment.plan()
    # Before the ledgers: a run that ends meanwhile must not make committed slots look stopped.
    state = folder.state()
    # The same call goes on with a recording that is reconstructed.
    again = "livephase reconstruct …" if "source" in folder.info() else VerifyReport.again
    try:
        reader = RunReader(path)
    except LivephaseError as error:
        return VerifyReport(
            False, plan.frames, 0, 0, 0, [error.cause], plan.frames, state, again=again
        )
    mismatches = [
        *_strangers(reader),
        *_disagreements(reader),
        *_incomplete(reader, state),
        *_readable(_check_raw(reader)),
        *_readable(_check_phase(reader)),
    ]
    frames = reader.raw_records.last("frames")[reader.committed()]
    counts = count_frames(frames, plan.frames, cut_short=state.cut_short)
    return VerifyReport(
        ok=not mismatches and not (counts.pending and (state.cut_short or state is RunState.DONE)),
        planned=counts.planned,
        written=counts.written,
        missing=counts.missing,
        reconstructed=int(reader.reconstructed().sum()),
        mismatches=mismatches,
        pending=counts.pending,
        state=state,
        missing_by_reason=counts.missing_by_reason,
        again=again,
    )


def _strangers(reader: RunReader) -> Iterator[str]:
    """Records whose slot nobody planned."""
    for name, table in (("raw", reader.raw_records), ("phase", reader.phase_records)):
        for record in table.records[~table.planned(table.records)]:
            yield f"{_slot(record_key(record))}: in the {name} ledger, but not in the plan"


def _disagreements(reader: RunReader) -> Iterator[str]:
    """Slots that were recorded twice with different pixels."""
    for record in _replaced(reader.raw_records):
        yield f"{_slot(record_key(record))}: recorded twice, with different pixels"
    for record in _replaced(reader.phase_records):
        last = reader.phase_records.get(record_key(record))
        # One worker may replace its own result; two that both claim a slot break the ownership.
        if last is not None and last["worker"] != record["worker"]:
            yield (
                f"{_slot(record_key(record))}: reconstructed differently by the workers "
                f"{record['worker']} and {last['worker']}"
            )


def _replaced(table: RecordTable) -> NDArray[np.void]:
    """Records that a later one of the same slot replaced with another checksum."""
    records = table.records[table.planned(table.records)]
    last = table.last("pixels_crc")[records["timepoint"], records["position"]]
    replaced: NDArray[np.void] = records[records["pixels_crc"] != last]
    return replaced


def _incomplete(reader: RunReader, state: RunState) -> Iterator[str]:
    """What a run that is done lacks.

    Which frames the method needs is not known here: a slot without phase counts only if it has all
    of its frames and no worker has recorded that nothing could be made of them.
    """
    if state is not RunState.DONE:
        return
    committed = reader.committed()
    if not reader.folder.raw_ledger.exists():
        yield f"{reader.folder.raw_ledger} is absent, but the run is done"
    else:
        for key in slots_where(~committed):
            yield f"{_slot(key)}: not in the raw ledger, but the run is done"
    if reader.folder.phase_store.exists():
        frames = reader.raw_records.last("frames")
        whole = committed & (frames["status"] == FrameStatus.WRITTEN).all(axis=-1)
        for key in slots_where(whole & ~reader.phase_records.present & ~reader.skipped()):
            yield f"{_slot(key)}: no phase, although its frames are complete"


def _readable(findings: Iterator[str]) -> Iterator[str]:
    """The findings; that a whole store is unreadable is one of them."""
    try:
        yield from findings
    except StoreError as error:
        yield error.cause


def _check_raw(reader: RunReader) -> Iterator[str]:
    for key, file in _stored(reader, reader.folder.raw_store, reader.committed()):
        record = reader.raw_records.get(key)
        assert record is not None
        if not file.exists():
            yield f"{_slot(key)}: its file {file} is absent"
            continue
        try:
            frames, records = reader.raw(key)
        except StoreError as error:
            yield f"{_slot(key)}: {error.cause}"
            continue
        # The stored zeros of a missing frame are pixels like others here.
        if crc32c(frames) != record["pixels_crc"]:
            yield f"{_slot(key)}: the raw pixels don't fit their checksum"
        elif slot_crc(frames, records) != record["pixels_crc"]:
            yield f"{_slot(key)}: a frame that is recorded as missing is not zeros"


def _check_phase(reader: RunReader) -> Iterator[str]:
    for key, file in _stored(reader, reader.folder.phase_store, reader.phase_records.present):
        record, raw = reader.phase_records.get(key), reader.raw_records.get(key)
        assert record is not None
        if raw is None:
            yield f"{_slot(key)}: reconstructed, but not in the raw ledger"
        elif raw["pixels_crc"] != record["raw_crc"]:
            yield f"{_slot(key)}: the phase was made from other raw pixels than those recorded"
        if not file.exists():
            yield f"{_slot(key)}: its phase file {file} is absent"
            continue
        try:
            levels = [reader.phase(key, level) for level in range(reader.phase_levels())]
        except StoreError as error:
            yield f"{_slot(key)}: {error.cause}"
            continue
        if levels_crc(levels) != record["pixels_crc"]:
            yield f"{_slot(key)}: the phase pixels don't fit their checksum"


def _stored(
    reader: RunReader, store: Path, present: NDArray[np.bool_]
) -> Iterator[tuple[SlotKey, Path]]:
    """Every slot that should be in a store, and the file that it should be in."""
    if not present.any():
        return
    layout = open_layout(store, reader.experiment)
    for t, p in np.argwhere(present):
        key = SlotKey(int(t), int(p))
        number = key.timepoint // layout.timepoints_per_shard
        folder = array_path(store, reader.plan, key.position)
        yield key, folder / layout.shard_name(number)


def _slot(key: SlotKey) -> str:
    return f"timepoint {key.timepoint}, position {key.position}"
