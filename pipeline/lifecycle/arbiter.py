"""Between those who ask and the microscope: people and controllers on one side, the acquire stage on the other.

The supervisor's, and quick: it takes wishes, holds them against the limits, aims the acquire stage at the outcome and
writes everything down. Controllers think in processes of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from pipeline.actions import Action, Pause, Snapshot, Stop, as_dict, from_dict, name_of
from pipeline.control import Control, Request, Target
from pipeline.experiment import ControllerEntry, Experiment
from pipeline.lifecycle.action_log import ActionLog
from pipeline.lifecycle.bounds import bounded
from pipeline.lifecycle.controller_process import ControllerProcess
from pipeline.stages.context import StageContext
from pipeline.store.run_folder import RunFolder
from pipeline.store.steering_file import SteeringFile
from pipeline.telemetry import StageWriter

log = logging.getLogger("livephase")

_NOBODY_WAITS = 1 << 60
_REQUESTS = {Pause: Request.PAUSE, Stop: Request.STOP}


class Arbiter:
    """One session's.

    Parameters
    ----------
    tell
        Shows a line to the user.
    counters
        Told what took effect, and what controllers found of the focus.
    """

    def __init__(
        self,
        folder: RunFolder,
        experiment: Experiment,
        control: Control,
        tell: Callable[[str], None],
        counters: StageWriter,
    ) -> None:
        self._experiment = experiment
        self._control = control
        self._tell = tell
        self._counters = counters
        self._log = ActionLog(folder.path)
        self._steering = SteeringFile(folder.path)
        self._controllers: list[ControllerProcess] = []
        last = self._steering.course(experiment.plan()).last
        # Numbers go on from session to session, so that a line of one can't be taken for another's.
        self._number = self._answered = self._steering.last_number()
        self._held = Target(0, last.interval_s, last.focus_um, last.stage_um)
        control.aim(self._held)
        counters.set("interval_seconds", last.interval_s)

    def start(self, context: StageContext) -> None:
        """Start the experiment's controllers."""
        for entry in self._experiment.control.controllers:
            self._controllers.append(ControllerProcess(entry, context))

    @property
    def ready(self) -> bool:
        """Whether no controller has to be waited for."""
        return all(controller.settled for controller in self._controllers)

    def look(self, acquiring: bool) -> None:
        """Take wishes, and see what became of earlier ones."""
        while (action := self._control.take_action()) is not None:
            self._decide(action, "user", None, {})
        for controller in self._controllers if acquiring else ():
            for line in controller.hear():
                self._heard(controller, line)
            trouble = controller.look_after()
            if trouble:
                self._tell(trouble)
                self._log.add(by=controller.entry.use, outcome="failed", why=trouble)
        self._say_decided()
        self._follow_up()

    def end(self) -> None:
        """Let the controllers go."""
        for controller in self._controllers:
            controller.end()
        self._controllers = []
        self._follow_up()
        if self._answered < self._number:
            self._log.add(
                number=self._number, outcome="never applied", why="no timepoint came after it"
            )

    def _heard(self, controller: ControllerProcess, line: dict[str, Any]) -> None:
        entry = controller.entry
        if line["what"] == "failed":
            self._log.add(by=entry.use, outcome="failed", why=line["why"])
            return
        about = {k: line[k] for k in ("timepoint", "position", "seen", "took_s")}
        if "defocus_um" in line["seen"]:
            self._counters.set("focus_error_um", line["seen"]["defocus_um"])
        if not line["actions"]:
            # A quiet result is no news; a probe that was not believed is.
            if controller.looks_at == "probes":
                self._log.add(by=entry.use, **about, proposed=None, outcome="nothing")
            return
        for content in line["actions"]:
            try:
                action = from_dict(content)
            except (ValueError, KeyError, TypeError) as error:
                self._log.add(by=entry.use, **about, outcome="dropped", why=str(error))
                continue
            self._decide(action, entry.use, entry, about)

    def _decide(
        self, action: Action, by: str, entry: ControllerEntry | None, about: dict[str, Any]
    ) -> None:
        line: dict[str, Any] = {"by": by, **about, "proposed": as_dict(action)}
        if entry is not None and about["took_s"] > entry.deadline_s:
            line |= {"outcome": "dropped", "why": f"late: it took {about['took_s']:.3g} s"}
        elif isinstance(action, Pause | Stop | Snapshot):
            dry = entry is not None and entry.dry_run
            if not dry and not isinstance(action, Snapshot):
                self._control.request(_REQUESTS[type(action)])
                seen = ", ".join(f"{k} {v:.4g}" for k, v in about.get("seen", {}).items())
                self._tell(f"{by} asks for {name_of(action)}: {seen}")
            line["outcome"] = "dry run" if dry else "done"
        else:
            line |= self._aim(action, entry)
        self._log.add(**line)

    def _aim(self, action: Action, entry: ControllerEntry | None) -> dict[str, Any]:
        held = self._held._replace(number=self._number)
        outcome = bounded(action, held, self._experiment, entry)
        if outcome.target is None:
            return {"outcome": "dropped", "why": outcome.why}
        target = outcome.target
        aimed = {
            "focus_um": target.focus_um,
            "stage_um": target.stage_um,
            "interval_s": target.interval_s,
        }
        why = {"why": outcome.why} if outcome.why else {}
        if entry is not None and entry.dry_run:
            return {"outcome": "dry run", "would_be": aimed, **why}
        self._held, self._number = target, target.number
        self._control.aim(target)
        return {"outcome": "ordered", "number": target.number, "target": aimed, **why}

    def _follow_up(self) -> None:
        """Write down what the acquire stage has made of the newest target that it has dealt with."""
        taken = self._control.taken_up
        if taken.number <= self._answered:
            return
        self._answered = taken.number
        line: dict[str, Any] = {"number": taken.number, "timepoint": taken.timepoint}
        if not taken.refused:
            self._log.add(**line, outcome="applied")
            self._counters.add("actions_applied", 1)
            self._counters.set("interval_seconds", self._control.target.interval_s)
            return
        why = self._steering.refusal(taken.number)
        self._log.add(**line, outcome="refused", why=why)
        # What is aimed at from here on begins where the microscope really is.
        last = self._steering.course(self._experiment.plan()).last
        self._held = self._held._replace(focus_um=last.focus_um, stage_um=last.stage_um)

    def _say_decided(self) -> None:
        through = {"results": _NOBODY_WAITS, "probes": _NOBODY_WAITS}
        for controller in self._controllers:
            if controller.looks_at in through:
                through[controller.looks_at] = min(through[controller.looks_at], controller.decided)
        self._control.say_decided(through["results"], through["probes"])
