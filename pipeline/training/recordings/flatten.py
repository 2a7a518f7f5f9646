"""A phase image with its background at zero everywhere, not only in the mean.

TIE hardly measures low frequencies: noise, and cells that the field's edge cuts, make its background
rise and fall by tenths of a radian over a cell's distance. A network that learns from that learns to guess it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter, zoom

# What differs from the surface by less is background: detail so flat and wider than the window is lost.
_THRESHOLD_RAD = 0.1
# Nor is noise taken for cells: up to so many times its median deviation it is background.
_MADS = 6.0
# From here the threshold falls to it, round by round, while the surface finds the background.
_FIRST_RAD, _FALL, _ROUNDS = 0.5, 0.6, 6
# Where the window sees less background than this, a window as many times as wide decides.
_SEEN, _WIDER = 0.03, 3.0
# Pixels of the grid that the surface is computed on, per window.
_GRID = 4.0


def flatten_background(
    phase: NDArray[np.float32], pixel_um: float, window_um: float
) -> NDArray[np.float32]:
    """`phase` less a smooth surface through its background.

    Parameters
    ----------
    phase
        ``[Y, X]`` radians, its background near zero.
    window_um
        Standard deviation of the Gaussian window that the surface is a mean over.

    Returns
    -------
    ``[Y, X]`` float32.
    """
    step = max(1, int(window_um / _GRID / pixel_um))
    y, x = (-(-n // step) for n in phase.shape)
    padded = np.pad(phase, ((0, y * step - phase.shape[0]), (0, x * step - phase.shape[1])), "edge")
    coarse = padded.reshape(y, step, x, step).mean((1, 3))
    sigma = window_um / (step * pixel_um)
    surface = np.zeros_like(coarse)
    for number in range(_ROUNDS):
        above = coarse - surface
        # Below the surface there are no cells: what is there is the noise.
        noise = _MADS * float(np.median(-above[above < 0])) if (above < 0).any() else 0.0
        threshold = max(_THRESHOLD_RAD, noise, _FIRST_RAD * _FALL**number)
        # Around a cell lies its own thin edge: taken for background, it would lower the cell by 2 %.
        background = ~binary_dilation(above > threshold) & (above > -threshold)
        surface = _mean_over(background.astype(np.float32), coarse, sigma)
    fine = zoom(surface, step, order=1, mode="nearest", grid_mode=True)
    return np.asarray(phase - fine[: phase.shape[0], : phase.shape[1]], np.float32)


def _mean_over(
    mask: NDArray[np.float32], values: NDArray[np.float32], sigma: float
) -> NDArray[np.float32]:
    """Mean of the values where the mask is 1, in a window; in a wider one where it is hardly so."""

    def seen(width: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return tuple(gaussian_filter(a, width, mode="reflect") for a in (mask * values, mask))

    (near, share), (wide, wide_share) = seen(sigma), seen(_WIDER * sigma)
    far = wide / np.maximum(wide_share, np.finfo(np.float32).tiny)
    return np.asarray((near + _SEEN * far) / (share + _SEEN), np.float32)
