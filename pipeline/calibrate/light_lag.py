"""By how much the light lags behind the frames, row by row: from a coded sequence of lit and dark frames.

With s[n] the light asked for in frame n (1 or 0), the mean of a band of rows is

    y[n] = dark + lit · Σ_k h[k] · s[n − k]

where h[k] is the share of the light of k frames before that the band's exposure catches: all of it is in
h[0] in step, in h[1] one frame late. A uniform mixture has two shares alike in all rows; a rolling shutter
moves share from h[0] to h[-1] along the rows. The lag Σ k·h[k], in frames, says it in one number a band.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Lags that a camera and a light can have to each other without the sequence having slipped.
LAGS = np.arange(-2, 4)
# A slip beyond this many frames is found as frames that fit nothing.
_SLIPPED = 8
# A frame further than this from what a lag predicts, as a share of the light, does not fit it.
_MISFIT = 0.25
# What a change of the lag has to gain before it is believed, in frames that fit nothing otherwise.
_CHANGE = 2.5


def code(frames: int = 31) -> NDArray[np.bool_]:
    """Lit or dark: a maximum-length sequence, whose every shift is as different from it as can be.

    Of a shift register of five bits (x⁵ + x² + 1): 31 frames, 16 of them lit.
    """
    register, out = [1, 0, 0, 0, 0], []
    for _ in range(frames):
        out.append(register[-1])
        register = [register[4] ^ register[1], *register[:4]]
    return np.array(out, bool)


def band_means(frames: NDArray[np.unsignedinteger], bands: int, axis: int) -> Floats:
    """Means of ``[N, Y, X]`` over `bands` equal bands of rows (`axis` 1) or columns (2): ``[N, bands]``."""
    other = 3 - axis
    lines = frames.mean(axis=other, dtype=np.float64)
    edges = _edges(lines.shape[1], bands)
    return np.add.reduceat(lines, edges[:-1], axis=1) / np.diff(edges)


def band_places(lines: int, bands: int) -> Floats:
    """``[bands]`` where the middle of each band lies between the first line (0) and the last (1)."""
    edges = _edges(lines, bands)
    return np.asarray((edges[:-1] + edges[1:] - 1) / 2 / max(lines - 1, 1))


def _edges(lines: int, bands: int) -> NDArray[np.int64]:
    return np.linspace(0, lines, min(bands, lines) + 1).astype(np.int64)


@dataclass(frozen=True)
class Shares:
    """What `caught_light` found in one burst.

    Parameters
    ----------
    place
        ``[bands]`` of `band_places`.
    h
        ``[bands, len(LAGS)]`` shares; they sum to 1 in each band.
    sigma
        ``[bands]`` standard uncertainty of a share.
    misfit
        ``[N]`` what each frame's mean differs from the fit, as a share of the light.
    """

    place: Floats
    h: Floats
    sigma: Floats
    misfit: Floats

    @property
    def lag(self) -> Floats:
        """``[bands]`` mean lag in frames."""
        return self.h @ LAGS


def caught_light(
    levels: Floats, place: Floats, asked: NDArray[np.bool_], use: NDArray[np.bool_]
) -> Shares:
    """Least squares of the model above.

    Parameters
    ----------
    levels
        ``[N, bands]`` counts, in the order of exposure.
    place
        ``[bands]`` of `band_places`.
    asked
        ``[N]`` whether the frame was to be lit.
    use
        ``[N]`` frames to fit: not those lost, nor those at the burst's ends, whose neighbours nobody asked for.
    """
    design = np.stack([np.ones(len(asked))] + [_shifted(asked, int(lag)) for lag in LAGS], axis=1)
    inverse = np.linalg.pinv(design[use])
    fit = inverse @ levels[use]
    lit = fit[1:].sum(0)
    rest = levels - design @ fit
    freedom = max(int(use.sum()) - design.shape[1], 1)
    noise = np.sqrt((rest[use] ** 2).sum(0) / freedom)
    sigma = noise * np.sqrt(np.square(inverse[1:]).sum(1).mean()) / np.abs(lit)
    misfit = np.where(use, rest.mean(1) / lit.mean(), 0.0)
    return Shares(place, (fit[1:] / lit).T, sigma, misfit)


def _shifted(asked: NDArray[np.bool_], lag: int) -> Floats:
    """The light of `lag` frames before; beyond the burst's ends the nearest."""
    index = np.clip(np.arange(len(asked)) - lag, 0, len(asked) - 1)
    return asked[index].astype(np.float64)


@dataclass(frozen=True)
class Slips:
    """How the lag changed within the burst.

    `at` frames (counted from 0) that are the first of another lag, `by` by how many frames more than before,
    `strays` frames that fit no lag.
    """

    at: tuple[int, ...]
    by: tuple[int, ...]
    strays: tuple[int, ...]


def find_slips(share: Floats, asked: NDArray[np.bool_], use: NDArray[np.bool_]) -> Slips:
    """The likeliest lag of each frame, if it may change now and then (Viterbi).

    Parameters
    ----------
    share
        ``[N]`` level of each frame, 0 dark to 1 lit.
    """
    lags = np.arange(-_SLIPPED, _SLIPPED + 1)
    predicted = np.stack([_shifted(asked, int(lag)) for lag in lags], axis=1)
    # Capped: a frame that fits nothing costs one, whatever the lag.
    cost = np.minimum(np.abs(share[:, None] - predicted) / _MISFIT, 1.0) * use[:, None]
    best, came_from = cost[0], []
    change = _CHANGE * (lags[:, None] != lags)
    for step in cost[1:]:
        ways = best[:, None] + change
        came_from.append(ways.argmin(0))
        best = ways.min(0) + step
    path = [int(best.argmin())]
    for back in reversed(came_from):
        path.append(int(back[path[-1]]))
    lag = lags[np.array(path[::-1])]
    at = np.flatnonzero(np.diff(lag)) + 1
    fits = np.abs(share - predicted[np.arange(len(lag)), lag + _SLIPPED]) < _MISFIT
    strays = np.flatnonzero(use & ~fits)
    return Slips(
        tuple(int(n) for n in at),
        tuple(int(lag[n] - lag[n - 1]) for n in at),
        tuple(int(n) for n in strays),
    )
