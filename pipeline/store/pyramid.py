"""Pyramid levels of images and their common checksum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.store.checksum import crc32c


def pyramid(images: NDArray[np.float32], levels: int) -> list[NDArray[np.float32]]:
    """The images ``[C, Y, X]`` and their 2x2 means, `levels` in all.

    An odd last row or column is left out; NaN where one of the four is NaN.
    """
    out = [np.ascontiguousarray(images)]
    for _ in range(levels - 1):
        fine = out[-1]
        fine = fine[:, : fine.shape[1] // 2 * 2, : fine.shape[2] // 2 * 2]
        # Sums of four slices: several times faster than a mean over reshaped axes.
        total = fine[:, ::2, ::2] + fine[:, 1::2, ::2]
        total += fine[:, ::2, 1::2]
        total += fine[:, 1::2, 1::2]
        total *= np.float32(0.25)
        out.append(total)
    return out


def levels_crc(levels: Sequence[NDArray[np.float32]]) -> int:
    """Checksum of all levels, finest first."""
    crc = 0
    for level in levels:
        crc = crc32c(level, crc)
    return crc
