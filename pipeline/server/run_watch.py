"""One run as the service sees it: its figures, and its newest images, out of shared memory.

Only looks: whatever happens here, the run does not notice.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.calibration import Calibration
from pipeline.control import RunState as LiveState
from pipeline.errors import LivephaseError, StoreError
from pipeline.frames import MissingReason, SlotKey
from pipeline.lifecycle.remote import LiveRun
from pipeline.lifecycle.silence import longest_silence_s
from pipeline.server.alive import RunSigns
from pipeline.server.events import Events
from pipeline.server.history import History, finite
from pipeline.server.log_follower import LogFollower
from pipeline.store.run_folder import RunFolder, RunState
from pipeline.telemetry import Telemetry
from pipeline.telemetry.metrics import missing_metric

# Rates are means over so long, and over several timepoints: frames come in bursts.
_RATE_S = 5.0
# How fast the disk fills is only seen over minutes.
_DISK_S = 600.0


class Seen(NamedTuple):
    """An image that is there to be looked at, and since when."""

    kind: str
    stamp: int
    key: SlotKey
    channel: int
    image: NDArray[Any]
    time_utc: float
    info: dict[str, float]


class _Sample(NamedTuple):
    time: float
    acquired: int
    latencies: int
    latency_sum_s: float
    disk_free: float


class RunWatch:
    """Looks at a run while it goes on, and keeps what it saw last.

    Parameters
    ----------
    events
        Told what the run's processes log.
    from_start
        Whether all of its log is news, or only what comes from now on.
    """

    def __init__(self, folder: RunFolder, events: Events, from_start: bool) -> None:
        self.folder = folder
        self.name = folder.path.name
        self.experiment = folder.experiment()
        self.plan = self.experiment.plan()
        self.history = History()
        self.error: str | None = None
        self._lock = threading.Lock()
        self._live: LiveRun | None = None
        self._state = folder.state().value
        self._samples: deque[_Sample] = deque()
        self._slot: SlotKey | None = None
        self._figures: dict[str, Any] = {}
        self._pixel_um = self._calibrated_pixel()
        self._log = LogFollower(folder.log, events, from_start)
        self._next_sample = 0.0

    @property
    def state(self) -> str:
        """As people are told: `RunState` of the folder, or while it goes on that of the session."""
        return self._state

    @property
    def is_going_on(self) -> bool:
        """Whether a process works on it."""
        return self._live is not None or self._state == RunState.RUNNING

    def look(self) -> None:
        """Take in what is new; some times a second."""
        self._log.look()
        with self._lock:
            self._attach()
            if self._live is None:
                self._state = self.folder.state().value
                if self._state == RunState.RUNNING:
                    self._state = LiveState.IDLE.name.lower()
                return
            self._state = self._live.control.state.name.lower()
            self._figures = self._read(self._live)
        now = time.monotonic()
        if now >= self._next_sample:
            self._next_sample = now + 1.0
            self.history.add(time.time(), {**self._figures, **self._recent()})

    def signs(self) -> RunSigns | None:
        """The run's signs of life; None where none goes on."""
        with self._lock:
            if self._live is None:
                return None
            return RunSigns.read(
                self._live.control, self._live.telemetry, longest_silence_s(self.experiment)
            )

    def stamp(self, kind: str) -> int:
        """Changes with each new phase or slot; 0 before the first. Cheap."""
        with self._lock:
            if self._live is None:
                return 0
            return self._live.mailbox.newest_time_ns if kind == "phase" else self._live.ring.head

    def newest(self, kind: str, channel: int, after: int) -> Seen | None:
        """The newest phase, or frame of a channel, where it is newer than the stamp `after`."""
        with self._lock:
            if self._live is None:
                return None
            if kind == "phase":
                result = self._live.mailbox.newest(after)
                if result is None:
                    return None
                there_utc = time.time() - (time.monotonic_ns() - result.time_ns) / 1e9
                return Seen(
                    "phase", result.time_ns, result.key, 0, result.image, there_utc, result.info
                )
            return self._newest_frame(self._live, channel, after)

    def telemetry(self) -> Telemetry | None:
        """The counters of the session that goes on."""
        return None if self._live is None else self._live.telemetry

    def pixel_um(self, image_rows: int) -> float:
        """Edge of a pixel of an image that shows the whole field with so many rows."""
        return self._pixel_um * self.plan.frame_shape[0] / image_rows

    def status(self) -> dict[str, Any]:
        """Everything that a page shows of the run."""
        experiment, plan = self.experiment, self.plan
        figures = self._figures
        return {
            "name": self.name,
            "experiment": experiment.name,
            "method": experiment.reconstruction.method,
            "state": self._state,
            "timepoint": None if self._slot is None else self._slot.timepoint,
            "position": None if self._slot is None else self._slot.position,
            "timepoints": plan.timepoints,
            "positions": [p.name for p in plan.positions],
            "channels": [c.name for c in plan.channels],
            "foci_um": list(plan.foci_um),
            "frame_shape": list(plan.frame_shape),
            "frames_planned": plan.frames,
            "interval_s": plan.interval_s,
            "pixel_um": self._pixel_um,
            "light_on": False,
            "error": self.error,
            **figures,
            **({"light_on": False} if self._live is None else {}),
        }

    def close(self) -> None:
        """Let the shared memory go."""
        with self._lock:
            if self._live is not None:
                self._live.close()
                self._live = None

    def _calibrated_pixel(self) -> float:
        try:
            return Calibration.load(self.folder.calibration).pixel_um or self.experiment.pixel_um
        except LivephaseError:
            return self.experiment.pixel_um

    def _attach(self) -> None:
        """Hold the session that goes on, and no other."""
        running = self.folder.state() is RunState.RUNNING
        if self._live is not None and (not running or self._is_over(self._live)):
            # The last figures stay to be seen; the memory itself is nobody's any more.
            self._figures = self._read(self._live)
            self._live.close()
            self._live = None
        if running and self._live is None:
            try:
                self._live = LiveRun(self.folder)
            except StoreError:
                return  # just starting or ending

    def _is_over(self, live: LiveRun) -> bool:
        return live.control.state >= LiveState.DONE

    def _newest_frame(self, live: LiveRun, channel: int, after: int) -> Seen | None:
        head = live.ring.head
        if head == 0 or head <= after:
            return None
        key = live.ring.key_of(head - 1)
        frame = min(channel, len(self.plan.channels) - 1) * len(self.plan.foci_um)
        image = live.ring.copy_frame(head - 1, frame)
        if key is None or image is None:
            return None  # overtaken: the next look finds a newer one
        channel = frame // len(self.plan.foci_um)
        return Seen("raw", head, key, channel, image, time.time(), {})

    def _read(self, live: LiveRun) -> dict[str, Any]:
        telemetry = live.telemetry
        head = live.ring.head
        self._slot = (live.ring.key_of(head - 1) if head else None) or self._slot
        self._take_sample(telemetry)
        figures: dict[str, Any] = {
            "frames_acquired": telemetry.total("frames_acquired"),
            "frames_written": telemetry.total("frames_written"),
            "frames_missing": telemetry.missing_frames(),
            "missing_by_reason": {
                reason.name.lower(): count
                for reason in MissingReason
                if reason and (count := telemetry.total(missing_metric(reason)))
            },
            "reconstructed": telemetry.total("slots_reconstructed"),
            "latency_s": {
                "p50": telemetry.quantile("latency_seconds", 0.5),
                "p99": telemetry.quantile("latency_seconds", 0.99),
            },
            "queue": int(telemetry.value("reconstruction_queue")),
            "tiles_pending": int(telemetry.value("tiles_pending")),
            "ring_fill": telemetry.value("ring_fill"),
            "residual": finite(telemetry.value("residual")),
            "unexplained": finite(telemetry.value("unexplained")),
            "alarm": finite(telemetry.value("alarm")),
            "scale_uncertainty": finite(telemetry.value("phase_scale_uncertainty")),
            "light_s": telemetry.value("light_seconds"),
            "light_dose_s": telemetry.value("light_dose_seconds"),
            "light_on": bool(telemetry.value("light_on")),
            "disk_free_bytes": shutil.disk_usage(self.folder.path).free,
            "restarts": {
                stage: int(n) for stage, n in telemetry.by_stage("stage_restarts").items() if n
            },
            "interval_s": self._interval_s(),
            "focus_um": live.control.target.focus_um,
            "stage_um": list(live.control.target.stage_um),
            "focus_error_um": finite(telemetry.value("focus_error_um")),
            "actions_applied": telemetry.total("actions_applied"),
            "frames_per_s": self._rate(),
            "disk_left_s": self._disk_left_s(),
        }
        figures["left_s"] = self._left_s(figures)
        return figures

    def _take_sample(self, telemetry: Telemetry) -> None:
        now = time.monotonic()
        latencies = telemetry.histogram("latency_seconds")
        free = float(shutil.disk_usage(self.folder.path).free)
        self._samples.append(
            _Sample(
                now,
                telemetry.total("frames_acquired"),
                latencies.observations,
                latencies.sum_s,
                free,
            )
        )
        while now - self._samples[0].time > max(_DISK_S, 3 * self.plan.interval_s):
            self._samples.popleft()

    def _over(self, seconds: float) -> tuple[_Sample, _Sample] | None:
        """The newest sample, and the one about so long before."""
        if len(self._samples) < 2:
            return None
        last = self._samples[-1]
        first = next(s for s in self._samples if last.time - s.time <= seconds)
        return (first, last) if last.time > first.time else None

    def _rate(self) -> float | None:
        """Frames a second."""
        ends = self._over(max(_RATE_S, 3 * self.plan.interval_s))
        if ends is None:
            return None
        return (ends[1].acquired - ends[0].acquired) / (ends[1].time - ends[0].time)

    def _recent(self) -> dict[str, float | None]:
        """What a plot shows of the last seconds."""
        ends = self._over(max(_RATE_S, 3 * self.plan.interval_s))
        latency = None
        if ends is not None and ends[1].latencies > ends[0].latencies:
            latency = (ends[1].latency_sum_s - ends[0].latency_sum_s) / (
                ends[1].latencies - ends[0].latencies
            )
        return {"latency_s": latency, "missing": self._figures.get("frames_missing")}

    def _disk_left_s(self) -> float | None:
        """Until the disk is full, if it goes on filling as in the last minutes; None where it doesn't fill."""
        ends = self._over(_DISK_S)
        if ends is None or ends[1].time - ends[0].time < _RATE_S:
            return None
        per_s = (ends[0].disk_free - ends[1].disk_free) / (ends[1].time - ends[0].time)
        return ends[1].disk_free / per_s if per_s > 0 else None

    def _left_s(self, figures: dict[str, Any]) -> float | None:
        """Until the last frame, at the rate of now and never faster than planned."""
        plan = self.plan
        left = plan.frames - figures["frames_acquired"] - figures["frames_missing"]
        if left <= 0:
            return 0.0
        slots = left / (plan.frames_per_slot * len(plan.positions))
        rate = figures["frames_per_s"]
        if not rate:
            return None
        return float(np.maximum(left / rate, slots * self._interval_s()))

    def _interval_s(self) -> float:
        """From one timepoint to the next, as it is by now."""
        interval = None if self._live is None else self._live.telemetry.value("interval_seconds")
        return self.plan.interval_s if finite(interval) is None else float(interval or 0.0)
