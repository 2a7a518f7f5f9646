"""Freedoms that a phase image has: its piston, and with Fourier ptychography its tilt."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.quality.checks import image_pair


def align_piston(image: ArrayLike, truth: ArrayLike, *, tilt: bool = False) -> NDArray[np.float64]:
    """`image` moved to `truth` by the constant that makes their mean squared difference least.

    The metrics of this package do not align by themselves: align first, and say so beside the figure.

    Parameters
    ----------
    image, truth
        ``[Y, X]``, radians.
    tilt
        Whether a plane is fitted too.

    Returns
    -------
    numpy.ndarray
        ``[Y, X]`` float64.
    """
    image, truth = image_pair(image, truth)
    difference = truth - image
    aligned = image + difference.mean()
    if tilt:
        # Centred ramps are orthogonal to each other and to a constant: each is fitted by itself.
        for axis, length in enumerate(image.shape):
            ramp = np.arange(length) - (length - 1) / 2
            profile = difference.mean(1 - axis)
            norm = (ramp**2).sum()
            slope = (ramp * profile).sum() / norm if norm else 0.0
            aligned += slope * (ramp[:, None] if axis == 0 else ramp)
    return np.asarray(aligned)


def align_bowl(image: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """As `align_piston`, with a plane and a bowl (x² + y²) fitted too.

    For references that may have a bowl of their own: of methods that take a field to go on as it begins, or light of
    near LEDs for plane waves.
    """
    image, truth = image_pair(image, truth)
    y, x = ((np.arange(n) - (n - 1) / 2) / max(image.shape) for n in image.shape)
    yy, xx = np.meshgrid(y, x, indexing="ij")
    shapes = np.stack([np.ones_like(yy), yy, xx, yy**2 + xx**2], -1)
    found = np.linalg.lstsq(shapes.reshape(-1, 4), (truth - image).ravel(), rcond=None)[0]
    return np.asarray(image + shapes @ found)
