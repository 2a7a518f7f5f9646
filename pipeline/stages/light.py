"""The one hand on the light switch of the acquire process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from drivers.driver import Driver
from pipeline.control import Command, StageControl
from pipeline.errors import DriverError
from pipeline.frames import SlotKey
from pipeline.stages.light_mark import LightMark
from pipeline.telemetry import StageWriter

log = logging.getLogger("livephase")

# A driver that hangs while it arms must not keep the light from going off.
_LOCK_S = 0.5
_LOOK_S = 0.05


class LightGuard:
    """Arms bursts and turns the light off, so that the one can't undo the other.

    `off_for_good` may come from another thread at any moment (the supervisor died, the run was
    aborted): no burst is armed after it.

    Parameters
    ----------
    mark
        Says in the run folder that the light may be on, from before the first burst until it is known to be off.
    """

    def __init__(self, driver: Driver, counters: StageWriter, mark: LightMark) -> None:
        self._driver = driver
        self._counters = counters
        self._mark = mark
        self._marked = False
        self._lit_since: float | None = None
        self._lit_s = 0.0
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._forbidden = False
        self._watch: threading.Thread | None = None
        self._watch_over = threading.Event()

    @property
    def forbidden(self) -> bool:
        """Whether the light went off for good."""
        return self._forbidden

    def arm(self, slots: Sequence[SlotKey]) -> bool:
        """Arm a burst; False if the light went off for good before."""
        with self._lock:
            if self._forbidden:
                return False
            # Both said first: were this process killed while it arms, the light has to be taken for on.
            if not self._marked:
                self._mark.set()
                self._marked = True
            if self._lit_since is None:
                self._lit_since = time.monotonic()
                self._counters.set("light_on", 1)
            self._driver.arm(slots)
        if self.forbidden:
            # Forbidden while the driver hung in there: it may have lit what was put out meanwhile.
            self.off()
            return False
        return True

    def off(self) -> None:
        """Turn the light off until the next burst."""
        self._driver.light_off()
        # Never held over a call of the driver, which may hang.
        with self._counting:
            if self._lit_since is not None:
                self._lit_s += time.monotonic() - self._lit_since
                self._lit_since = None
                self._counters.set("light_seconds", self._lit_s)
            self._counters.set("light_on", 0)

    def off_for_good(self) -> None:
        """Turn the light off and let no burst be armed any more."""
        self._forbidden = True
        held = self._lock.acquire(timeout=_LOCK_S)
        try:
            self.off()
            if held:
                self._unmark()
        finally:
            if held:
                self._lock.release()

    def close(self) -> None:
        """At the end of the session: light off, lens at its safe place, devices let go.

        Where that fails, the mark stays, and somebody else tries.
        """
        try:
            self.off_for_good()
        finally:
            self._driver.close()

    def watch_for_abort(self, control: StageControl) -> None:
        """From a thread of its own: an abort puts the light out though the camera may hang."""

        def watch() -> None:
            while not self._watch_over.wait(_LOOK_S):
                if control.command == Command.ABORT:
                    try:
                        self.off_for_good()
                    except DriverError:
                        # The mark stays: the end of the stage tries again, and then the light keeper.
                        log.exception("the light did not go off")
                    return

        self._watch = threading.Thread(target=watch, name="abort watch", daemon=True)
        self._watch.start()

    def end_watch(self) -> None:
        """Before the control block goes away."""
        self._watch_over.set()
        if self._watch is not None:
            self._watch.join()

    def _unmark(self) -> None:
        if self._marked:
            self._mark.clear()
            self._marked = False
