"""Whether the service may tell its manager's watchdog that all is well.

What hangs is to be killed and started again: the run is resumed then. What is only slow is not, as
a restart takes a timepoint again: a reconstruction that takes hours, an interval of a day, a pause,
a backlog that gets less. So each limit lies far beyond what livephase itself does first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.control import ACQUIRE, RECORD, Control, RunState, StageReport, StageState
from pipeline.telemetry import Telemetry

# Requests are answered in milliseconds; a machine that swaps takes seconds.
_LOOP_S = 30.0
# The supervisor looks fifty times a second. What takes it longest: to end every stage, and have the light put out.
_SUPERVISOR_S = 180.0
# Until its first look: a ring of a hundred gigabytes is preallocated, on a machine that has to make room for it.
_FIRST_LOOK_S = 600.0
# The supervisor kills a driver that hangs with the light on after `longest_silence_s`; that costs less than this.
_DRIVER_SILENCES = 2.0
# A network disk or a RAID may come back by itself after many minutes, and then nothing is lost; what
# is in the ring would be lost by a restart.
_STORAGE_S = 1800.0
# Of a backlog, nothing finished: for as long as twenty images have taken on average, and no less than this; and
# for as long as this where none was finished yet.
_SLOW_IMAGES = 20
_BACKLOG_S = 1800.0
_FIRST_IMAGE_S = 6 * 3600.0

_AT_WORK = (StageState.READY, StageState.RUNNING, StageState.PAUSED)


class Verdict(NamedTuple):
    """Whether to feed the watchdog, and why (not), for people."""

    feed: bool
    reason: str


@dataclass(frozen=True)
class RunSigns:
    """The signs of life of a run, as they are seen from another process.

    Parameters
    ----------
    session
        Name of its control block: another session, another name.
    longest_silence_s
        What the driver may take (`pipeline.lifecycle.silence`).
    stored, reconstructed
        Slots with which recording and reconstruction are done.
    image_s
        Mean time of one reconstruction, in seconds; None before the first.
    """

    session: str
    state: RunState
    longest_silence_s: float
    supervisor_age_s: float
    acquire: StageReport
    record: StageReport
    ring_fill: float
    stored: int
    reconstructed: int
    image_s: float | None

    @classmethod
    def read(cls, control: Control, telemetry: Telemetry, longest_silence_s: float) -> RunSigns:
        """Look at a run that goes on."""
        images = telemetry.histogram("reconstruction_seconds")
        return cls(
            session=control.name,
            state=control.state,
            longest_silence_s=longest_silence_s,
            supervisor_age_s=control.supervisor_age_s,
            acquire=control.report(ACQUIRE),
            record=control.report(RECORD),
            ring_fill=telemetry.value("ring_fill"),
            stored=telemetry.total("slots_committed"),
            reconstructed=telemetry.total("slots_reconstructed") + telemetry.total("slots_skipped"),
            image_s=images.sum_s / images.observations if images.observations else None,
        )


class Judge:
    """Judges what it is shown, a few times a minute; remembers since when nothing has got done.

    Parameters
    ----------
    now
        Seconds of a monotonic clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._session = ""
        self._seen_at = 0.0
        # What was done when it last became more, or when there last was nothing to do, and when that was.
        self._stored = self._reconstructed = (-1, 0.0)

    def judge(self, loop_age_s: float, run: RunSigns | None) -> Verdict:
        """Whether to feed the watchdog.

        Parameters
        ----------
        loop_age_s
            Since the service's event loop last turned.
        run
            None where none goes on, or it is just starting or ending: the light is off then.
        """
        if loop_age_s > _LOOP_S:
            return Verdict(False, f"the service's event loop has not turned for {loop_age_s:.0f} s")
        if run is None:
            self._session = ""
            return Verdict(True, "no run goes on")
        self._remember(run)
        complaint = (
            self._of_supervisor(run)
            or self._of_driver(run)
            or self._of_storage(run)
            or self._of_backlog(run)
        )
        if complaint:
            return Verdict(False, complaint)
        return Verdict(True, f"the run is {run.state.name.lower()}")

    def _remember(self, run: RunSigns) -> None:
        now = self._now()
        if run.session != self._session:
            self._session, self._seen_at = run.session, now
            self._stored = self._reconstructed = (-1, now)
        # There is always room for more in a ring that is not full, and no backlog has to end before the frames do.
        if run.ring_fill < 1 or run.stored != self._stored[0]:
            self._stored = run.stored, now
        if run.state != RunState.DRAINING or run.reconstructed != self._reconstructed[0]:
            self._reconstructed = run.reconstructed, now

    def _of_supervisor(self, run: RunSigns) -> str:
        age_s, limit_s = run.supervisor_age_s, _SUPERVISOR_S
        if math.isinf(age_s):
            age_s, limit_s = self._now() - self._seen_at, _FIRST_LOOK_S
        if age_s <= limit_s:
            return ""
        return f"the run's supervisor has shown no sign of life for {age_s:.0f} s"

    @staticmethod
    def _of_driver(run: RunSigns) -> str:
        limit_s = _DRIVER_SILENCES * run.longest_silence_s
        if run.acquire.state not in _AT_WORK or not _silent(run.acquire, limit_s):
            return ""
        return f"the driver has hung for {run.acquire.heartbeat_age_s:.0f} s"

    def _of_storage(self, run: RunSigns) -> str:
        if run.record.state in _AT_WORK and _silent(run.record, _STORAGE_S):
            return f"storage has hung for {run.record.heartbeat_age_s:.0f} s"
        still_s = self._now() - self._stored[1]
        if still_s > _STORAGE_S:
            return f"the ring is full, and nothing was stored for {still_s:.0f} s"
        return ""

    def _of_backlog(self, run: RunSigns) -> str:
        """While frames are taken, a reconstruction that hangs is no reason to disturb them."""
        patience_s = _FIRST_IMAGE_S
        if run.image_s is not None:
            patience_s = max(_BACKLOG_S, _SLOW_IMAGES * run.image_s)
        still_s = self._now() - self._reconstructed[1]
        if still_s <= patience_s:
            return ""
        return f"the backlog of reconstruction has not got less for {still_s:.0f} s"


def _silent(stage: StageReport, limit_s: float) -> bool:
    """Whether a stage that has begun has shown nothing for longer. Infinite: it has not begun."""
    return limit_s < stage.heartbeat_age_s < math.inf
