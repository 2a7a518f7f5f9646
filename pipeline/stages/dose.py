"""How much light each position has had, in seconds of full brightness: exposure times brightness, summed up.

The ledger says what was exposed of the slots that are stored. What was exposed and is not stored, as it was
taken again or lost in a crash, is kept in `unstored_light.jsonl` beside it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.durable import append
from pipeline.frames import FrameStatus, MissingReason, Plan, SlotKey
from pipeline.store.failures import write_failure

# Missing frames that were lit all the same; whether one that timed out was is not known, so it counts.
_EXPOSED: Final = (MissingReason.DROPPED, MissingReason.OVERFLOW, MissingReason.TIMEOUT)
# Sums of exposures are floating-point numbers: the planned light itself must not seem too much.
_ROUNDING: Final = 1 + 1e-9


def frame_light_s(plan: Plan) -> NDArray[np.float64]:
    """``[K]`` seconds of full brightness that each frame of a slot costs."""
    channels = [c.exposure_ms / 1e3 * c.brightness for c in plan.channels]
    return np.repeat(channels, len(plan.foci_um))


def planned_light_s(plan: Plan) -> float:
    """What each position gets if nothing has to be taken again."""
    return plan.timepoints * float(frame_light_s(plan).sum())


def exposed(records: NDArray[np.void]) -> NDArray[np.bool_]:
    """Which of these `FRAME_RECORD`s are of frames that were, or may have been, exposed."""
    lost = (records["status"] == FrameStatus.MISSING) & np.isin(records["reason"], _EXPOSED)
    lit: NDArray[np.bool_] = (records["status"] == FrameStatus.WRITTEN) | lost
    return lit


def stored_light_s(plan: Plan, frames: NDArray[np.void]) -> NDArray[np.float64]:
    """``[positions]`` light of what the ledger holds: `frames` ``[T, P, K]``, zeros where nothing is stored."""
    light: NDArray[np.float64] = (exposed(frames) * frame_light_s(plan)).sum(axis=(0, 2))
    return light


class UnstoredLight:
    """The file of exposures that no ledger knows.

    A line of JSON each: ``{"timepoint", "position", "light_s", "why"}``.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / "unstored_light.jsonl"

    def add(self, slots: Sequence[SlotKey], light_s: float, why: str) -> None:
        """Write down what each of these slots has cost, durably.

        Raises
        ------
        StoreError
            If that can't be written.
        """
        if not slots:
            return
        lines = [
            json.dumps({"timepoint": t, "position": p, "light_s": light_s, "why": why})
            for t, p in slots
        ]
        try:
            # Begun by a line's end: what a power cut has torn before it stays apart.
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                append(fd, "".join(f"\n{line}" for line in lines).encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise write_failure(self.path, error) from error

    def by_position(self, positions: int) -> NDArray[np.float64]:
        """``[positions]`` seconds."""
        light = np.zeros(positions)
        if self.path.exists():
            for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    line = json.loads(text)
                except ValueError:
                    continue  # torn by a power cut: the rest is as good as before
                light[line["position"]] += line["light_s"]
        return light


class DoseMeter:
    """What each position has had, and whether it may have more.

    Parameters
    ----------
    limit_s
        None: as much as it takes.
    spent_s
        ``[positions]`` of earlier sessions; empty: nothing.
    """

    def __init__(self, plan: Plan, limit_s: float | None, spent_s: Sequence[float] = ()) -> None:
        self._limit_s = np.inf if limit_s is None else limit_s * _ROUNDING
        self._frame_s = frame_light_s(plan)
        self._slot_s = float(self._frame_s.sum())
        self.spent_s = np.array(spent_s or [0.0] * len(plan.positions), np.float64)

    def spend(self, slot: SlotKey, lit: NDArray[np.bool_]) -> float:
        """Count frames of a slot, ``[K]``, that were exposed; the seconds that they cost."""
        light_s = float(self._frame_s[lit].sum())
        self.spent_s[slot.position] += light_s
        return light_s

    def spend_beside(self, position: int, light_s: float) -> None:
        """Count light that no frame of the plan has cost."""
        self.spent_s[position] += light_s

    def can_spare(self, position: int, light_s: float, timepoints: int) -> bool:
        """Whether a position may have light beside the plan, and still all of so many timepoints."""
        planned = timepoints * self._slot_s
        return bool(self.spent_s[position] + light_s + planned <= self._limit_s)

    def too_much(self, slots: Iterable[SlotKey]) -> list[SlotKey]:
        """Which of these slots, taken in this order, their positions can't bear."""
        if not np.isfinite(self._limit_s) or not self._slot_s:
            return []
        ahead = self.spent_s.copy()
        refused = []
        for slot in slots:
            if ahead[slot.position] + self._slot_s > self._limit_s:
                refused.append(slot)
            else:
                ahead[slot.position] += self._slot_s
        return refused
