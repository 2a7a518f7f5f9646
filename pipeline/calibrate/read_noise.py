"""Read noise below a count: what digitisation hides of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

Floats = NDArray[np.float64]

# From here on rounding adds 1/12 count² and nothing else (to 1 part in 10⁴).
_SMOOTH_VARIANCE = 0.65
# Noise below this leaves nearly every pixel at one value: little can be learnt from it, counts.
_LEAST = 0.15
_PHASES = (np.arange(64) + 0.5) / 64 - 0.5
_ROUNDS = 100


def read_noise_counts(variance: float, means: NDArray[np.floating], frames: int) -> float | None:
    """Standard deviation before rounding, of pixels that vary by so much after it.

    Rounding adds 1/12 count² to a noise of half a count or more. A quieter camera's pixel
    flickers between two values if its level lies between them, and hardly at all if it lies on one. How the
    levels lie is learnt from the pixels' means; then the variance that they should have is matched.

    Parameters
    ----------
    variance
        Mean over the pixels of their variance in time, counts².
    means
        The pixels' mean counts over the frames.
    frames
        How many frames both are from.

    Returns
    -------
    None where the noise is so far below a count that the camera does not show it.
    """
    if variance >= _SMOOTH_VARIANCE:
        return float(np.sqrt(variance - 1 / 12))
    sums = np.rint(np.asarray(means, np.float64).ravel() * frames).astype(np.int64)
    found = np.bincount(sums % frames, minlength=frames) / len(sums)

    def excess(sigma: float) -> float:
        return _expected_variance(sigma, found) - variance

    if excess(_LEAST) >= 0:
        return None
    return float(brentq(excess, _LEAST, 1.0, xtol=1e-4))


def _expected_variance(sigma: float, found: Floats) -> float:
    """Mean over the pixels of the variance after rounding.

    Parameters
    ----------
    found
        ``[N]`` share of the pixels whose sum over the N frames is 0, 1, … N − 1 counts, modulo N.
    """
    values = np.arange(-8, 9)
    edges = (np.append(values, 9) - 0.5 - _PHASES[:, None]) / sigma
    share = np.diff(ndtr(edges), axis=1)
    spread = share @ values**2 - np.square(share @ values)
    # How likely each sum is at each phase: the distribution of one frame, convolved N times.
    frames = len(found)
    one = np.zeros((len(_PHASES), frames))
    for value, column in zip(values % frames, share.T, strict=True):
        one[:, value] += column
    sums = np.fft.irfft(np.fft.rfft(one, axis=1) ** frames, frames, axis=1).clip(1e-12)
    # Richardson-Lucy: the phases that the sums were found with.
    phases = np.full(len(_PHASES), 1 / len(_PHASES))
    for _ in range(_ROUNDS):
        phases *= sums @ (found / (phases @ sums))
    return float(phases @ spread)
