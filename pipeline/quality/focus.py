"""How sharp a frame is, as one number that a person can turn a knob by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def normalised_variance(image: NDArray[np.floating]) -> float:
    """Variance over mean of an image ``[Y, X]``: the larger, the more contrast.

    The most robust of eighteen measures in Sun, Duthaler and Nelson, "Autofocusing in computer microscopy:
    selecting the optimal focus algorithm", Microsc. Res. Tech. 65, 139 (2004). Of a corrected frame
    (background 1), so that shading is no contrast. It is greatest in focus for what absorbs or
    scatters; a transparent specimen in brightfield has least contrast there, so look for the minimum.

    NaN where the image has no light.
    """
    values = np.asarray(image, np.float64)
    mean = float(values.mean())
    return float(values.var() / mean) if mean > 0 else float("nan")
