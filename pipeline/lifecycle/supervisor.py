"""The supervisor: owns shared memory, stages and signals, and decides what a death means.

    idle ─► arming ─► running ⇄ paused ─► draining ─► done | stopped | aborted | failed

- A record or reconstruct stage that is killed is started again and goes on where it was.
- An acquire stage that dies fails the run: the light is turned off, what is complete in
  the ring is recorded, the torn slot is taken again on resume.
- A stage that ends with a reason of its own (a full disk, unusable weights) is not
  started again: it would end the same way.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.control import ACQUIRE, RECONSTRUCT, RECORD, Command, Control, Request, StageState
from pipeline.control import RunState as LiveState
from pipeline.errors import LivephaseError
from pipeline.experiment import Experiment
from pipeline.frames import Measurement, SlotKey
from pipeline.lifecycle.light_off import turn_light_off
from pipeline.lifecycle.signals import StopSignals
from pipeline.lifecycle.stage_process import StageProcess
from pipeline.mailbox import Mailbox
from pipeline.ring import Ring
from pipeline.stages.context import StageContext
from pipeline.store.run_folder import RunFolder, RunState
from pipeline.telemetry import Telemetry

log = logging.getLogger("livephase")

_LOOK_S = 0.02
# What only metrics show: who is alive, how much disk is left.
_SLOW_LOOK_S = 1.0
# Longer than a sick disk's fsync or one reconstruction takes.
_STILL_S = 60.0
# A stage that dies this often without getting anything done between two deaths will not get better by itself.
_MOST_FRUITLESS_RESTARTS = 5
# Loading torch, weights and transfer functions on a slow, cold disk.
_READY_TIMEOUT_S = 180.0


class Progress(Protocol):
    """Who shows the run to the user."""

    def update(self, state: str, telemetry: Telemetry) -> None:
        """Called some times a second."""
        ...

    def message(self, text: str) -> None:
        """Something the user should read."""
        ...


@dataclass(frozen=True)
class SharedNames:
    """Names of a session's shared memory: written to the run folder before anything is created."""

    ring: str
    control: str
    telemetry: str
    mailbox: str

    @classmethod
    def new(cls) -> SharedNames:
        """Names that no other run has. Short: macOS allows 31 characters."""
        token = secrets.token_hex(4)
        return cls(*(f"livephase-{token}-{part}" for part in ("ring", "ctl", "tel", "mbx")))


@dataclass
class Outcome:
    """How a session ended."""

    state: RunState
    error: LivephaseError | None = None
    acquired: int = 0
    restarts: dict[str, int] = field(default_factory=dict)


