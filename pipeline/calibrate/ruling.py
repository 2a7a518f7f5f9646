"""The period of a grating's or ruler's image, to a small part of a pixel, whatever its rotation."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]

# A peak of the spectrum is one if its amplitude is so many times the typical of its distance from zero.
_PEAK = 8.0
# A ruling whose harmonic is stronger than its fundamental has still this share of it in the fundamental.
_FUNDAMENTAL = 0.05
_ORDERS = (5, 4, 3, 2)
# Fewer periods are no ruling.
_LEAST_PERIODS = 4.0
_BLOCKS = 5


@dataclass(frozen=True)
class Ruling:
    """A periodic image.

    Parameters
    ----------
    cycles_per_px
        Fundamental frequency; its inverse is the period in pixels.
    sigma
        Relative standard uncertainty, from how evenly the lines lie over the field.
    angle_deg
        Of the direction across the lines, from x (right) to y (down), -90 … 90.
    contrast
        Amplitude of the fundamental relative to the mean.
    strength
        Amplitude of the fundamental's peak relative to the spectrum around it.
    unevenness_periods
        Root mean square distance of the lines from an even ruling.
    """

    cycles_per_px: float
    sigma: float
    angle_deg: float
    contrast: float
    strength: float
    unevenness_periods: float


def find_ruling(image: Floats) -> Ruling | None:
    """The ruling in ``[Y, X]``; None if nothing there is periodic."""
    flat = image / image.mean() - 1
    height, width = image.shape
    window = _hann(height)[:, None] * _hann(width)
    flat = (flat - (flat * window).sum() / window.sum()) * window
    spectrum = np.abs(np.fft.rfft2(flat)) / (window.sum() / 2)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    radius = np.hypot(fy, fx)
    slowest = _LEAST_PERIODS / np.hypot(height, width)
    excess = _excess(spectrum, radius * min(height, width))
    excess[radius < slowest] = 0
    row, column = np.unravel_index(
        int(np.argmax(np.where(excess > _PEAK, spectrum, 0))), excess.shape
    )
    if excess[row, column] <= _PEAK:
        return None
    strongest = np.array([fy[row, 0], fx[column]])
    start = _fundamental(strongest, spectrum, excess, slowest, image.shape)
    f = _refined(flat, start)
    strength = float(excess[_nearest(f, image.shape)])
    fine, covariance, uneven, contrast = _even(image, f)
    length = float(np.hypot(*fine))
    along = fine / length
    angle = float(np.rad2deg(np.arctan2(*fine)))
    angle = (angle + 90) % 180 - 90
    sigma = float(np.sqrt(along @ covariance @ along)) / length
    return Ruling(length, sigma, angle, contrast, strength, uneven)


def _hann(samples: int) -> Floats:
    return np.asarray(np.hanning(samples + 2)[1:-1], np.float64)


def _excess(spectrum: Floats, samples: Floats) -> Floats:
    """Amplitude over the median of all frequencies that are as many `samples` from zero."""
    ring = np.rint(samples).astype(int)
    order = np.argsort(ring, axis=None, kind="stable")
    edges = np.searchsorted(ring.ravel()[order], np.arange(ring.max() + 2))
    sorted_ = spectrum.ravel()[order]
    typical = np.array([np.median(sorted_[a:b]) if b > a else np.inf for a, b in pairwise(edges)])
    return np.asarray(spectrum / np.maximum(typical[ring], 1e-12))


def _nearest(f: Floats, shape: tuple[int, ...]) -> tuple[int, int]:
    """Index of a frequency (fy, fx) in the real FFT of an image of this shape."""
    height, width = shape
    fy, fx = f if f[1] >= 0 else -f
    return round(float(fy) * height) % height, min(round(float(fx) * width), width // 2)


def _fundamental(
    strongest: Floats,
    spectrum: Floats,
    excess: Floats,
    slowest: float,
    shape: tuple[int, ...],
) -> Floats:
    """The strongest peak, or that of which it is a harmonic: narrow lines have harmonics that hardly fall off."""
    top = spectrum[_nearest(strongest, shape)]
    for order in _ORDERS:
        f = strongest / order
        if np.hypot(*f) < slowest:
            continue
        row, column = _nearest(f, shape)
        # Half a sample of the harmonic is less than one of the fundamental.
        rows, columns = np.arange(row - 1, row + 2) % shape[0], np.arange(column - 1, column + 2)
        near = np.ix_(rows, columns[(columns >= 0) & (columns < spectrum.shape[1])])
        if excess[near].max() > _PEAK and spectrum[near].max() > _FUNDAMENTAL * top:
            return np.asarray(f, np.float64)
    return strongest


def _refined(flat: Floats, start: Floats) -> Floats:
    """The frequency at which the windowed image's spectrum is largest, between the samples of its FFT."""
    y, x = np.arange(flat.shape[0]), np.arange(flat.shape[1])

    def minus_power(offset: Floats) -> float:
        f = start + offset / np.array(flat.shape)
        value = np.exp(-2j * np.pi * f[0] * y) @ flat @ np.exp(-2j * np.pi * f[1] * x)
        return -float(np.abs(value) ** 2)

    simplex = np.array([[0.0, 0.0], [0.3, 0.0], [0.0, 0.3]])
    found = minimize(
        minus_power,
        np.zeros(2),
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 1e-6, "fatol": 0.0, "maxiter": 200},
    )
    return np.asarray(start + found.x / np.array(flat.shape), np.float64)


def _even(image: Floats, f: Floats) -> tuple[Floats, Floats, float, float]:
    """Where the lines lie in each part of the field, against an even ruling.

    Returns
    -------
    frequency ``(fy, fx)``, its covariance, root mean square unevenness in periods, and contrast.
    """
    places, phases, weights = [], [], []
    height, width = image.shape
    # Blocks that overlap by half, each with some periods in it.
    sides = [
        max(n // _BLOCKS * 2, min(n, int(_LEAST_PERIODS / np.hypot(*f)))) for n in (height, width)
    ]
    tops, lefts = (
        np.unique(np.linspace(0, n - side, 2 * _BLOCKS - 1).astype(int))
        for n, side in zip((height, width), sides, strict=True)
    )
    window = _hann(sides[0])[:, None] * _hann(sides[1])
    for top in tops:
        for left in lefts:
            part = image[top : top + sides[0], left : left + sides[1]]
            mean = (part * window).sum() / window.sum()
            y, x = top + np.arange(sides[0]), left + np.arange(sides[1])
            value = (
                np.exp(-2j * np.pi * f[0] * y)
                @ ((part - mean) * window)
                @ np.exp(-2j * np.pi * f[1] * x)
            )
            places.append((top + (sides[0] - 1) / 2, left + (sides[1] - 1) / 2))
            phases.append(value / mean / window.sum() * 2)
            weights.append(abs(phases[-1]))
    at, values, weight = np.array(places), np.array(phases), np.array(weights)
    middle = np.angle(values.sum())
    periods = np.angle(values * np.exp(-1j * middle)) / (2 * np.pi)
    design = np.column_stack([np.ones(len(at)), at - at.mean(0)])
    root = np.sqrt(weight)[:, None]
    fit, *_ = np.linalg.lstsq(design * root, periods * root[:, 0], rcond=None)
    rest = periods - design @ fit
    uneven = float(np.sqrt(np.average(rest**2, weights=weight)))
    # Blocks that overlap are not independent: a fourth of them are.
    normal = np.linalg.inv((design * root).T @ (design * root) / weight.mean())
    covariance = normal[1:, 1:] * max(uneven**2, 1e-12) * 4
    return f + fit[1:], covariance, uneven, float(np.median(weight))
