"""One run as the service sees it: its figures, and its newest images, out of shared memory.

Only looks: whatever happens here, the run does not notice.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any, NamedTuple

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


class Seen(NamedTuple):
    """An image that is there to be looked at, and since when."""

    kind: str
    stamp: int
    key: SlotKey
    channel: int
    image: NDArray[Any]
    time_utc: float
    info: dict[str, float]


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
        self._running = folder.state() is RunState.RUNNING
        self._state = folder.state().value
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
        return self._running

    def look(self) -> None:
        """Take in what is new; some times a second."""
        self._log.look()
        with self._lock:
            self._attach()
            if self._live is None:
                return
            # Its report is written after the last stage has ended: nothing else may begin before.
            state = min(self._live.control.state, LiveState.DRAINING)
            self._state = LiveState(state).name.lower()
            self._figures = self._read(self._live)
            recent = finite(self._live.telemetry.value("latency_recent_seconds"))
        now = time.monotonic()
        if now >= self._next_sample:
            self._next_sample = now + 1.0
            missing = self._figures["frames_missing"]
            self.history.add(
                time.time(), {**self._figures, "latency_s": recent, "missing": missing}
            )

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
        state = self.folder.state()
        self._running = state is RunState.RUNNING
        if self._live is not None and not self._running:
            # The last figures stay to be seen; the memory itself is nobody's any more.
            self._figures = self._read(self._live)
            self._live.close()
            self._live = None
        if self._running and self._live is None:
            self._state = LiveState.IDLE.name.lower()
            with suppress(StoreError):  # it is just starting
                self._live = LiveRun(self.folder)
        elif not self._running:
            self._state = state.value

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
        interval_s = finite(telemetry.value("interval_seconds"))
        return {
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
            "disk_free_bytes": finite(telemetry.value("disk_free_bytes")),
            "restarts": {
                stage: int(n) for stage, n in telemetry.by_stage("stage_restarts").items() if n
            },
            "interval_s": self.plan.interval_s if interval_s is None else interval_s,
            "focus_um": live.control.target.focus_um,
            "stage_um": list(live.control.target.stage_um),
            "focus_error_um": finite(telemetry.value("focus_error_um")),
            "actions_applied": telemetry.total("actions_applied"),
            # As the run's own care for itself has them.
            "frames_per_s": telemetry.value("frames_per_second"),
            "left_s": finite(telemetry.value("run_left_seconds")),
            "disk_left_s": finite(telemetry.value("disk_left_seconds")),
        }
