"""The one hand on the light switch of the acquire process."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from drivers.driver import Driver
from pipeline.control import Command, StageControl
from pipeline.frames import SlotKey
from pipeline.telemetry import StageWriter

# A driver that hangs while it arms must not keep the light from going off.
_LOCK_S = 0.5
_LOOK_S = 0.05


class LightGuard:
    """Arms bursts and turns the light off, so that the one can't undo the other.

    `off_for_good` may come from another thread at any moment (the supervisor died, the run was
    aborted): no burst is armed after it.
    """

    def __init__(self, driver: Driver, counters: StageWriter) -> None:
        self._driver = driver
        self._counters = counters
        self._lock = threading.Lock()
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
            # Said first: were this process killed while it arms, the light has to be taken for on.
            self._counters.set("light_on", 1)
            self._driver.arm(slots)
            return True

    def off(self) -> None:
        """Turn the light off until the next burst."""
        self._driver.light_off()
        self._counters.set("light_on", 0)

    def off_for_good(self) -> None:
        """Turn the light off and let no burst be armed any more."""
        self._forbidden = True
        held = self._lock.acquire(timeout=_LOCK_S)
        try:
            self.off()
        finally:
            if held:
                self._lock.release()

    def watch_for_abort(self, control: StageControl) -> None:
        """From a thread of its own: an abort puts the light out though the camera may hang."""

        def watch() -> None:
            while not self._watch_over.wait(_LOOK_S):
                if control.command == Command.ABORT:
                    self.off_for_good()
                    return

        self._watch = threading.Thread(target=watch, name="abort watch", daemon=True)
        self._watch.start()

    def end_watch(self) -> None:
        """Before the control block goes away."""
        self._watch_over.set()
        if self._watch is not None:
            self._watch.join()
