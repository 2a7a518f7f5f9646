"""What the user wants, from signals and from other terminals, as orders to the stages.

wait ─► run ⇄ pause ─► stop ─► leave backlog        abort: from anywhere
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from pipeline.control import Command, Control, Request
from pipeline.lifecycle.signals import StopSignals

log = logging.getLogger("livephase")


class Orders:
    """Keeps the order that holds, and what the user is told of it.

    Parameters
    ----------
    tell
        Shows a line to the user.
    """

    def __init__(self, control: Control, signals: StopSignals, tell: Callable[[str], None]) -> None:
        self._control = control
        self._signals = signals
        self._tell = tell
        self._paused_early = False
        self._suspended = False
        self.aborted_by_user = False

    @property
    def command(self) -> Command:
        """The order that holds."""
        return self._control.command

    @property
    def stopping(self) -> bool:
        """Whether acquisition was told to end."""
        return self.command in (Command.STOP, Command.LEAVE_BACKLOG, Command.ABORT)

    @property
    def at_once(self) -> bool:
        """Whether the user has lost patience: a third Ctrl+C."""
        return self._signals.count >= 3

    @property
    def suspended(self) -> bool:
        """Whether the pause that holds is the run's own, and not the user's."""
        return self._suspended and self.command == Command.PAUSE

    def suspend(self) -> bool:
        """Pause on the run's own account; whether it was running. What the user orders stands above it."""
        if self.command != Command.RUN:
            return False
        self._suspended = True
        self.give(Command.PAUSE)
        return True

    def go_on(self) -> None:
        """End a pause of the run's own."""
        if self.suspended:
            self.give(Command.RUN)
        self._suspended = False

    def begin(self) -> None:
        """Every stage is ready: run, unless the user has asked for something else meanwhile."""
        if self.command == Command.WAIT:
            self.give(Command.PAUSE if self._paused_early else Command.RUN)

    def give(self, command: Command) -> None:
        """Give an order to every stage."""
        log.info("order", extra={"command": command.name.lower()})
        self._control.order(command)

    def look(self, acquiring: bool) -> None:
        """Obey signals and requests. `acquiring`: frames are still being taken."""
        if self._signals.count >= 1:
            self._stop(acquiring)
        if self._signals.count >= 2:
            self._leave_backlog()
        request = self._control.take_request()
        if request == Request.PAUSE:
            if self.command == Command.RUN:
                self.give(Command.PAUSE)
            self._paused_early = self.command == Command.WAIT
            self._suspended = False  # from here on the pause is the user's
        elif request == Request.RESUME:
            if self.command == Command.PAUSE:
                self.give(Command.RUN)
            self._paused_early = self._suspended = False
        elif request == Request.STOP:
            self._stop(acquiring)
        elif request == Request.LEAVE_BACKLOG:
            self._stop(acquiring)
            self._leave_backlog()
        elif request == Request.ABORT and self.command != Command.ABORT:
            self.aborted_by_user = True
            self.give(Command.ABORT)
            self._tell("aborting: the light goes off, what is complete is stored")

    def _stop(self, acquiring: bool) -> None:
        if self.stopping:
            return
        self.give(Command.STOP)
        what = "stopping after this timepoint" if acquiring else "finishing what is recorded"
        self._tell(f"{what}; Ctrl+C again leaves the reconstruction to --resume")

    def _leave_backlog(self) -> None:
        if self.command == Command.STOP:
            self.give(Command.LEAVE_BACKLOG)
            self._tell("leaving the backlog: `--resume` reconstructs it")
