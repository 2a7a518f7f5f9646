"""A few slots that stand for all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import SlotKey


def slots_where(chosen: NDArray[np.bool_], most: int | None = None) -> list[SlotKey]:
    """The slots where an array ``[timepoints, positions]`` is True, in time; at `most` so many, evenly spread."""
    found = [SlotKey(int(t), int(p)) for t, p in np.argwhere(chosen)]
    if most is None or len(found) <= most:
        return found
    return [found[i] for i in np.linspace(0, len(found) - 1, most).round().astype(int)]
