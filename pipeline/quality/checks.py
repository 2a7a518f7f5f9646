"""What every metric asks of its two images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def image_pair(image: ArrayLike, truth: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both as float64 ``[Y, X]``.

    Raises
    ------
    ValueError
        If they are not two finite images of one shape: a metric of anything else would be a number without meaning.
    """
    pair = np.asarray(image, np.float64), np.asarray(truth, np.float64)
    if pair[0].ndim != 2 or pair[0].shape != pair[1].shape:
        raise ValueError(
            f"two images [Y, X] of one shape are compared, not {pair[0].shape} and {pair[1].shape}"
        )
    for name, array in zip(("image", "truth"), pair, strict=True):
        if not np.isfinite(array).all():
            raise ValueError(f"the {name} has NaN or infinite pixels")
    return pair
