"""The camera's side: pixels and noise going in, calibrated frames coming out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def bin_pixels(intensity: torch.Tensor, n: int) -> torch.Tensor:
    """Average over pixels of ``n x n`` samples: ``[..., n·Y, n·X]`` → ``[..., Y, X]``."""
    if n == 1:
        return intensity
    *batch, y, x = intensity.shape
    return intensity.reshape(*batch, y // n, n, x // n, n).mean((-3, -1))


def expose(
    electrons: NDArray[np.floating],
    rng: np.random.Generator,
    *,
    gain_e_per_count: float,
    read_noise_e: float,
    offset_counts: float,
    bit_depth: int,
) -> NDArray[np.uint16]:
    """Raw counts of a camera that collects `electrons` on average, with shot and read noise.

    Parameters
    ----------
    electrons
        ``[Y, X]`` expected electrons per pixel after binning.
    rng
        Where the noise comes from: the same generator state gives the same frame.

    Returns
    -------
    ``[Y, X]`` uint16, clipped to 0 … 2^bit_depth − 1.
    """
    signal = rng.poisson(electrons).astype(np.float64)
    signal += rng.normal(0.0, read_noise_e, signal.shape)
    counts = np.rint(signal / gain_e_per_count + offset_counts)
    return np.clip(counts, 0, 2**bit_depth - 1).astype(np.uint16)
