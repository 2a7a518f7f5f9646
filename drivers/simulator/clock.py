"""The simulated camera's clock: frames come when they are due, and who is late is told apart."""

from __future__ import annotations

import threading
import time

# Frames that the camera's own buffer holds while the caller is busy.
_BUFFER_FRAMES = 100
# So many frames are computed before the simulator complains about itself, and it must be this much
# slower than asked: the first frame of all also pays for imports.
_JUDGED_AFTER = 8
_TOO_SLOW = 1.1


class CameraClock:
    """Delivers frames at their times.

    A caller that comes late finds frames waiting, as in a camera's buffer. Computing that takes
    longer than a frame delays the camera itself instead: nothing is dropped for it.

    Parameters
    ----------
    paced
        False: no waiting for frames that are not yet due.
    budget_s
        Least time from one frame to the next that the experiment asks for, beside the camera's own.
    """

    def __init__(self, paced: bool, budget_s: float) -> None:
        self._paced = paced
        self._budget_s = budget_s
        self._closed = threading.Event()
        self._due = 0.0
        self._frames = 0
        self._asked_s = self._took_s = 0.0
        self._complaint: str | None = None
        self._complained = False
        self.buffer_fill = 0.0

    def start(self) -> None:
        """The camera begins a burst now."""
        self._due = time.monotonic()
        self._closed.clear()

    def skip(self, period_s: float) -> None:
        """A frame passed that nobody gets."""
        self._due += period_s

    def pause(self, seconds: float) -> None:
        """Something holds the camera up, paced or not."""
        if seconds > 0:
            self._closed.wait(seconds)
            self._due += seconds

    def deliver(self, period_s: float, computed_s: float) -> float:
        """Wait until the next frame is due; returns its time on the monotonic clock."""
        self._judge(period_s, computed_s)
        now = time.monotonic()
        if not self._paced:
            return now
        self._due += period_s
        if now < self._due:
            self._closed.wait(self._due - now)
        else:
            self._due += min(max(computed_s - period_s, 0.0), now - self._due)
        behind = max(now - self._due, 0.0)
        self.buffer_fill = min(behind / period_s / _BUFFER_FRAMES, 1.0)
        return self._due

    def stop_waiting(self) -> None:
        """Wake whoever waits: the camera is being closed."""
        self._closed.set()

    def take_complaint(self) -> str | None:
        """That computing can't keep up: once."""
        complaint, self._complaint = self._complaint, None
        return complaint

    def _judge(self, period_s: float, computed_s: float) -> None:
        if not self._paced or self._complained:
            return
        self._frames += 1
        if self._frames == 1:
            return
        asked = max(period_s, self._budget_s)
        self._asked_s += asked
        self._took_s += max(computed_s, asked)
        if self._frames > _JUDGED_AFTER and self._took_s > _TOO_SLOW * self._asked_s:
            frames = self._frames - 1
            self._complained = True
            self._complaint = (
                f"simulator can't keep up: {frames / self._took_s:.2g} frames/s "
                f"of {frames / self._asked_s:.2g} asked for"
            )
