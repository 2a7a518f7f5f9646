"""Read noise below a count: what digitisation hides of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

# From here on rounding adds 1/12 count² and nothing else (to 1 part in 10⁴).
_SMOOTH_VARIANCE = 0.65
# Noise below this leaves nearly every pixel at one value: nothing can be learnt from it, counts.
_LEAST = 0.1
_PHASES = np.linspace(-0.5, 0.5, 101)


def read_noise_counts(variance: float, means: NDArray[np.floating]) -> float | None:
    """Standard deviation before rounding, of pixels that vary by so much after it.

    Rounding adds 1/12 count² to a noise of half a count or more. A quieter camera's pixel
    flickers between two values if its level lies between them, and hardly at all if it does not: the
    mean over the pixels of the variance that each one's own level lets it have is matched.

    Parameters
    ----------
    variance
        Mean over the pixels of their variance in time, counts².
    means
        Their mean levels in time, counts.

    Returns
    -------
    None where the noise is so far below a count that the camera does not show it.
    """
    if variance >= _SMOOTH_VARIANCE:
        return float(np.sqrt(variance - 1 / 12))
    # Between −½ and ½ count: where each pixel's mean lies to the nearest count.
    offsets = np.asarray(means - np.rint(means), np.float64).ravel()

    def excess(sigma: float) -> float:
        mean, spread = _rounded_moments(sigma)
        return float(np.interp(offsets, mean, spread).mean()) - variance

    if excess(_LEAST) >= 0:
        return None
    return float(brentq(excess, _LEAST, 1.0, xtol=1e-4))


def _rounded_moments(sigma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance after rounding, for each true level of `_PHASES`."""
    values = np.arange(-8, 9)
    edges = (np.append(values, 9) - 0.5 - _PHASES[:, None]) / sigma
    share = np.diff(ndtr(edges), axis=1)
    mean = share @ values
    return mean, share @ values**2 - mean**2
