"""Read noise below a count: what digitisation hides of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

Floats = NDArray[np.float64]

# From here on rounding adds 1/12 count² and nothing else (to 1 part in 10⁴).
_SMOOTH_VARIANCE = 0.65
# Noise below this leaves nearly every pixel at one value, counts; and one known to no better than this share of
# it, as where all pixels lie on one value, is not known.
HIDDEN = 0.1
_WORST = 0.2
# How well the pixels' levels are those of the model: as a share of the variance.
_MODEL = 0.01
_LEVELS = np.linspace(-0.5, 0.5, 129)
# Of a normal distribution: where it is sampled, in standard deviations, and with which weights.
_SPREAD = np.linspace(-4, 4, 81)
# Pixels that differ by so much are not made more or less different by rounding; below, these are tried.
_SMOOTH_SPREAD = 0.6
_SPREADS = np.linspace(0, 0.7, 29)
_WEIGHTS = np.exp(-(_SPREAD**2) / 2) / np.exp(-(_SPREAD**2) / 2).sum()


def read_noise_counts(
    variance: float, means: NDArray[np.floating], frames: int
) -> tuple[float, float] | None:
    """Standard deviation before rounding, of pixels that vary by so much after it; and its uncertainty.

    Rounding adds 1/12 count² to a noise of half a count or more. A quieter camera's pixel
    flickers between two values if its level lies between them, and hardly at all if it lies on one. The pixels'
    levels are taken to be normally distributed, as their means are; then their mean variance is matched.

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
    error = variance * float(np.hypot(np.sqrt(2 / (means.size * max(frames - 1, 1))), _MODEL))
    if variance >= _SMOOTH_VARIANCE:
        sigma = float(np.sqrt(variance - 1 / 12))
        return sigma, error / (2 * sigma)
    bulk = np.clip(means, *np.quantile(means, [0.005, 0.995]))
    middle = float(bulk.mean())
    spread = float(np.sqrt(max(bulk.var() - variance / frames, 0.0)))

    def expected(sigma: float) -> float:
        return _expected_variance(sigma, middle - np.rint(middle), spread)

    if expected(HIDDEN) >= variance:
        return None
    sigma = float(brentq(lambda s: expected(s) - variance, HIDDEN, 1.0, xtol=1e-5))
    slope = (expected(sigma * 1.02) - expected(sigma * 0.98)) / (0.04 * sigma)
    uncertainty = error / max(slope, 1e-9)
    return None if uncertainty > _WORST * sigma else (sigma, uncertainty)


def _expected_variance(sigma: float, middle: float, spread: float) -> float:
    """Mean variance after rounding of pixels whose levels are normally distributed.

    Parameters
    ----------
    middle, spread
        Of the pixels' mean counts after rounding: mean, −½ … ½, and standard deviation.
    """
    values = np.arange(-8, 9)
    share = np.diff(ndtr((np.append(values, 9) - 0.5 - _LEVELS[:, None]) / sigma), axis=1)
    mean = share @ values
    variance = share @ values**2 - mean**2
    # Rounding shifts means towards whole counts: the levels are those that have the means that were found.
    shown, expected = [], []
    for candidate in (spread,) if spread > _SMOOTH_SPREAD else _SPREADS:
        levels = _LEVELS[:, None] + candidate * _SPREAD
        folded = levels - np.rint(levels)
        means = np.interp(folded, _LEVELS, mean - _LEVELS) + levels
        centre = means @ _WEIGHTS
        scatter = np.sqrt(np.square(means - centre[:, None]) @ _WEIGHTS)
        shown.append(float(np.interp(middle, centre, scatter)))
        expected.append(
            float(np.interp(middle, centre, np.interp(folded, _LEVELS, variance) @ _WEIGHTS))
        )
    return float(np.interp(spread, shown, expected))
