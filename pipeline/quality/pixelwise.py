"""Errors pixel by pixel. Align the piston first (`align_piston`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pipeline.quality.checks import image_pair


def rmse_rad(image: ArrayLike, truth: ArrayLike) -> float:
    """Root mean squared error, in the units of the images (radians for phase)."""
    image, truth = image_pair(image, truth)
    return float(np.sqrt(((image - truth) ** 2).mean()))


def psnr_db(image: ArrayLike, truth: ArrayLike) -> float:
    """Peak signal-to-noise ratio in dB, the peak being the data range of the truth; infinite for equal images.

    Raises
    ------
    ValueError
        If the truth is constant: it has no peak.
    """
    image, truth = image_pair(image, truth)
    span = float(np.ptp(truth))
    if span == 0:
        raise ValueError("the truth is constant: PSNR is not defined")
    error = rmse_rad(image, truth)
    return float("inf") if error == 0 else 20 * float(np.log10(span / error))
