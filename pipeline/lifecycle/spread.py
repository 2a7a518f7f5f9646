"""A few slots that stand for all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import SlotKey
from pipeline.store.reader import slots_where


def spread_slots(chosen: NDArray[np.bool_], most: int) -> list[SlotKey]:
    """At most so many of the slots where ``[timepoints, positions]`` is True, evenly spread in time."""
    found = slots_where(chosen)
    if len(found) <= most:
        return found
    return [found[i] for i in np.linspace(0, len(found) - 1, most).round().astype(int)]
