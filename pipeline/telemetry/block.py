"""The counters' shared memory: a lane for each stage, merged when read."""

from __future__ import annotations

import math
import mmap
import time
import zlib
from bisect import bisect_left
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from pipeline import shared_memory
from pipeline.errors import StoreError
from pipeline.frames import MissingReason
from pipeline.shared_memory import PAGE, Block
from pipeline.telemetry.metrics import BOUNDS_S, METRICS, missing_metric

_KIND: Final = "telemetry"
_TABLE_WORD: Final = 1
# Reconstruct workers follow these.
_FIRST_LANES: Final = ("supervisor", "acquire", "record")
_WORKER: Final = "reconstruct-"
_LANES: Final = len(_FIRST_LANES) + 64
_METRIC: Final = {m.name: m for m in METRICS}


def _cells() -> dict[str, int]:
    """Where in a lane each metric begins. Word 0 says that the lane is in use."""
    cells, at = {}, 1
    for metric in METRICS:
        cells[metric.name] = at
        at += metric.cells
    return cells


_CELL: Final = _cells()
_LANE_WORDS: Final = -(-(1 + sum(m.cells for m in METRICS)) // 8) * 8  # whole cache lines
# Two versions of the table would read each other's numbers wrongly.
_TABLE: Final = zlib.crc32(repr([(m.name, m.kind) for m in METRICS]).encode())


class Histogram(NamedTuple):
    """Observations of all stages together; `counts` ends with those beyond `BOUNDS_S`."""

    counts: NDArray[np.int64]
    sum_s: float

    @property
    def observations(self) -> int:
        """How many there are."""
        return int(self.counts.sum())

    def quantile(self, q: float) -> float | None:
        """Seconds below which a share `q` of the observations lies; None without any."""
        total = self.observations
        if not total:
            return None
        wanted = max(1, math.ceil(q * total))
        cumulative = np.cumsum(self.counts)
        bucket = int(np.searchsorted(cumulative, wanted))
        if bucket == len(BOUNDS_S):
            return BOUNDS_S[-1]
        if bucket == 0:
            return BOUNDS_S[0]
        below = int(cumulative[bucket - 1])
        share = (wanted - below) / int(self.counts[bucket])
        # The bounds are spaced evenly in the logarithm.
        return float(BOUNDS_S[bucket - 1] * (BOUNDS_S[bucket] / BOUNDS_S[bucket - 1]) ** share)


class Telemetry:
    """The block as a whole. Made by `create` or `attach`."""

    def __init__(self, block: Block) -> None:
        self.name = block.name
        self._block = block
        self._integers: NDArray[np.int64] = block.view(PAGE, (_LANES, _LANE_WORDS), np.int64)
        self._floats: NDArray[np.float64] = self._integers.view(np.float64)

    @classmethod
    def create(cls, name: str) -> Self:
        """A new block, everything zero."""
        block = shared_memory.create(name, PAGE + _LANES * _LANE_WORDS * 8)
        block.view(0, (2,), np.int64)[_TABLE_WORD] = _TABLE
        block.sign(_KIND)
        return cls(block)

    @classmethod
    def alone(cls) -> Self:
        """A block of this process alone, everything zero: what there is to count before the first run."""
        size = PAGE + _LANES * _LANE_WORDS * 8
        return cls(Block("", mmap.mmap(-1, size)))

    @classmethod
    def attach(cls, name: str) -> Self:
        """The block that a supervisor created.

        Raises
        ------
        StoreError
            If there is none, or it has other metrics.
        """
        block = shared_memory.attach(name, _KIND)
        if int(block.view(0, (2,), np.int64)[_TABLE_WORD]) != _TABLE:
            block.close()
            raise StoreError(
                f"the telemetry '{name}' has other metrics",
                "run every process of a run with the same livephase",
            )
        return cls(block)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the memory go."""
        for views in ("_integers", "_floats"):
            self.__dict__.pop(views, None)
        self._block.close()

    def unlink(self) -> None:
        """Remove the name; whoever has the block attached keeps it."""
        shared_memory.unlink(self.name)

    def writer(self, stage: str) -> StageWriter:
        """The lane of a stage: ``supervisor``, ``acquire``, ``record``, ``reconstruct-0``, …

        One process, and one thread of it, writes a metric of a lane. A restarted stage goes on
        with its predecessor's counts. `stage_up` and `stage_restarts` in a stage's lane are the
        supervisor's, who alone knows.
        """
        return StageWriter(self, _lane(stage))

    def total(self, name: str) -> int:
        """A counter, all stages together."""
        return int(self._integers[:, self._cell(name, "counter")].sum())

    def missing_frames(self) -> int:
        """Frames missing, for whatever reason."""
        return sum(self.total(missing_metric(r)) for r in MissingReason if r)

    def value(self, name: str) -> float:
        """A gauge, all stages together; its default if nobody set it."""
        cell = self._cell(name, "gauge")
        values, times = self._floats[:, cell], self._integers[:, cell + 1]
        if not times.any():
            return _METRIC[name].default
        if _METRIC[name].merge == "sum":
            return float(values.sum())
        return float(values[int(times.argmax())])

    def age_s(self, name: str) -> float:
        """Seconds since any stage last set a gauge; infinite if none did."""
        set_at = int(self._integers[:, self._cell(name, "gauge") + 1].max())
        # time.monotonic counts from the machine's start, in every process alike.
        return (time.monotonic_ns() - set_at) / 1e9 if set_at else math.inf

    def histogram(self, name: str) -> Histogram:
        """A histogram, all stages together."""
        cell = self._cell(name, "histogram")
        end = cell + len(BOUNDS_S) + 1
        counts = self._integers[:, cell:end].sum(axis=0)
        return Histogram(counts, float(self._floats[:, end].sum()))

    def quantile(self, name: str, q: float) -> float | None:
        """Seconds below which a share `q` of a histogram's observations lies; None without any."""
        return self.histogram(name).quantile(q)

    def by_stage(self, name: str) -> dict[str, float]:
        """A counter of every stage that has been there, or a gauge of every one that has set it."""
        metric, cell = _METRIC[name], _CELL[name]
        counter = metric.kind == "counter"
        cells = self._integers if counter else self._floats
        there = self._integers[:, 0 if counter else cell + 1]
        return {_stage(int(lane)): float(cells[lane, cell]) for lane in np.flatnonzero(there)}

    @staticmethod
    def _cell(name: str, kind: str) -> int:
        metric = _METRIC.get(name)
        if metric is None or metric.kind != kind:
            raise ValueError(f"there is no {kind} '{name}': see pipeline.telemetry.METRICS")
        return _CELL[name]


class StageWriter:
    """One stage's counters."""

    def __init__(self, telemetry: Telemetry, lane: int) -> None:
        self._telemetry = telemetry
        self._lane = lane
        telemetry._integers[lane, 0] = 1

    def add(self, name: str, n: int = 1) -> None:
        """Count up."""
        cell = self._telemetry._cell(name, "counter")
        self._telemetry._integers[self._lane, cell] += n

    def set(self, name: str, value: float) -> None:
        """Set a gauge."""
        cell = self._telemetry._cell(name, "gauge")
        self._telemetry._floats[self._lane, cell] = value
        self._telemetry._integers[self._lane, cell + 1] = time.monotonic_ns()

    def observe(self, name: str, seconds: float) -> None:
        """Add an observation to a histogram."""
        cell = self._telemetry._cell(name, "histogram")
        bucket = bisect_left(BOUNDS_S, seconds)
        self._telemetry._floats[self._lane, cell + len(BOUNDS_S) + 1] += seconds
        self._telemetry._integers[self._lane, cell + bucket] += 1


def _lane(stage: str) -> int:
    if stage in _FIRST_LANES:
        return _FIRST_LANES.index(stage)
    worker = stage.removeprefix(_WORKER)
    if worker != stage and worker.isdecimal() and int(worker) < _LANES - len(_FIRST_LANES):
        return len(_FIRST_LANES) + int(worker)
    raise ValueError(f"there is no stage '{stage}': {', '.join(_FIRST_LANES)} or {_WORKER}0, …")


def _stage(lane: int) -> str:
    if lane < len(_FIRST_LANES):
        return _FIRST_LANES[lane]
    return f"{_WORKER}{lane - len(_FIRST_LANES)}"
