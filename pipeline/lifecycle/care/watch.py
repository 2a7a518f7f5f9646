"""The look after a run, once a second: figures, alarms, suspension, and who is told of them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pipeline.control import Command, RunState
from pipeline.experiment import AlarmName, Experiment
from pipeline.lifecycle.care.alarms import ALARMS, Alarm, Limits
from pipeline.lifecycle.care.asking import Asked
from pipeline.lifecycle.care.drift import Drift
from pipeline.lifecycle.care.figures import (
    UNKNOWN_DISK,
    Disk,
    Figures,
    Looking,
    StageLook,
    look_at_disk,
)
from pipeline.lifecycle.care.gpu import GpuFigures, GpuLook
from pipeline.lifecycle.care.hysteresis import Hysteresis
from pipeline.lifecycle.care.state import CareState, StateWriter, load_state
from pipeline.lifecycle.care.suspend import Raised, Suspender
from pipeline.lifecycle.care.webhook import Webhook
from pipeline.lifecycle.orders import Orders
from pipeline.telemetry import Telemetry
from pipeline.telemetry.metrics import alarm_metric

log = logging.getLogger("livephase")

__all__ = ["StageLook", "Watch"]

# The figures in an active alarm's text are brought up to date so often: each time the file is written anew.
_REFRESH_S = 30.0
# At the end of a run, a sick disk or a far server keeps it waiting no longer.
_END_S = 5.0
_DISK_EVERY_S, _GPU_EVERY_S = 1.0, 5.0

T = TypeVar("T")


class Watch:
    """Looks after one session of a run. `look` takes well under a millisecond and waits for nothing.

    Parameters
    ----------
    todo_slots, ring_slots
        How many this session is to take, and how many may be in flight.
    tell
        Shows a line to the user.
    first_residuals
        Of earlier sessions, the oldest first.
    gpu, disk
        Where those figures come from; by default from `nvidia-smi` and the run folder's disk.
    """

    def __init__(
        self,
        run: Path,
        experiment: Experiment,
        telemetry: Telemetry,
        orders: Orders,
        tell: Callable[[str], None],
        todo_slots: int,
        ring_slots: int,
        first_residuals: Sequence[float] = (),
        gpu: Callable[[], GpuFigures] | None = None,
        disk: Callable[[], Disk] | None = None,
    ) -> None:
        care, optics = experiment.care, experiment.optics
        self._run_name = run.name
        self._tell, self._orders = tell, orders
        self._counters = telemetry.writer("supervisor")
        self._counters.set("interval_seconds", experiment.plan().interval_s)
        depth_um = optics.refractive_index * optics.wavelength_um / optics.numerical_aperture**2
        self._limits = Limits(care, care.focus_limit_um or depth_um)
        self._asked: list[Asked[Any]] = []
        self._looking = Looking(
            experiment,
            telemetry,
            todo_slots,
            ring_slots,
            Drift(first_residuals),
            gpu or self._gpus(experiment),
            disk or self._ask(lambda: look_at_disk(run), UNKNOWN_DISK, _DISK_EVERY_S),
        )
        interval_s = experiment.plan().interval_s
        self._states = {
            alarm.name: Hysteresis(
                1.0,
                alarm.off,
                alarm.on_for_s,
                max(care.well_for_s, 2 * interval_s) if alarm.counts else care.well_for_s,
            )
            for alarm in ALARMS
        }
        self._suspender = Suspender(care, orders)
        self._suspended_by: frozenset[AlarmName] = frozenset()
        self._webhook = Webhook(care.webhook_url) if care.webhook_url else None
        self._writer = StateWriter(run)
        self._state = load_state(run)
        self._forget_active(None)
        self._refreshed = 0.0
        self._closed = self._failed = False

    def look(self, state: RunState, stages: Sequence[StageLook], *, acquiring: bool) -> None:
        """Once a second. The run goes on whatever goes wrong in here."""
        try:
            self._look(state, stages, acquiring=acquiring)
        except Exception:
            if not self._failed:
                log.exception("the run could not be looked after")
            self._failed = True

    def _look(self, state: RunState, stages: Sequence[StageLook], *, acquiring: bool) -> None:
        now = time.monotonic()
        figures = self._looking.look(state, stages, now)
        changed = self._follow(figures, now)
        raised = {
            alarm.name: Raised(active["text"], alarm.shown_by_frames)
            for alarm in ALARMS
            for active in self._state.active
            if active["name"] == alarm.name
        }
        self._suspender.look(raised, now, figures.interval_s, acquiring=acquiring)
        changed |= self._follow_suspension()
        self._show(figures)
        if changed:
            self._state.trim()
            self._writer.write(self._state)

    def close(self) -> None:
        """The session is over, and its alarms with it."""
        if self._closed:
            return
        self._closed = True
        for asked in self._asked:
            asked.close()
        for entry in self._state.active:
            text = f"the session is over: {entry['name'].replace('_', ' ')}"
            log.info("alarm", extra={"alarm": entry["name"], "state": "off", "text": text})
            self._send(entry["name"], "off", text)
        self._forget_active(time.time())
        if self._state != CareState():
            self._writer.write(self._state)
        self._writer.close(_END_S)
        if self._webhook is not None:
            self._webhook.close(_END_S)

    def _ask(self, ask: Callable[[], T | None], unknown: T, every_s: float) -> Asked[T]:
        asked = Asked(ask, unknown, every_s)
        self._asked.append(asked)
        return asked

    def _gpus(self, experiment: Experiment) -> Callable[[], GpuFigures]:
        settings = experiment.reconstruction
        if settings.method == "none" or settings.device == "cpu":
            return GpuFigures  # not ours to care for
        return self._ask(GpuLook(), GpuFigures(), _GPU_EVERY_S)

    def _follow(self, figures: Figures, now: float) -> bool:
        """Take the figures to every alarm; whether anything that is told of them has changed."""
        refresh = now - self._refreshed >= _REFRESH_S
        changed = False
        for alarm in ALARMS:
            hysteresis = self._states[alarm.name]
            was = hysteresis.active
            level = alarm.level(figures, self._limits)
            active = hysteresis.look(level, now)
            if active and not was:
                self._raise(alarm, alarm.text(figures, self._limits))
            elif was and not active:
                self._lower(alarm)
            elif active and refresh and (level >= 1 or alarm.counts):
                self._entry(alarm)["text"] = alarm.text(figures, self._limits)
                changed = True
            changed |= active != was
        if refresh:
            self._refreshed = now
        return changed

    def _raise(self, alarm: Alarm, text: str) -> None:
        entry = {
            "name": alarm.name,
            "severity": alarm.severity,
            "text": text,
            "since_utc": round(time.time(), 3),
        }
        self._state.active.append(entry)
        self._counters.set(alarm_metric(alarm.name), 1)
        level = logging.ERROR if alarm.severity == "critical" else logging.WARNING
        log.log(level, "alarm", extra={"alarm": alarm.name, "state": "on", "text": text})
        self._tell(f"alarm: {text}")
        self._send(alarm.name, "on", text)

    def _lower(self, alarm: Alarm) -> None:
        entry = self._entry(alarm)
        self._state.active.remove(entry)
        self._state.past.append(_past(entry, time.time()))
        self._counters.set(alarm_metric(alarm.name), 0)
        text = f"over: {alarm.name.replace('_', ' ')}"
        log.info("alarm", extra={"alarm": alarm.name, "state": "off"})
        self._tell(text)
        self._send(alarm.name, "off", text)

    def _entry(self, alarm: Alarm) -> dict[str, Any]:
        return next(entry for entry in self._state.active if entry["name"] == alarm.name)

    def _follow_suspension(self) -> bool:
        """Tell of a suspension that began or ended; whether one did."""
        by, before = self._suspender.by, self._suspended_by
        if by == before:
            return False
        self._suspended_by = by
        utc = round(time.time(), 3)
        if by and not before:
            names = ", ".join(name.replace("_", " ") for name in sorted(by))
            texts = "; ".join(e["text"] for e in self._state.active if e["name"] in by)
            self._state.suspended = (
                f"suspended by {names}, the light is off: it goes on by itself when all was well "
                f"for {self._limits.care.well_for_s:.0f} s, or at once by `livephase resume`. {texts}"
            )
            self._state.suspensions.append({"alarms": sorted(by), "from_utc": utc, "to_utc": None})
            self._counters.add("suspensions", 1)
            log.warning("suspended", extra={"alarms": sorted(by)})
            self._tell(self._state.suspended)
            self._send("suspended", "on", self._state.suspended)
        elif before and not by:
            how = (
                "going on" if not self._orders.stopping and not self._paused else "left to the user"
            )
            self._end_suspension(utc)
            log.info("no longer suspended", extra={"how": how})
            self._tell(f"no longer suspended: {how}")
            self._send("suspended", "off", f"no longer suspended: {how}")
        self._counters.set("suspended", bool(by))
        return True

    @property
    def _paused(self) -> bool:
        return self._orders.command == Command.PAUSE

    def _end_suspension(self, utc: float | None) -> None:
        self._state.suspended = None
        if self._state.suspensions and self._state.suspensions[-1]["to_utc"] is None:
            self._state.suspensions[-1]["to_utc"] = utc

    def _forget_active(self, utc: float | None) -> None:
        """All that is active is past: at the session's end, or (None: nobody knows when) that of a killed one."""
        self._state.past += [_past(entry, utc) for entry in self._state.active]
        self._state.active.clear()
        for alarm in ALARMS:
            self._counters.set(alarm_metric(alarm.name), 0)
        if self._state.suspended is not None:
            self._end_suspension(utc)
        self._counters.set("suspended", 0)

    def _show(self, figures: Figures) -> None:
        """The figures that metrics, and so dashboards, have from nowhere else."""
        show = self._counters.set
        show("care_looked_timestamp_seconds", time.time())
        show("latency_recent_seconds", figures.latency_s)
        show("frames_pending", figures.frames_pending)
        show("frames_per_second", figures.frames_per_s)
        show("frame_age_seconds", figures.frame_age_s)
        show("run_left_seconds", figures.run_left_s)
        show("disk_free_bytes", figures.disk.free if figures.disk.total else math.nan)
        show("disk_free_ratio", figures.disk_free_share)
        show("disk_left_seconds", figures.disk_left_s)
        if figures.gpu.hottest_c is not None:
            show("gpu_temperature_celsius", figures.gpu.hottest_c)

    def _send(self, alarm: str, state: str, text: str) -> None:
        if self._webhook is not None:
            self._webhook.send(
                {
                    "run": self._run_name,
                    "alarm": alarm,
                    "state": state,
                    "text": text,
                    "time_utc": round(time.time(), 3),
                }
            )


def _past(entry: dict[str, Any], utc: float | None) -> dict[str, Any]:
    return {
        "name": entry["name"],
        "from_utc": entry["since_utc"],
        "to_utc": None if utc is None else round(utc, 3),
    }
