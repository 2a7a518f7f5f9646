"""The time by which timepoints are due: that of the world, or a simulation's own in fast-forward."""

from __future__ import annotations

import time
from typing import Protocol

from pipeline.experiment import Experiment


class Clock(Protocol):
    """Seconds from some beginning, and how to let them pass."""

    def now(self) -> float:
        """Seconds."""
        ...

    def wait(self, seconds: float) -> None:
        """Let so many seconds pass."""
        ...


class RealClock:
    """Seconds as they are."""

    # A pause is felt at once, an idle core stays idle.
    LOOK_S = 0.02

    def now(self) -> float:
        """Of the monotonic clock."""
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        """At most the time between two looks at the orders."""
        time.sleep(min(max(seconds, 0.0), self.LOOK_S))


class FastForward:
    """Nothing takes any time but what is waited for, and that passes at once.

    A simulation that is computed as fast as it can be does not wait for its cells to grow, and a timelapse with outages
    comes out the same on any machine.
    """

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        """How long was waited so far."""
        return self._now

    def wait(self, seconds: float) -> None:
        """At once."""
        self._now += max(seconds, 0.0)


def clock_for(experiment: Experiment) -> Clock:
    """Fast-forward for an unpaced simulation, else the world's."""
    microscope = experiment.microscope
    if microscope.driver == "simulator" and not microscope.paced:
        return FastForward()
    return RealClock()
