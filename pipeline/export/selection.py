"""What of a run is exported: which images, positions, channels and timepoints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.errors import ExperimentError, RunFolderError
from pipeline.experiment.strict import nearest
from pipeline.frames import FrameStatus, MissingReason, SlotKey, reason_in_words
from pipeline.store.reader import RunReader

What = Literal["phase", "raw", "both"]


@dataclass(frozen=True)
class Selection:
    """A part of a run. Numbers are from 0 on.

    Parameters
    ----------
    kinds
        ``("phase",)``, ``("raw",)`` or both.
    cut_short
        Whether what was not taken never will be.
    """

    reader: RunReader
    kinds: tuple[str, ...]
    timepoints: range
    positions: tuple[int, ...]
    cut_short: bool

    def why_no_frame(self, key: SlotKey, frame: int) -> str | None:
        """Why frame `frame` of a slot is not stored, in words; None where it is."""
        record = self.reader.raw_records.get(key)
        if record is None:
            never = reason_in_words(MissingReason.STOPPED)
            return never if self.cut_short else "not recorded as yet"
        status = record["frames"][frame]["status"]
        if status == FrameStatus.WRITTEN:
            return None
        return reason_in_words(int(record["frames"][frame]["reason"]))

    def why_no_phase(self, key: SlotKey) -> str | None:
        """Why a slot has no reconstruction, in words; None where it has."""
        reader = self.reader
        if reader.is_reconstructed(key):
            return None
        record = reader.raw_records.get(key)
        if record is None:
            return self.why_no_frame(key, 0)
        if reader.is_skipped(key):
            return "nothing could be made of its frames"
        lost = record["frames"]["status"] != FrameStatus.WRITTEN
        if lost.any():
            reason = reason_in_words(int(record["frames"]["reason"][np.argmax(lost)]))
            return f"{int(lost.sum())} of its frames missing: {reason}"
        return "not reconstructed as yet"

    def time_utc(self, key: SlotKey) -> float:
        """When the first stored frame of a slot was taken; NaN where that is not known."""
        record = self.reader.raw_records.get(key)
        if record is None:
            return math.nan
        frames = record["frames"]
        times = frames["time_utc"][frames["status"] == FrameStatus.WRITTEN]
        times = times[np.isfinite(times)]
        return float(times.min()) if len(times) else math.nan


def select(
    run: Path | str,
    what: What | None,
    timepoints: tuple[int | None, int | None] | None,
    positions: Sequence[str | int] | None,
) -> Selection:
    """Open a run and check what is asked of it.

    Parameters
    ----------
    what
        None: phase where the run has any, else raw.
    timepoints
        First, and the one behind the last; None: from the first on, up to the last one recorded.
    positions
        Names or numbers; None: all.

    Raises
    ------
    LivephaseError
        There is nothing of what is asked for.
    """
    reader = RunReader(Path(run))
    plan = reader.plan
    recorded = np.flatnonzero(reader.committed().any(axis=1))
    if not len(recorded):
        raise RunFolderError(
            f"the run in {run} has no stored frame", "see `livephase report` for what became of it"
        )
    has_phase = bool(reader.reconstructed().any())
    if what in ("phase", "both") and not has_phase:
        raise RunFolderError(
            f"there is no phase in {run}",
            "export its frames with --what raw, or make phase of them with `livephase reconstruct`",
        )
    kinds = ("raw", "phase") if what == "both" else (what or ("phase" if has_phase else "raw"),)
    begin, end = timepoints or (None, None)
    begin, end = begin or 0, int(recorded[-1]) + 1 if end is None else end
    if not 0 <= begin < end <= plan.timepoints:
        raise ExperimentError(
            f"there are no timepoints {begin}:{end}",
            f"give A:B within 0:{plan.timepoints}, from 0 on, B itself left out",
        )
    for kind in kinds:
        # A store that was moved away is missed here, and not in the middle of a movie.
        _ = reader.raw_pixel_um() if kind == "raw" else reader.phase_pixel_um()
    names = [p.name for p in plan.positions]
    chosen = (
        range(len(names)) if positions is None else [pick(p, names, "position") for p in positions]
    )
    return Selection(
        reader, kinds, range(begin, end), tuple(chosen), reader.folder.state().cut_short
    )


def pick(wanted: str | int, names: Sequence[str], kind: str) -> int:
    """The number of what is meant by its name or its number.

    Raises
    ------
    ExperimentError
        There is no such thing.
    """
    text = str(wanted)
    if text in names:
        return list(names).index(text)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    raise ExperimentError(f"the run has no {kind} '{wanted}'", nearest(text, list(names)))


def parse_timepoints(text: str | None) -> tuple[int | None, int | None] | None:
    """``A:B``, ``A:``, ``:B`` or ``A``.

    Raises
    ------
    ExperimentError
        It is none of them.
    """
    if text is None:
        return None
    first, colon, last = text.partition(":")
    try:
        begin = int(first) if first.strip() else None
        end = int(last) if last.strip() else None
    except ValueError as error:
        raise ExperimentError(
            f"--timepoints {text} is no range", "give A:B, such as 0:100, or :100"
        ) from error
    if not colon:
        end = None if begin is None else begin + 1
    return begin, end


def parse_range(text: str | None) -> tuple[float, float] | None:
    """``LOW,HIGH``.

    Raises
    ------
    ExperimentError
        It is not, or HIGH is not above LOW.
    """
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = math.nan
    if not low < high or not math.isfinite(high - low):
        raise ExperimentError(
            f"--range {text} is no range", "give LOW,HIGH, such as -0.5,2 (radians of phase)"
        )
    return low, high
