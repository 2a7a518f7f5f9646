"""Which slots are committed, and their pixels' checksums: arrays over the plan, no object a slot."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import Plan, SlotKey


class SlotChecksums:
    """The raw ledger as a writer needs it.

    Attributes
    ----------
    present
        ``[timepoints, positions]``, True where the slot is recorded.
    """

    def __init__(self, plan: Plan) -> None:
        shape = (plan.timepoints, len(plan.positions))
        self.present: NDArray[np.bool_] = np.zeros(shape, np.bool_)
        self._crcs = np.zeros(shape, np.uint32)

    def add(self, records: NDArray[np.void]) -> None:
        """Take in raw records, in the order of the ledger."""
        t, p = records["timepoint"], records["position"]
        timepoints, positions = self.present.shape
        inside = (t >= 0) & (t < timepoints) & (p >= 0) & (p < positions)
        self.present[t[inside], p[inside]] = True
        self._crcs[t[inside], p[inside]] = records["pixels_crc"][inside]

    def get(self, key: SlotKey) -> int | None:
        """Checksum of the slot's pixels, or None where it is not recorded."""
        return int(self._crcs[key]) if self.present[key] else None
