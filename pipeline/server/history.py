"""The figures of the last hours, once a second, for plots."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

SERIES = (
    "frames_per_s",
    "latency_s",
    "queue",
    "residual",
    "missing",
    "ring_fill",
    "disk_free_bytes",
)
_MOST_S = 6 * 3600
_MOST_POINTS = 600


class History:
    """A bounded list of samples."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, tuple[float | None, ...]]] = deque(maxlen=_MOST_S)

    def add(self, time_utc: float, figures: dict[str, float | None]) -> None:
        """Take note of a second's figures."""
        self._samples.append((time_utc, tuple(finite(figures.get(name)) for name in SERIES)))

    def since(self, time_utc: float) -> dict[str, list[Any]]:
        """``time_utc`` and each of `SERIES`; thinned to some hundred points."""
        chosen = [sample for sample in self._samples if sample[0] >= time_utc]
        chosen = chosen[:: max(1, -(-len(chosen) // _MOST_POINTS))]
        columns: dict[str, list[Any]] = {"time_utc": [when for when, _ in chosen]}
        for number, name in enumerate(SERIES):
            columns[name] = [values[number] for _, values in chosen]
        return columns


def finite(value: float | None) -> float | None:
    """None for what JSON can't say."""
    return None if value is None or not math.isfinite(value) else value
