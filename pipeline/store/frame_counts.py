"""Planned frames accounted for: each written, missing with its reason, or still to come."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import FrameStatus, MissingReason


@dataclass(frozen=True)
class FrameCounts:
    """Frames by what became of them: planned = written + missing + pending.

    Parameters
    ----------
    missing_by_reason
        By the name of the `MissingReason`, in lower case.
    """

    planned: int
    written: int
    missing: int
    pending: int
    missing_by_reason: dict[str, int] = field(default_factory=dict)


def count_frames(records: NDArray[np.void], planned: int, *, cut_short: bool) -> FrameCounts:
    """Count the frames of committed slots.

    Parameters
    ----------
    records
        `FRAME_RECORD`s of every committed slot, any shape.
    cut_short
        `RunState.cut_short`: frames that were never exposed then count as missing (STOPPED).
    """
    written = int((records["status"] == FrameStatus.WRITTEN).sum())
    lost = records["reason"][records["status"] == FrameStatus.MISSING]
    reasons = Counter(lost.tolist())
    if cut_short and planned > records.size:
        reasons[int(MissingReason.STOPPED)] += planned - records.size
    missing = sum(reasons.values())
    named = {_name(number): count for number, count in sorted(reasons.items())}
    return FrameCounts(planned, written, missing, planned - written - missing, named)


def _name(number: int) -> str:
    try:
        return MissingReason(number).name.lower()
    except ValueError:
        return f"unknown reason {number}"
