"""The part of a field that is worth a closer look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def liveliest(views: Sequence[NDArray[np.float32]], shape: tuple[int, int]) -> tuple[slice, slice]:
    """A quarter of the field along each axis, where pictures of the whole vary most; to an eighth."""
    variance = sum(
        _of_fours(_of_eighths(known**2)) - _of_fours(_of_eighths(known)) ** 2
        for known in (np.nan_to_num(view).astype(np.float64) for view in views)
    )
    at = np.unravel_index(np.argmax(variance), np.shape(variance))
    row, column = (int(corner) * n // 8 for corner, n in zip(at, shape, strict=True))
    return slice(row, row + shape[0] // 4), slice(column, column + shape[1] // 4)


def _of_eighths(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[8, 8]`` means."""
    y, x = (n // 8 for n in image.shape)
    means: NDArray[np.float64] = image[: 8 * y, : 8 * x].reshape(8, y, 8, x).mean((1, 3))
    return means


def _of_fours(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[7, 7]`` means of each two by two of them."""
    return (means[:-1, :-1] + means[:-1, 1:] + means[1:, :-1] + means[1:, 1:]) / 4
