"""Structural similarity (Wang et al., IEEE Trans. Image Process. 13, 2004), on the field and on the specimen in it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from pipeline.quality.checks import image_pair

_WINDOW = 11
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03
FOREGROUND_RAD = 0.15


def ssim_map(image: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """SSIM around each pixel, ``[Y, X]``.

    Gaussian weights (σ 1.5, window 11), population covariance, data range of the truth.

    Raises
    ------
    ValueError
        If the truth is constant, or smaller than the window.
    """
    image, truth = image_pair(image, truth)
    if min(truth.shape) < _WINDOW:
        raise ValueError(
            f"SSIM needs images of at least {_WINDOW} pixels a side, not {truth.shape}"
        )
    span = float(np.ptp(truth))
    if span == 0:
        raise ValueError("the truth is constant: SSIM is not defined")

    def local_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(gaussian_filter(values, _SIGMA, radius=_WINDOW // 2))

    ux, uy = local_mean(image), local_mean(truth)
    vx = local_mean(image * image) - ux * ux
    vy = local_mean(truth * truth) - uy * uy
    vxy = local_mean(image * truth) - ux * uy
    c1, c2 = (_K1 * span) ** 2, (_K2 * span) ** 2
    return np.asarray(
        ((2 * ux * uy + c1) * (2 * vxy + c2)) / ((ux**2 + uy**2 + c1) * (vx + vy + c2))
    )


def ssim(image: ArrayLike, truth: ArrayLike) -> float:
    """Mean SSIM over the field, less the half window at its edges."""
    edge = _WINDOW // 2
    return float(ssim_map(image, truth)[edge:-edge, edge:-edge].mean())


def foreground_mask(truth: ArrayLike, background_rad: float = 0.0) -> NDArray[np.bool_]:
    """Where the truth lies more than 0.15 rad above the background."""
    return np.asarray(np.asarray(truth) > background_rad + FOREGROUND_RAD)


def ssim_foreground(image: ArrayLike, truth: ArrayLike, background_rad: float = 0.0) -> float:
    """Mean of the SSIM map over the foreground of the truth; NaN where there is none."""
    mask = foreground_mask(truth, background_rad)
    values = ssim_map(image, truth)[mask]
    return float(values.mean()) if values.size else float("nan")
