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
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.control import ACQUIRE, RECONSTRUCT, RECORD, Command, Control, StageState
from pipeline.control import RunState as LiveState
from pipeline.errors import LivephaseError
from pipeline.experiment import Experiment
from pipeline.frames import Measurement, SlotKey
from pipeline.lifecycle.arbiter import Arbiter
from pipeline.lifecycle.care import StageLook, Watch
from pipeline.lifecycle.light_keeper import LightKeeper
from pipeline.lifecycle.light_off import turn_light_off
from pipeline.lifecycle.lost_light import was_cut_off
from pipeline.lifecycle.orders import Orders
from pipeline.lifecycle.signals import StopSignals
from pipeline.lifecycle.silence import longest_silence_s
from pipeline.lifecycle.stage_process import StageProcess
from pipeline.mailbox import Mailbox
from pipeline.ring import Ring
from pipeline.stages.context import StageContext
from pipeline.stages.light_mark import LightMark
from pipeline.store.run_folder import RunFolder, RunState
from pipeline.telemetry import Telemetry

log = logging.getLogger("livephase")

_LOOK_S = 0.02
# What only metrics and alarms show: who is alive, how much disk is left.
_SLOW_LOOK_S = 1.0
# A stage that dies this often without getting anything done between two deaths will not get better by itself.
_MOST_FRUITLESS_RESTARTS = 5
# Loading torch, weights and transfer functions on a slow, cold disk.
_READY_TIMEOUT_S = 180.0
# An abort gives the camera this long to end its burst; the light is off by then.
_ABORT_PATIENCE_S = 10.0
_END_S = 2.0
# A keeper that has not made the microscope safe by then hangs in its driver.
_KEEPER_S = 15.0


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
    """How a session ended.

    `published` counts the slots that acquisition handed over; `cut_off` says whether it died within another one.
    `light_on_s` is how long the specimen was lit, in seconds.
    """

    state: RunState
    error: LivephaseError | None = None
    acquired: int = 0
    published: int = 0
    cut_off: bool = False
    light_on_s: float = 0.0
    restarts: dict[str, int] = field(default_factory=dict)


