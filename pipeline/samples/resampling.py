"""One field on grids of other pixel sizes: the same extent, more or fewer pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float32]


def resampled(field: Floats, shape: tuple[int, int]) -> Floats:
    """Pixel means on a coarser grid, a smooth interpolation (Catmull-Rom) on a finer one; ``[Y, X]``."""
    for axis in (0, 1):
        if field.shape[axis] != shape[axis]:
            weights = _weights(field.shape[axis], shape[axis])
            field = weights @ field if axis == 0 else (weights @ field.T).T
    return np.ascontiguousarray(field, np.float32)


def _weights(size: int, wanted: int) -> sparse.csr_array:
    """``[wanted, size]``; its rows sum to 1."""
    step = size / wanted
    if step > 1:
        taps = int(np.ceil(step)) + 1
        start = np.arange(wanted) * step
        index = np.floor(start).astype(np.int64)[:, None] + np.arange(taps)
        share = np.minimum(index + 1, start[:, None] + step) - np.maximum(index, start[:, None])
        share = np.clip(share, 0, None) / step
    else:
        place = (np.arange(wanted) + 0.5) * step - 0.5
        first = np.floor(place).astype(np.int64)
        t = (place - first)[:, None]
        index = first[:, None] + np.arange(-1, 3)
        share = 0.5 * np.concatenate(
            [
                -t + 2 * t**2 - t**3,
                2 - 5 * t**2 + 3 * t**3,
                t + 4 * t**2 - 3 * t**3,
                -(t**2) + t**3,
            ],
            axis=1,
        )
    row = np.broadcast_to(np.arange(wanted)[:, None], index.shape)
    column = index.clip(0, size - 1)
    entries = (share.astype(np.float32).ravel(), (row.ravel(), column.ravel()))
    return sparse.csr_array(entries, shape=(wanted, size))