class Supervisor:
    """One session of a run, from the first process to the last.

    Parameters
    ----------
    todo
        The slots to take, in order; empty: only what is recorded is reconstructed.
    """

    def __init__(
        self,
        folder: RunFolder,
        experiment: Experiment,
        measurement: Measurement | None,
        ring_slots: int,
        todo: tuple[SlotKey, ...],
        names: SharedNames,
        signals: StopSignals,
        progress: Progress,
    ) -> None:
        self._folder = folder
        self._experiment = experiment
        self._measurement = measurement
        self._ring_slots = ring_slots
        self._todo = todo
        self._names = names
        self._signals = signals
        self._progress = progress
        self._error: LivephaseError | None = None
        self._aborting = False
        self._stopping = False
        # What was done at each stage's last death, and how many deaths there were since without any more.
        self._deaths: dict[str, tuple[tuple[int, int], int]] = {}
        self._still: set[str] = set()
        self._look_again = 0.0

    def run(self, on_telemetry: Callable[[Telemetry], None]) -> Outcome:
        """Run the session to its end. `on_telemetry` is told of the counters before the first process starts."""
        plan = self._experiment.plan()
        with ExitStack() as stack:
            self._control = Control.create(self._names.control)
            stack.callback(self._control.unlink)
            self._telemetry = Telemetry.create(self._names.telemetry)
            stack.callback(self._telemetry.unlink)
            scale = self._measurement.upsampling if self._measurement else 1
            y, x = (n * scale for n in plan.frame_shape)
            mailbox = Mailbox.create(
                self._names.mailbox, (y, x), self._experiment.reconstruction.workers
            )
            stack.callback(mailbox.unlink)
            ring = Ring.create(self._names.ring, plan, self._ring_slots)
            stack.callback(ring.unlink)
            self._counters = self._telemetry.writer("supervisor")
            self._counters.set("frames_planned", plan.frames)
            on_telemetry(self._telemetry)
            self._set_state(LiveState.ARMING)
            self._stages = [StageProcess(*s) for s in self._entries()]
            try:
                self._until_ready()
                self._supervise()
            finally:
                for stage in self._stages:
                    stage.end(timeout_s=2.0)
            return self._outcome()

    def _entries(self) -> list[tuple[str, StageContext]]:
        def context(name: str, index: int) -> StageContext:
            n = self._names
            return StageContext(
                stage=name,
                index=index,
                run=self._folder.path,
                experiment=self._experiment,
                ring=n.ring,
                control=n.control,
                telemetry=n.telemetry,
                mailbox=n.mailbox,
                todo=self._todo if index == ACQUIRE else (),
            )

        entries: list[tuple[str, StageContext]] = [
            ("acquire", context("acquire", ACQUIRE)),
            ("record", context("record", RECORD)),
        ]
        if self._measurement is not None:
            for worker in range(self._experiment.reconstruction.workers):
                entries.append(
                    ("reconstruct", context(f"reconstruct-{worker}", RECONSTRUCT + worker))
                )
        return entries

    def _until_ready(self) -> None:
        """Wait for every stage: weights that don't fit are found before the light goes on."""
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while True:
            states = [self._control.stage(s.context.index).state for s in self._stages]
            if all(s >= StageState.READY for s in states) or self._stop_asked():
                break
            for stage in self._stages:
                self._show(stage)
                if not stage.alive:
                    stage.poll()
                    self._error = stage.failure or LivephaseError(
                        f"the {stage.name} stage ended before the run began (exit status {stage.exit_code})",
                        f"{self._folder.log} has the details",
                    )
                    self._order(Command.ABORT)
                    return
            if time.monotonic() > deadline:
                self._error = LivephaseError(
                    f"the stages were not ready within {_READY_TIMEOUT_S:.0f} s",
                    f"{self._folder.log} has the details",
                )
                self._order(Command.ABORT)
                return
            self._tick("arming")
        if self._control.command == Command.WAIT:
            self._order(Command.RUN)
            self._set_state(LiveState.RUNNING)

    def _supervise(self) -> None:
        while not all(self._is_over(stage) for stage in self._stages):
            self._obey_signals()
            self._obey_requests()
            for stage in self._stages:
                self._show(stage)
                if not stage.alive and stage.exit_code != 0 and not self._is_gone(stage):
                    self._bury(stage)
            self._follow_state()
            self._tick(self._control.state.name.lower())
        for stage in self._stages:
            self._show(stage)

    def _is_over(self, stage: StageProcess) -> bool:
        return not stage.alive and (stage.exit_code == 0 or self._is_gone(stage))

    def _is_gone(self, stage: StageProcess) -> bool:
        return self._control.stage(stage.context.index).state == StageState.GONE

    def _bury(self, stage: StageProcess) -> None:
        """Decide what a stage's death means."""
        done = (
            self._telemetry.total("slots_committed"),
            self._telemetry.total("slots_reconstructed"),
        )
        how = (
            f"was killed by signal {-(stage.exit_code or 0)}"
            if (stage.exit_code or 0) < 0
            else "failed"
        )
        log.error("stage died", extra={"stage": stage.name, "how": how})
        if stage.context.index == ACQUIRE:
            if self._telemetry.value("light_on"):
                self._turn_light_off()
            self._give_up(
                stage,
                stage.failure
                or LivephaseError(
                    f"the acquire stage {how}: the light was turned off and complete frames were kept",
                    "`--resume` takes the interrupted timepoint again and goes on",
                ),
            )
            return
        before, fruitless = self._deaths.get(stage.name, ((-1, -1), 0))
        fruitless = fruitless + 1 if before == done else 0
        self._deaths[stage.name] = done, fruitless
        hopeless = stage.failure is not None and (stage.exit_code or 0) > 1
        if hopeless or fruitless >= _MOST_FRUITLESS_RESTARTS:
            self._give_up(
                stage,
                stage.failure
                or LivephaseError(
                    f"the {stage.name} stage {how} {fruitless + 1} times without getting anything done",
                    f"{self._folder.log} has the details; `--resume` goes on",
                ),
            )
            return
        self._progress.message(
            f"the {stage.name} stage {how}: it is started again, no frame is lost"
        )
        self._telemetry.writer(stage.name).add("stage_restarts", 1)
        self._control.stage(stage.context.index).say(StageState.STARTING)
        stage.restart()

    def _turn_light_off(self) -> None:
        if turn_light_off(self._experiment):
            self._counters.set("light_on", 0)
        else:
            self._progress.message("THE LIGHT MAY STILL BE ON: switch it off by hand")

    def _give_up(self, stage: StageProcess, error: LivephaseError) -> None:
        self._error = self._error or error
        self._control.stage(stage.context.index).say(StageState.GONE)
        self._progress.message(str(error))
        if stage.context.index == RECORD:
            # Without a recorder nothing more can be kept: no cell is to be lit for nothing.
            self._order(Command.ABORT)

    def _obey_signals(self) -> None:
        if self._signals.count >= 1 and not self._stopping:
            self._stop()
        if self._signals.count >= 2 and self._control.command == Command.STOP:
            self._order(Command.LEAVE_BACKLOG)
            self._progress.message("leaving the backlog: `--resume` reconstructs it")

    def _obey_requests(self) -> None:
        request = self._control.take_request()
        if request == Request.PAUSE and self._control.command == Command.RUN:
            self._order(Command.PAUSE)
        elif request == Request.RESUME and self._control.command == Command.PAUSE:
            self._order(Command.RUN)
        elif request == Request.STOP:
            self._stop()
        elif request == Request.ABORT:
            self._aborting = True
            self._order(Command.ABORT)
            self._progress.message("aborting: the light goes off, what is complete is stored")

    def _stop(self) -> None:
        self._stopping = True
        if self._control.command in (Command.WAIT, Command.RUN, Command.PAUSE):
            self._order(Command.STOP)
            self._progress.message(
                "stopping after this timepoint; Ctrl+C again leaves the backlog to --resume"
            )

    def _stop_asked(self) -> bool:
        self._obey_signals()
        self._obey_requests()
        return self._control.command not in (Command.WAIT, Command.RUN)

    def _follow_state(self) -> None:
        acquisition = self._control.stage(ACQUIRE).state
        if acquisition in (StageState.FINISHED, StageState.GONE):
            self._set_state(LiveState.DRAINING)
        elif acquisition == StageState.PAUSED:
            self._set_state(LiveState.PAUSED)
        elif self._control.command == Command.RUN:
            self._set_state(LiveState.RUNNING)

    def _order(self, command: Command) -> None:
        log.info("order", extra={"command": command.name.lower()})
        self._control.order(command)

    def _set_state(self, state: LiveState) -> None:
        if self._control.state != state:
            self._control.set_state(state)
            self._counters.set("run_state", state)
            log.info("state", extra={"state": state.name.lower()})

    def _show(self, stage: StageProcess) -> None:
        for message in stage.poll():
            self._progress.message(message)

    def _tick(self, state: str) -> None:
        self._control.beat()
        self._progress.update(state, self._telemetry)
        now = time.monotonic()
        if now >= self._look_again:
            self._look_again = now + _SLOW_LOOK_S
            for stage in self._stages:
                self._telemetry.writer(stage.name).set("stage_up", stage.alive)
                self._say_if_still(stage)
            self._counters.set("disk_free_bytes", shutil.disk_usage(self._folder.path).free)
        time.sleep(_LOOK_S)

    def _say_if_still(self, stage: StageProcess) -> None:
        """Say once that a stage shows no sign of life: a driver or a disk may hang for good."""
        age_s = self._control.report(stage.context.index).heartbeat_age_s
        if not stage.alive or not _STILL_S < age_s < float("inf"):
            self._still.discard(stage.name)
        elif stage.name not in self._still:
            self._still.add(stage.name)
            text = f"the {stage.name} stage has shown no sign of life for {age_s:.0f} s"
            log.error(text)
            self._progress.message(text)

    def _outcome(self) -> Outcome:
        if self._error is not None:
            state = RunState.FAILED
        elif self._aborting:
            state = RunState.ABORTED
        elif self._control.command in (Command.STOP, Command.LEAVE_BACKLOG):
            state = RunState.STOPPED
        else:
            state = RunState.DONE
        return Outcome(
            state=state,
            error=self._error,
            acquired=self._telemetry.total("frames_acquired"),
            restarts={s.name: s.restarts for s in self._stages},
        )
