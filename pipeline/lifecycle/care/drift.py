"""Whether the residual drifts, against the run's own beginning."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

from pipeline.store.reader import RunReader

# The first hour of a timelapse with an interval of five minutes.
REFERENCE = 12
# A median of so many is not moved by two odd images.
_RECENT = 5
_MAD_TO_SIGMA = 1.4826
# What the first results' own spread makes so large by chance is no drift.
_SIGMAS = 5.0


class Drift:
    """Holds the newest residuals against the first ones, by medians.

    Parameters
    ----------
    first
        Residuals of earlier sessions, the oldest first: what a resumed run began with.
    """

    def __init__(self, first: Sequence[float] = ()) -> None:
        self._first = [value for value in first if math.isfinite(value)][:REFERENCE]
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def add(self, residual: float) -> None:
        """Take in the residual of another image."""
        if not math.isfinite(residual):
            return
        if len(self._first) < REFERENCE:
            self._first.append(residual)
        else:
            self._recent.append(residual)

    def ratio(self) -> float:
        """The recent residual in units of the first ones'; NaN while it is too early to tell.

        Not above 1 where the difference is within the spread that the first ones had among themselves.
        """
        if len(self._recent) < _RECENT:
            return math.nan
        first = np.array(self._first)
        usual = float(np.median(first))
        spread = _MAD_TO_SIGMA * float(np.median(np.abs(first - usual)))
        recent = float(np.median(self._recent))
        if usual <= 0 or recent - usual <= _SIGMAS * spread:
            return min(1.0, recent / usual) if usual > 0 else 1.0
        return recent / usual


def first_residuals(reader: RunReader) -> tuple[float, ...]:
    """Of the first images that earlier sessions reconstructed, in the order of the timepoints."""
    done = reader.reconstructed()
    residuals = reader.phase_records.last("residual")[done]
    return tuple(residuals[np.isfinite(residuals)][:REFERENCE].tolist())
