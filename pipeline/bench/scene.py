"""Frames as a camera delivers them: structure, and the shot noise that compression can't remove."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MEAN_COUNTS = 8000.0
# Of the mean: cells and background on a field that is not lit evenly.
_CONTRAST = 0.3


def noisy_frame(frame_shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint16]:
    """One frame ``[Y, X]`` of about 8000 counts: blobs the size of cells, one electron a count.

    The noise is normal with the variance of Poisson's: at some thousand electrons nobody can
    tell them apart, and it is drawn ten times faster.
    """
    noise = rng.standard_normal(frame_shape, np.float32)
    mean = _structure(frame_shape, rng)
    noise *= np.sqrt(mean)
    noise += mean
    return np.rint(noise, out=noise).astype(np.uint16)


def _structure(frame_shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Mean counts ``[Y, X]``: a few standing waves along each axis, multiplied."""
    factors = []
    for side in frame_shape:
        periods = rng.uniform(1, 20, (8, 1))
        phases = rng.uniform(0, 2 * np.pi, (8, 1))
        waves = np.sin(2 * np.pi * periods * np.arange(side) / side + phases).mean(axis=0)
        factors.append(waves.astype(np.float32))
    pattern: NDArray[np.float32] = np.outer(*factors)
    pattern *= np.float32(_CONTRAST * _MEAN_COUNTS)
    pattern += np.float32(_MEAN_COUNTS)
    return pattern