class Supervisor:
    """One session of a run, from the first process to the last.

    Parameters
    ----------
    todo
        The slots to take, in order; empty: only what is recorded is reconstructed.
    lost_before
        Frames that earlier sessions' cameras delivered and that are taken again.
    light_spent_s
        The light that each position has had in earlier sessions, in seconds of full brightness.
    first_residuals
        Of earlier sessions' phase images, the oldest first: what a drift is held against.
    """

    def __init__(
        self,
        folder: RunFolder,
        experiment: Experiment,
        measurement: Measurement | None,
        ring_slots: int,
        todo: tuple[SlotKey, ...],
        lost_before: int,
        light_spent_s: tuple[float, ...],
        names: SharedNames,
        signals: StopSignals,
        progress: Progress,
        first_residuals: tuple[float, ...] = (),
    ) -> None:
        self._folder = folder
        self._experiment = experiment
        self._measurement = measurement
        self._ring_slots = ring_slots
        self._todo = todo
        self._lost_before = lost_before
        self._light_spent_s = light_spent_s
        self._names = names
        self._signals = signals
        self._progress = progress
        self._first_residuals = first_residuals
        self._error: LivephaseError | None = None
        self._ran = False  # whether every stage was ready once
        self._stages: list[StageProcess] = []
        self._light_mark = LightMark(folder.path)
        self._keeper: LightKeeper | None = None
        self._arbiter: Arbiter | None = None
        self._told_to_end: float | None = None
        # What was done at each stage's last death, and how many deaths there were since without any more.
        self._deaths: dict[str, tuple[float, int]] = {}
        self._care: Watch | None = None
        self._longest_silence_s = longest_silence_s(experiment)
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
            self._orders = Orders(self._control, self._signals, self._progress.message)
            self._counters = self._telemetry.writer("supervisor")
            self._counters.set("frames_planned", plan.frames)
            self._counters.add("frames_reacquired", self._lost_before)
            self._care = Watch(
                self._folder.path,
                self._experiment,
                self._telemetry,
                self._orders,
                self._progress.message,
                len(self._todo),
                self._ring_slots,
                self._first_residuals,
            )
            stack.callback(self._care.close)
            on_telemetry(self._telemetry)
            self._set_state(LiveState.ARMING)
            if not self._todo:
                # Only the backlog is left: the microscope stays as it is.
                self._control.stage(ACQUIRE).say(StageState.FINISHED)
            try:
                if self._todo:
                    self._keeper = LightKeeper(self._folder.path, self._experiment)
                    self._arbiter = Arbiter(
                        self._folder,
                        self._experiment,
                        self._control,
                        self._progress.message,
                        self._counters,
                    )
                for entry in self._entries():
                    self._stages.append(StageProcess(*entry))
                if self._arbiter is not None:
                    self._arbiter.start(self._stages[0].context)
                self._until_ready()
                self._supervise()
            except BaseException:
                self._end_in_the_dark()
                raise
            finally:
                for stage in self._stages:
                    stage.end(timeout_s=_END_S)
                self._end_control()
                # Most often it is: each way in which acquisition can end has seen to it.
                self._make_dark()
                if self._keeper is not None:
                    self._keeper.end()
            outcome = self._outcome()
            self._set_state(LiveState[outcome.state.name])
            return outcome

    def _end_control(self) -> None:
        """Nothing more is steered."""
        if self._arbiter is not None:
            self._arbiter.end()
            self._arbiter = None

    def _end_in_the_dark(self) -> None:
        """Something here failed: no stage is left alone with the light on."""
        log.exception("the supervisor failed")
        self._control.order(Command.ABORT)
        for stage in self._stages:
            stage.end(timeout_s=_END_S)

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
                light_spent_s=self._light_spent_s,
            )

        entries = [("record", context("record", RECORD))]
        if self._todo:
            entries.insert(0, ("acquire", context("acquire", ACQUIRE)))
        if self._measurement is not None:
            for worker in range(self._experiment.reconstruction.workers):
                entries.append(
                    ("reconstruct", context(f"reconstruct-{worker}", RECONSTRUCT + worker))
                )
        return entries

    def _until_ready(self) -> None:
        """Wait for every stage: weights that don't fit are found before the light goes on."""
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while self._error is None and self._orders.command == Command.WAIT:
            states = [self._control.stage(s.context.index).state for s in self._stages]
            guarded = self._keeper is None or self._keeper.ready
            guarded = guarded and (self._arbiter is None or self._arbiter.ready)
            if guarded and all(s >= StageState.READY for s in states):
                self._ran = True
                self._orders.begin()
                return
            self._look_after_stages()
            if time.monotonic() > deadline:
                self._error = LivephaseError(
                    f"the stages were not ready within {_READY_TIMEOUT_S:.0f} s",
                    f"{self._folder.log} has the details",
                )
                for stage in self._stages:
                    if self._control.stage(stage.context.index).state < StageState.READY:
                        stage.kill()
        if self._error is not None:
            self._orders.give(Command.ABORT)

    def _supervise(self) -> None:
        while not all(self._is_over(stage) for stage in self._stages):
            self._look_after_stages()
            self._end_a_hanging_camera()
            self._follow_state()
        for stage in self._stages:
            self._show(stage)

    def _look_after_stages(self) -> None:
        acquiring = self._acquiring()
        self._orders.look(acquiring)
        if self._arbiter is not None:
            self._arbiter.look(acquiring)
            if not acquiring:
                self._end_control()
        for stage in self._stages:
            self._show(stage)
            if not stage.alive and stage.exit_code != 0 and not self._is_gone(stage):
                self._bury(stage)
        self._tick(self._control.state.name.lower())

    def _end_a_hanging_camera(self) -> None:
        """An acquire stage that hangs is killed, where it was told to end or keeps the light on: that goes off then."""
        acquire = next((s for s in self._stages if s.context.index == ACQUIRE and s.alive), None)
        if acquire is None or acquire.killed:
            return
        silent_s = self._control.report(ACQUIRE).heartbeat_age_s
        lit = self._telemetry.by_stage("light_on").get("acquire")
        if lit and self._longest_silence_s < silent_s < float("inf"):
            self._progress.message(
                f"the driver hangs for {silent_s:.0f} s with the light on: it is killed"
            )
            acquire.kill()
            return
        if not self._orders.stopping:
            self._told_to_end = None
            return
        now = time.monotonic()
        self._told_to_end = self._told_to_end or now
        aborting = self._orders.command == Command.ABORT
        if self._orders.at_once or (aborting and now - self._told_to_end > _ABORT_PATIENCE_S):
            self._progress.message("the acquire stage does not end: it is killed")
            acquire.kill()

    def _is_over(self, stage: StageProcess) -> bool:
        return not stage.alive and (stage.exit_code == 0 or self._is_gone(stage))

    def _is_gone(self, stage: StageProcess) -> bool:
        return self._control.stage(stage.context.index).state == StageState.GONE

    def _bury(self, stage: StageProcess) -> None:
        """Decide what a stage's death means."""
        code = stage.exit_code or 0
        how = f"was killed by signal {-code}" if code < 0 else "failed"
        log.error("stage died", extra={"stage": stage.name, "how": how})
        if stage.context.index == ACQUIRE:
            dark = self._make_dark()
            light = "the light was turned off" if dark else "the light may still be on"
            self._give_up(
                stage,
                f"the acquire stage {how}: {light} and complete frames were kept",
                "`--resume` takes the interrupted timepoint again and goes on",
            )
            return
        done = self._work_of(stage)
        before, fruitless = self._deaths.get(stage.name, (None, 0))
        fruitless = fruitless + 1 if before == done else 0
        self._deaths[stage.name] = done, fruitless
        # A reason of its own, or anything at all before the run began, will be the same next time.
        hopeless = stage.failure is not None and (code > 1 or not self._ran)
        unwanted = stage.context.index != RECORD and self._orders.command in (
            Command.LEAVE_BACKLOG,
            Command.ABORT,
        )
        if hopeless or unwanted or fruitless >= _MOST_FRUITLESS_RESTARTS:
            self._give_up(
                stage,
                f"the {stage.name} stage {how} {fruitless + 1} times without getting anything done",
                f"{self._folder.log} has the details; `--resume` goes on",
            )
            return
        self._progress.message(
            f"the {stage.name} stage {how}: it is started again, no frame is lost"
        )
        self._telemetry.writer(stage.name).add("stage_restarts", 1)
        self._control.stage(stage.context.index).say(StageState.STARTING)
        stage.restart()

    def _work_of(self, stage: StageProcess) -> float:
        """How many slots a stage has finished, over all its lives."""
        counter = "slots_committed" if stage.context.index == RECORD else "slots_reconstructed"
        return self._telemetry.by_stage(counter).get(stage.name, 0.0)

    def _make_dark(self) -> bool:
        """No acquire process lives: see that it left no light on. Whether none is."""
        deadline = time.monotonic() + _KEEPER_S
        # The keeper has seen it by itself, and is at it.
        while self._light_mark.is_set() and self._keeper is not None and self._keeper.alive:
            if time.monotonic() > deadline:
                self._keeper.end(patience_s=0.0)
                break
            self._control.beat()
            time.sleep(_LOOK_S)
        if not self._light_mark.is_set() or turn_light_off(self._folder.path, self._experiment):
            return True
        self._progress.message("THE LIGHT MAY STILL BE ON: switch it off by hand")
        return False

    def _give_up(self, stage: StageProcess, cause: str, fix: str) -> None:
        """The stage stays dead. Its own reason is told; `cause` and `fix` where it could give none."""
        error = stage.failure or LivephaseError(cause, fix)
        if self._error is None:
            self._error = error
            self._progress.message(str(error))
        self._control.stage(stage.context.index).say(StageState.GONE)
        if stage.context.index == RECORD:
            # Without a recorder nothing more can be kept: no cell is to be lit for nothing.
            self._orders.give(Command.ABORT)

    def _acquiring(self) -> bool:
        return self._control.stage(ACQUIRE).state not in (StageState.FINISHED, StageState.GONE)

    def _follow_state(self) -> None:
        acquisition = self._control.stage(ACQUIRE).state
        if acquisition in (StageState.FINISHED, StageState.GONE):
            self._set_state(LiveState.DRAINING)
        elif acquisition == StageState.PAUSED:
            self._set_state(LiveState.PAUSED)
        elif self._orders.command == Command.RUN:
            self._set_state(LiveState.RUNNING)

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
            if self._keeper is not None and self._acquiring():
                self._keeper.look_after()
            for stage in self._stages:
                self._telemetry.writer(stage.name).set("stage_up", stage.alive)
            if self._care is not None:
                looks = [self._look_of(stage) for stage in self._stages]
                self._care.look(self._control.state, looks, acquiring=self._acquiring())
        time.sleep(_LOOK_S)

    def _look_of(self, stage: StageProcess) -> StageLook:
        report = self._control.report(stage.context.index)
        gone = report.state == StageState.GONE
        return StageLook(stage.name, stage.alive, report.heartbeat_age_s, gone)

    def _outcome(self) -> Outcome:
        if self._error is not None:
            state = RunState.FAILED
        elif self._orders.aborted_by_user:
            state = RunState.ABORTED
        elif self._orders.stopping:
            state = RunState.STOPPED
        else:
            state = RunState.DONE
        return Outcome(
            state=state,
            error=self._error,
            acquired=self._telemetry.total("frames_acquired"),
            published=self._telemetry.total("slots_published"),
            cut_off=was_cut_off(self._telemetry),
            light_on_s=self._telemetry.value("light_seconds"),
            restarts={s.name: s.restarts for s in self._stages},
        )
