"""What a run's microscope was set to, timepoint by timepoint: due times, focus and place.

Without online control a run has no settings: timepoints come at the plan's interval, and frames are taken at the
plan's foci and places.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.frames import Plan, SlotKey


@dataclass(frozen=True)
class Setting:
    """What holds from one slot on.

    Parameters
    ----------
    since
        The first slot that it holds for, by its number in the order of acquisition.
    timepoint, due_s
        Of that slot, and when it is due, counted from the series' start in seconds of an undisturbed clock.
    interval_s
        From there on, from one timepoint to the next.
    focus_um, stage_um
        What every focus and place (x, y) of the plan is moved by.
    """

    since: int
    timepoint: int
    due_s: float
    interval_s: float
    focus_um: float = 0.0
    stage_um: tuple[float, float] = (0.0, 0.0)


class Course:
    """The settings of a run, oldest first.

    Parameters
    ----------
    settings
        Of two that hold from the same slot on, the later one counts.
    """

    def __init__(self, plan: Plan, settings: Sequence[Setting] = ()) -> None:
        self._plan = plan
        self._start = Setting(0, 0, 0.0, plan.interval_s)
        # Sorted stably: a session that took slots again may have written of earlier ones.
        self.settings = tuple(sorted(settings, key=lambda s: s.since))
        self._since = [setting.since for setting in self.settings]
        self._keeps_time = not plan.interval_s or all(
            s.interval_s == plan.interval_s for s in self.settings
        )

    @property
    def plan(self) -> Plan:
        """Whose foci, places and times are moved."""
        return self._plan

    def at(self, slot: SlotKey) -> Setting:
        """What holds for a slot."""
        return self._holding(self._plan.slot_number(slot))

    @property
    def last(self) -> Setting:
        """The newest setting."""
        return self.settings[-1] if self.settings else self._start

    def due_s(self, timepoint: int) -> float:
        """When a timepoint is due, in seconds from its series' start."""
        if self._keeps_time:
            return timepoint * self._plan.interval_s
        setting = self._holding(self._plan.slot_number(SlotKey(timepoint, 0)))
        return setting.due_s + (timepoint - setting.timepoint) * setting.interval_s

    def age(self, timepoint: int) -> float:
        """When it is due, in planned intervals: what a simulated specimen's life is counted by."""
        if self._keeps_time:
            return timepoint
        return self.due_s(timepoint) / self._plan.interval_s

    def then(self, setting: Setting) -> Course:
        """Another setting after these."""
        return Course(self._plan, (*self.settings, setting))

    def _holding(self, number: int) -> Setting:
        index = bisect_right(self._since, number)
        return self.settings[index - 1] if index else self._start
