"""What an image resolves: Fourier ring correlation, and the best that the camera's pixels alone allow."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import uniform_filter1d

from pipeline.quality.checks import image_pair

_MOVING_MEAN = 5
# The first rings hold few samples: their correlation is chance.
_IGNORED_RINGS = 5
_THRESHOLD = 0.5


def ring_correlation(image: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """Fourier ring correlation of each ring, from the ring of frequency 0 to the grid's Nyquist frequency.

    Mean removed, Hann window, rings one frequency sample wide (of the shorter side).
    """
    image, truth = image_pair(image, truth)
    rows, columns = truth.shape
    window = np.hanning(rows)[:, None] * np.hanning(columns)
    a, b = (np.fft.fft2((x - x.mean()) * window) for x in (image, truth))
    side = min(rows, columns)
    radius = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)) * side
    ring = np.rint(radius).astype(np.int64).ravel()

    def over_rings(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(ring, values.ravel())[: side // 2 + 1], np.float64)

    cross = over_rings((a * np.conj(b)).real)
    power = np.sqrt(over_rings(np.abs(a) ** 2) * over_rings(np.abs(b) ** 2))
    return np.divide(cross, power, out=np.zeros_like(cross), where=power > 0)


def frc_cutoff(image: ArrayLike, truth: ArrayLike, upsampling: float = 1) -> float:
    """Where the ring correlation first falls below 0.5, in units of the camera's Nyquist frequency.

    After a moving mean over 5 rings, and beyond the fifth ring; if it never does, the Nyquist frequency of the
    image's own grid (= `upsampling`).

    Parameters
    ----------
    image, truth
        ``[Y, X]`` of one field. Average the cut-offs of several fields, not their images.
    upsampling
        Pixels of the images per camera pixel along each axis.
    """
    correlation = uniform_filter1d(ring_correlation(image, truth), _MOVING_MEAN, mode="nearest")
    rings = np.arange(len(correlation))
    below = np.flatnonzero((correlation < _THRESHOLD) & (rings > _IGNORED_RINGS))
    ring = below[0] if below.size else rings[-1]
    # Ring r is r / side cycles per image pixel; the camera's Nyquist is 1 / (2 · upsampling).
    return float(2 * upsampling * ring / min(np.shape(truth)))


def nyquist_oracle(truth: ArrayLike, upsampling: float) -> NDArray[np.float64]:
    """The truth, low-passed in a circle at the camera's Nyquist frequency.

    Parameters
    ----------
    truth
        ``[Y, X]`` on the output grid.
    upsampling
        Output pixels per camera pixel along each axis.
    """
    truth = np.asarray(truth, np.float64)
    rows, columns = truth.shape
    radius = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns))
    spectrum = np.fft.rfft2(truth) * (radius <= 0.5 / upsampling)
    return np.asarray(np.fft.irfft2(spectrum, s=truth.shape))
