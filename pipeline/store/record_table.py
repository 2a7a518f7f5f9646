"""Ledger records by slot, for runs of millions of slots: arrays over the plan, no object a key."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import Plan, SlotKey


class RecordTable:
    """A ledger as a set that grows: the last record of each slot.

    Parameters
    ----------
    plan
        Which slots there are.
    dtype
        Of the records.
    """

    def __init__(self, plan: Plan, dtype: np.dtype[np.void]) -> None:
        self._records: NDArray[np.void] = np.empty(0, dtype)
        self._count = 0
        # Number of each slot's last record, -1 where there is none.
        self._rows = np.full((plan.timepoints, len(plan.positions)), -1, np.int64)

    @property
    def records(self) -> NDArray[np.void]:
        """Every record that was added, replaced ones and strangers to the plan included."""
        return self._records[: self._count]

    @property
    def present(self) -> NDArray[np.bool_]:
        """``[timepoints, positions]``, True where the slot has a record. A copy."""
        return self._rows >= 0

    def add(self, records: NDArray[np.void]) -> None:
        """Take in further records, in the order of the ledger."""
        if len(records) == 0:
            return
        end = self._count + len(records)
        if end > len(self._records):
            # Doubling: a live ledger is polled many times.
            grown = np.empty(max(end, 2 * len(self._records)), self._records.dtype)
            grown[: self._count] = self.records
            self._records = grown
        self._records[self._count : end] = records
        inside = self.planned(records)
        rows = np.arange(self._count, end)
        # Where a slot comes twice, the last assignment holds.
        self._rows[records["timepoint"][inside], records["position"][inside]] = rows[inside]
        self._count = end

    def get(self, key: SlotKey) -> np.void | None:
        """The slot's last record, or None."""
        if not self._has(key):
            return None
        record: np.void = self._records[self._rows[key]]
        return record

    def last(self, field: str) -> NDArray[Any]:
        """``[timepoints, positions, …]`` one field of each slot's last record; zeros where none."""
        present = self.present
        out = np.zeros(
            (*present.shape, *self.records.dtype[field].shape), self.records.dtype[field].base
        )
        out[present] = self.records[field][self._rows[present]]
        return out

    def planned(self, records: NDArray[np.void]) -> NDArray[np.bool_]:
        """``[N]``, True for records whose slot is in the plan."""
        t, p = records["timepoint"], records["position"]
        timepoints, positions = self._rows.shape
        inside: NDArray[np.bool_] = (t >= 0) & (t < timepoints) & (p >= 0) & (p < positions)
        return inside

    def _has(self, key: SlotKey) -> bool:
        timepoints, positions = self._rows.shape
        inside = 0 <= key.timepoint < timepoints and 0 <= key.position < positions
        return inside and bool(self._rows[key] >= 0)
