"""What one look at a run finds: everything that its alarms are decided by."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.control import RunState
from pipeline.experiment import Experiment
from pipeline.frames import MissingReason
from pipeline.lifecycle.care.drift import Drift
from pipeline.lifecycle.care.gpu import GpuFigures
from pipeline.lifecycle.care.rates import Recent, Slope, Standstill
from pipeline.telemetry import Telemetry
from pipeline.telemetry.metrics import missing_metric

_REASONS = tuple(reason for reason in MissingReason if reason)
# Frames come in bursts: rates and percentiles are taken over several of them.
_RATE_S, _LATENCY_S = 10.0, 60.0
_INTERVALS = 3
# A disk is filled in bursts, too; other programs write as well.
_DISK_WINDOW_S, _DISK_LEAST_S = 600.0, 20.0
_CLEARED_SHARE = 0.01
# What the preflight leaves to the system: ledgers and reports have to find room at the end.
_RESERVE_BYTES = 500_000_000

# A gauge's age and the clock are not read at the same moment.
_SAME_S = 1e-3

_ACTIVE = (RunState.RUNNING, RunState.DRAINING)


class StageLook(NamedTuple):
    """A stage as the supervisor sees it; `gone`: dead, and not to be started again."""

    name: str
    alive: bool
    silent_s: float
    gone: bool


class Disk(NamedTuple):
    """Bytes of the disk that the run folder is on."""

    total: int
    free: int


UNKNOWN_DISK = Disk(0, 0)


@dataclass(frozen=True)
class Figures:
    """Times in seconds; NaN, or None, where a figure is not known.

    `missing` (by reason) and `restarted` (by stage) count this session's, `newly_…` those since the last look.
    """

    missing: Mapping[str, int]
    newly_missing: Mapping[str, int]
    restarted: Mapping[str, int]
    newly_restarted: int
    silent: Sequence[StageLook]
    dead: Sequence[str]
    ring_fill: float
    camera_fill: float
    frame_age_s: float
    progress_age_s: float
    step_s: float
    interval_s: float
    latency_s: float
    residual_ratio: float
    focus_error_um: float
    disk: Disk
    disk_reserve_bytes: int
    disk_left_s: float
    run_left_s: float
    frames_per_s: float
    frames_pending: int
    gpu: GpuFigures

    @property
    def disk_free_share(self) -> float:
        """Of the whole disk; NaN where it is not known."""
        return self.disk.free / self.disk.total if self.disk.total else math.nan


class Looking:
    """Looks at a run once a second and remembers what is needed of the looks before.

    Parameters
    ----------
    todo_slots, ring_slots
        How many this session is to take, and how many may be in flight.
    gpu, disk
        Where those figures come from.
    """

    def __init__(
        self,
        experiment: Experiment,
        telemetry: Telemetry,
        todo_slots: int,
        ring_slots: int,
        drift: Drift,
        gpu: Callable[[], GpuFigures],
        disk: Callable[[], Disk],
    ) -> None:
        plan = experiment.plan()
        self._telemetry = telemetry
        self._todo_slots, self._ring_slots = todo_slots, ring_slots
        self._slot_bytes = plan.slot_bytes
        self._frames_per_slot = plan.frames_per_slot
        self._positions = len(plan.positions) if plan.slot_order == "tp" else 1
        self._slot_s = experiment.slot_s()
        self._drift, self._gpu, self._disk = drift, gpu, disk
        window_s = _INTERVALS * plan.interval_s
        self._rate = Slope(max(_RATE_S, window_s))
        self._filling = Slope(_DISK_WINDOW_S, _DISK_LEAST_S)
        self._free_before = 0
        self._latency = Recent(max(_LATENCY_S, window_s))
        self._frames, self._progress, self._results = Standstill(), Standstill(), Standstill()
        self._missing_before: Mapping[str, int] = {}
        self._restarts_before = 0
        self._ran_s, self._before = 0.0, math.nan
        self._residual_set = -math.inf

    def look(self, state: RunState, stages: Sequence[StageLook], now: float) -> Figures:
        """`now` in seconds by the monotonic clock."""
        telemetry = self._telemetry
        running = state is RunState.RUNNING
        if running and math.isfinite(self._before):
            self._ran_s += now - self._before
        interval_s = telemetry.value("interval_seconds")
        step_s = max(interval_s, self._slot_s * self._positions)
        acquired = telemetry.total("frames_acquired")
        missing = {r.name.lower(): telemetry.total(missing_metric(r)) for r in _REASONS}
        newly_missing = {r: n - self._missing_before.get(r, 0) for r, n in missing.items()}
        restarted = {s: int(n) for s, n in telemetry.by_stage("stage_restarts").items() if n}
        restarts = sum(restarted.values())
        newly_restarted = restarts - self._restarts_before
        self._missing_before, self._restarts_before = missing, restarts
        self._follow_residual()
        disk = self._disk()
        filling = self._filling_per_s(disk, now)
        self._before = now
        return Figures(
            missing={r: n for r, n in missing.items() if n},
            newly_missing=newly_missing,
            restarted=restarted,
            newly_restarted=newly_restarted,
            silent=[s for s in stages if s.alive and math.isfinite(s.silent_s)],
            dead=[s.name for s in stages if s.gone],
            ring_fill=self._ring_fill(),
            camera_fill=telemetry.value("camera_buffer_fill"),
            frame_age_s=self._frames.age_s(acquired + sum(missing.values()), now, expected=running),
            progress_age_s=self._progress_age_s(acquired, state, now),
            step_s=step_s,
            interval_s=interval_s,
            latency_s=self._latency_s(now),
            residual_ratio=self._drift.ratio(),
            focus_error_um=abs(telemetry.value("focus_error_um")),
            disk=disk,
            disk_reserve_bytes=_RESERVE_BYTES + self._in_flight_bytes(),
            disk_left_s=disk.free / filling if filling and filling > 0 else math.inf,
            run_left_s=self._run_left_s(step_s),
            frames_per_s=self._rate.per_s(acquired, now) or 0.0,
            frames_pending=max(
                0,
                self._todo_slots * self._frames_per_slot
                - telemetry.total("frames_written")
                - sum(missing.values()),
            ),
            gpu=self._gpu(),
        )

    def _filling_per_s(self, disk: Disk, now: float) -> float | None:
        """Bytes that the disk has lost a second lately; None where it is not known."""
        if not disk.total:
            return None
        if disk.free > self._free_before + _CLEARED_SHARE * disk.total:
            # Somebody has made space: measured on, that would hide how fast it fills.
            self._filling = Slope(_DISK_WINDOW_S, _DISK_LEAST_S)
        self._free_before = disk.free
        return self._filling.per_s(-disk.free, now)

    def _ring_fill(self) -> float:
        """0 where all that is still to come fits in: a short run may lie in the ring as a whole."""
        fill = self._telemetry.value("ring_fill")
        to_come = self._todo_slots - self._telemetry.total("slots_published")
        return fill if to_come > (1 - fill) * self._ring_slots else 0.0

    def _in_flight_bytes(self) -> int:
        """What may be in the ring, and has to find room though the run be paused."""
        left = self._todo_slots - self._telemetry.total("slots_committed")
        return max(0, min(self._ring_slots, left)) * self._slot_bytes

    def _follow_residual(self) -> None:
        """Take in the newest residual, once."""
        set_at = time.monotonic() - self._telemetry.age_s("residual")
        if set_at > self._residual_set + _SAME_S:
            self._residual_set = set_at
            self._drift.add(self._telemetry.value("residual"))

    def _progress_age_s(self, acquired: int, state: RunState, now: float) -> float:
        """Since anything was acquired, stored or reconstructed."""
        counters = ("slots_published", "slots_committed", "slots_reconstructed", "slots_skipped")
        done = acquired + sum(self._telemetry.total(name) for name in counters)
        return self._progress.age_s(done, now, expected=state in _ACTIVE)

    def _latency_s(self, now: float) -> float:
        """Of 99 % of the recent results; or how long one has been waited for by now, if that is more."""
        telemetry = self._telemetry
        done = telemetry.histogram("reconstruction_seconds").observations
        done += telemetry.total("slots_skipped")
        reconstructs = any(s.startswith("reconstruct") for s in telemetry.by_stage("stage_up"))
        waiting = reconstructs and telemetry.total("slots_published") > done
        waited_s = self._results.age_s(done, now, expected=waiting)
        recent = self._latency.quantile(0.99, telemetry.histogram("latency_seconds"), now)
        return max(waited_s, recent or 0.0)

    def _run_left_s(self, step_s: float) -> float:
        """As long as the slots took so far; as the plan has it before any."""
        published = self._telemetry.total("slots_published")
        left = max(0, self._todo_slots - published)
        if published >= _INTERVALS * self._positions:
            return left * self._ran_s / published
        return left * step_s / self._positions


def look_at_disk(path: Path) -> Disk:
    """The disk that a folder is on; not known where it has gone."""
    try:
        usage = shutil.disk_usage(path)
    except OSError:
        return UNKNOWN_DISK
    return Disk(usage.total, usage.free)
