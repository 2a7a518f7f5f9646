"""When a figure that goes up and down is an alarm, and when it no longer is."""

from __future__ import annotations

import math


class Hysteresis:
    """Comes when a level has been at `on` or above for a time, goes when it was below `off` for another.

    Parameters
    ----------
    on, off
        Levels; `off` is not above `on`.
    on_for_s, off_for_s
        For how long, in seconds.
    """

    def __init__(self, on: float, off: float, on_for_s: float, off_for_s: float) -> None:
        if off > on:
            raise ValueError(f"an alarm that comes at {on} can't stay until {off}")
        self._on, self._off = on, off
        self._on_for_s, self._off_for_s = on_for_s, off_for_s
        self._since: float | None = None  # from when on the level speaks for the other state
        self.active = False

    def look(self, level: float, now: float) -> bool:
        """Take in the level at a time in seconds; whether the alarm is active. NaN says nothing and changes nothing."""
        if math.isnan(level):
            return self.active
        turns = level < self._off if self.active else level >= self._on
        if not turns:
            self._since = None
            return self.active
        if self._since is None:
            self._since = now
        if now - self._since >= (self._off_for_s if self.active else self._on_for_s):
            self.active, self._since = not self.active, None
        return self.active
