"""Rates, recent times and standstills, from counters that are looked at once a second."""

from __future__ import annotations

from collections import deque

from pipeline.telemetry.block import Histogram

# However long a window is, so many looks back are remembered.
_POINTS = 60


class Slope:
    """How fast a value changes, over the last `window_s` seconds."""

    def __init__(self, window_s: float, least_s: float = 0.0) -> None:
        self._window_s, self._least_s = window_s, least_s
        self._history: deque[tuple[float, float]] = deque()

    def per_s(self, value: float, now: float) -> float | None:
        """Take in a value; its change a second, None before `least_s` seconds of them."""
        if not self._history or now - self._history[-1][0] >= self._window_s / _POINTS:
            self._history.append((now, value))
        while len(self._history) > 1 and now - self._history[0][0] > self._window_s:
            self._history.popleft()
        since, before = self._history[0]
        lasted_s = now - since
        return (value - before) / lasted_s if lasted_s > 0 and lasted_s >= self._least_s else None


class Recent:
    """The part of a histogram that was observed in the last `window_s` seconds."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._history: deque[tuple[float, Histogram]] = deque()

    def quantile(self, q: float, histogram: Histogram, now: float) -> float | None:
        """Take in the histogram so far; seconds below which a share `q` of the recent observations lies."""
        if not self._history or now - self._history[-1][0] >= self._window_s / _POINTS:
            self._history.append((now, histogram))
        # The newest that is old enough is what the others are counted from.
        while len(self._history) > 1 and now - self._history[1][0] >= self._window_s:
            self._history.popleft()
        before = self._history[0][1]
        return Histogram(histogram.counts - before.counts, histogram.sum_s - before.sum_s).quantile(
            q
        )


class Standstill:
    """For how long something has not changed."""

    def __init__(self) -> None:
        self._value: float | None = None
        self._since = 0.0

    def age_s(self, value: float, now: float, *, expected: bool = True) -> float:
        """Take in a value; seconds since it last changed, 0 while no change is expected."""
        if value != self._value or not expected:
            self._value, self._since = value, now
        return now - self._since
