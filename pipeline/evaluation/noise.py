"""What a camera adds to a frame: the paper's noise, a plain one per pixel, and electrons.

Frames are in units of the background, which is 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Of the paper's simulated frames, before it bins them 4 x 4.
PAPER_SIGMA = 0.01
PAPER_BINNING = 4
# Of scientific CMOS cameras.
_READ_NOISE_E = 1.8


def paper_noise(frame: Floats, rng: np.random.Generator) -> Floats:
    """Gaussian noise of 0.01 on the paper's grid, binned 4 x 4 with the image: 0.0025 per camera pixel.

    So it is whatever a network's upsampling: all are scored at the same noise.

    Parameters
    ----------
    frame
        ``[Y, X]``.
    """
    rows, columns = frame.shape
    fine = rng.standard_normal((rows, PAPER_BINNING, columns, PAPER_BINNING), dtype=np.float32)
    return np.asarray(frame + np.float32(PAPER_SIGMA) * fine.mean((1, 3)))


def pixel_noise(frame: Floats, rng: np.random.Generator, sigma: float) -> Floats:
    """The same Gaussian noise on every camera pixel."""
    return np.asarray(frame + np.float32(sigma) * rng.standard_normal(frame.shape, np.float32))


def camera_noise(
    frame: Floats,
    rng: np.random.Generator,
    background_e: float,
    read_noise_e: float = _READ_NOISE_E,
) -> Floats:
    """Shot noise of so many electrons in the background, and read noise."""
    electrons = rng.poisson(np.maximum(frame, 0).astype(np.float64) * background_e)
    read = rng.normal(0, read_noise_e, frame.shape)
    return np.asarray((electrons + read) / background_e, np.float32)
