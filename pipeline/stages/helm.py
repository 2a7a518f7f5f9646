"""The acquire stage's hand on focus, place and interval: turned between two timepoints only."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from drivers.driver import Driver
from pipeline.control import StageControl, TakenUp
from pipeline.course import Setting
from pipeline.errors import DriverError
from pipeline.frames import Plan, SlotKey
from pipeline.store.steering_file import SteeringFile

log = logging.getLogger("livephase")


class Helm:
    """Takes up what the supervisor aims at: told to the driver, then written down, then in force.

    Parameters
    ----------
    tell
        Shows a line to the user.
    """

    def __init__(
        self,
        plan: Plan,
        driver: Driver,
        control: StageControl,
        file: SteeringFile,
        tell: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._driver = driver
        self._control = control
        self._file = file
        self._tell = tell
        self._number = 0
        self.course = file.course(plan)

    def begin(self, todo: Sequence[SlotKey]) -> None:
        """At a session's start, the driver open: go on from the last setting of the session before.

        Raises
        ------
        DriverError
            If the microscope can't be set so any more.
        """
        if not self.course.settings or not todo:
            return
        first = self._plan.slot_number(todo[0])
        if first < self.course.last.since:
            # Slots that a crash has taken are taken again under today's setting.
            timepoint = todo[0].timepoint
            due_s = self.course.due_s(timepoint)
            setting = replace(self.course.last, since=first, timepoint=timepoint, due_s=due_s)
            self._file.add_setting(self._file.last_number(), setting)
            self.course = self.course.then(setting)
        self._driver.steer(self.course)

    @property
    def pending(self) -> bool:
        """Whether something was asked that has not been dealt with."""
        return self._control.target_number not in (0, self._number)

    def turn(self, slot: SlotKey, elapsed_s: float) -> None:
        """Deal with what was asked, before a slot that begins a timepoint.

        Parameters
        ----------
        elapsed_s
            Since the series' start: a timepoint is not due in the past.
        """
        target = self._control.target
        if target.number in (0, self._number):
            return
        self._number = target.number
        held = self.course.at(slot)
        due_s = self.course.due_s(slot.timepoint)
        if target.interval_s != held.interval_s and slot.timepoint > 0:
            due_s = max(self.course.due_s(slot.timepoint - 1) + target.interval_s, elapsed_s)
        setting = Setting(
            since=self._plan.slot_number(slot),
            timepoint=slot.timepoint,
            due_s=due_s,
            interval_s=target.interval_s,
            focus_um=target.focus_um,
            stage_um=target.stage_um,
        )
        refused = False
        try:
            self._driver.steer(self.course.then(setting))
        except DriverError as error:
            refused = True
            self._file.add_refusal(target.number, slot.timepoint, str(error))
            self._tell(f"not done: {error}")
            # The microscope is as it was; the interval is nothing that it could refuse.
            setting = replace(setting, focus_um=held.focus_um, stage_um=held.stage_um)
            self._driver.steer(self.course.then(setting))
        self._file.add_setting(target.number, setting)
        self.course = self.course.then(setting)
        self._control.say_taken_up(TakenUp(target.number, slot.timepoint, refused))
        log.info(
            "steered",
            extra={
                "number": target.number,
                "key": tuple(slot),
                "focus_um": setting.focus_um,
                "stage_um": setting.stage_um,
                "interval_s": setting.interval_s,
                "refused": refused,
            },
        )
