"""A target of groups of three bars: which periods does an image show, and does it show any where there are none?

Groups, and not endless gratings: a darkfield frame of a single frequency is grey, and says nothing of where its lines
are; what neighbours each other tells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.specimens.canvas import Floats

# Edge of a square full of groups, and from one square to the next.
_SIDE_UM, _PITCH_UM = 22.0, 25.0
_ROWS = 4
EXTENT_UM = _ROWS * _PITCH_UM
"""Edge of the whole target."""
HEIGHT_RAD = 0.6
_STREAM = 8_143
# In periods: edge of a group's place, within which it lies anywhere, and the bars' length.
_PLACE, _LONG = 3.4, 2.5
# Of the frequency: what counts as being of a period.
_BAND = 0.2


@dataclass(frozen=True)
class Square:
    """One square of the target.

    Parameters
    ----------
    y_um, x_um
        Its middle, from the target's.
    period_um
        0: an empty one.
    down
        Whether its bars follow each other down the image.
    """

    y_um: float
    x_um: float
    period_um: float
    down: bool


def squares(periods_um: tuple[float, ...]) -> list[Square]:
    """Four in a row: each period along x and along y, and empty ones to the end.

    Raises
    ------
    ValueError
        If there are more than seven periods.
    """
    kinds = [(p, down) for p in periods_um for down in (False, True)]
    if len(kinds) > _ROWS**2 - 2:
        raise ValueError(f"{len(periods_um)} periods don't fit on the target: give 7 at most")
    kinds += [(0.0, False)] * (_ROWS**2 - len(kinds))
    places = (np.arange(_ROWS) - (_ROWS - 1) / 2) * _PITCH_UM
    return [
        Square(float(places[i // _ROWS]), float(places[i % _ROWS]), period, down)
        for i, (period, down) in enumerate(kinds)
    ]


def bar_target(periods_um: tuple[float, ...], shape: tuple[int, int], sample_um: float) -> Floats:
    """``[Y, X]`` float32 radians: bars of 0.6 on a background of 0, the same at any sampling."""
    field = np.zeros(shape, np.float32)
    y, x = (_middles(n, sample_um) for n in shape)
    for number, square in enumerate(squares(periods_um)):
        p = square.period_um
        if not p:
            continue
        rng = np.random.default_rng([_STREAM, number])
        count = int(_SIDE_UM / (_PLACE * p))
        first = -count * _PLACE * p / 2
        for row, column, *jitter in zip(
            *np.indices((count, count)).reshape(2, -1), *rng.random((2, count**2)), strict=True
        ):
            corner = [
                first + (n + (1 - _LONG / _PLACE) * j) * _PLACE * p
                for n, j in zip((row, column), jitter, strict=True)
            ]
            dy, dx = y - square.y_um - corner[0], x - square.x_um - corner[1]
            along, across = (dy, dx) if square.down else (dx, dy)
            lit = _within(along % p, p / 2) & _within(along, _LONG * p)
            long = _within(across, _LONG * p)
            both = np.outer(lit, long) if square.down else np.outer(long, lit)
            field[both] = HEIGHT_RAD
    return field


def transfer(image: Floats, target: Floats, pixel_um: float, square: Square) -> float:
    """How much of a square's bars an image shows: 1 all of it, 0 none, negative where it is the wrong way round.

    Of the frequencies about the period's, along the direction in which the bars follow each other.

    Parameters
    ----------
    image, target
        ``[Y, X]`` radians on the same grid, their middle the target's.
    """
    mine, theirs = (_band(i, pixel_um, square, square) for i in (image, target))
    return float((mine * theirs.conj()).real.sum() / (np.abs(theirs) ** 2).sum())


def made_up(image: Floats, target: Floats, pixel_um: float, empty: Square, like: Square) -> float:
    """Size of what an empty square shows at the frequencies of another one's bars, those being 1."""
    mine = _band(image, pixel_um, empty, like)
    theirs = _band(target, pixel_um, like, like)
    return float(np.sqrt((np.abs(mine) ** 2).sum() / (np.abs(theirs) ** 2).sum()))


def _band(image: Floats, pixel_um: float, where: Square, bars: Square) -> NDArray[np.complex128]:
    """The spectrum of a square, at frequencies about those of bars."""
    y, x = (_middles(n, pixel_um) for n in image.shape)
    rows, columns = (
        np.flatnonzero(np.abs(at - middle) < _SIDE_UM / 2)
        for at, middle in ((y, where.y_um), (x, where.x_um))
    )
    part = image[np.ix_(rows, columns)].astype(np.float64)
    window = np.hanning(len(rows))[:, None] * np.hanning(len(columns))
    part = (part - (part * window).sum() / window.sum()) * window
    fy, fx = (np.fft.fftfreq(len(n), pixel_um) for n in (rows, columns))
    along, across = np.broadcast_arrays(*((fy[:, None], fx) if bars.down else (fx, fy[:, None])))
    off = np.abs(np.abs(along) * bars.period_um - 1)
    chosen = (off < _BAND) & (np.abs(across) * bars.period_um < _BAND)
    return np.asarray(np.fft.fft2(part)[chosen])


def _middles(samples: int, sample_um: float) -> NDArray[np.float64]:
    return np.asarray((np.arange(samples) + 0.5 - samples / 2) * sample_um)


def _within(at: NDArray[np.float64], length: float) -> NDArray[np.bool_]:
    return np.asarray((at >= 0) & (at < length))
