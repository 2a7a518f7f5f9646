"""Orders, states and heartbeats of a run, in a page of shared memory.

The supervisor's orders go to the stages, the stages' states come back, and other
terminals leave their requests. Every word has one process that writes it, so there is
no lock; the supervisor writes a stage's state only while that stage is dead.

Actions take two steps. Whoever asks (one process at a time: `pipeline.lifecycle.remote` holds a file lock) fills
the next row of a queue; the supervisor takes it, and tells the acquire stage the *target*: where focus, place
and interval are to be, in absolute figures, under a number that grows. Told twice or late, it is the same target, so
nothing is applied twice; the stage says which number it has taken up.
"""

from __future__ import annotations

import os
import time
from dataclasses import fields
from enum import IntEnum
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from pipeline import shared_memory
from pipeline.actions import KINDS, Action
from pipeline.errors import StoreError
from pipeline.fence import fence
from pipeline.shared_memory import Block

ACQUIRE: Final = 0
RECORD: Final = 1
RECONSTRUCT: Final = 2  # and up: one for each worker
MOST_WORKERS: Final = 64

_KIND: Final = "control"


class Command(IntEnum):
    """What the supervisor wants of the stages."""

    WAIT = 0  # until every stage is ready
    RUN = 1
    PAUSE = 2  # after the slot being exposed; light off, clock held
    STOP = 3  # after the slot being exposed; everything recorded is reconstructed
    LEAVE_BACKLOG = 4  # as STOP, but what is not reconstructed is left to a resume
    ABORT = 5


class RunState(IntEnum):
    """Where a run stands, for whoever watches it."""

    IDLE = 0
    ARMING = 1
    RUNNING = 2
    PAUSED = 3
    DRAINING = 4
    DONE = 5
    STOPPED = 6
    ABORTED = 7
    FAILED = 8


class StageState(IntEnum):
    """Where a stage stands, in the order of its life."""

    STARTING = 0
    READY = 1
    RUNNING = 2
    PAUSED = 3
    FINISHED = 4
    GONE = 5  # dead, and not to be started again


class Request(IntEnum):
    """What another terminal, the page or a notebook asks of the supervisor."""

    PAUSE = 0
    RESUME = 1
    STOP = 2
    ABORT = 3
    LEAVE_BACKLOG = 4  # stop, and leave what is not reconstructed to a resume


class StageReport(NamedTuple):
    """What is known of a stage."""

    state: StageState
    pid: int  # 0 before its first heartbeat
    heartbeat_age_s: float  # infinite before its first heartbeat


class Target(NamedTuple):
    """Where the acquire stage is to take the microscope. `number` 0: nobody has asked for anything."""

    number: int
    interval_s: float
    focus_um: float
    stage_um: tuple[float, float]


class TakenUp(NamedTuple):
    """What the acquire stage has made of a target: `refused` by the microscope, or in force from a timepoint on."""

    number: int
    timepoint: int
    refused: bool


_STAGES: Final = RECONSTRUCT + MOST_WORKERS
# Words of eight bytes, grouped by who writes them.
_SUPERVISOR_AT, _HANDLED_AT, _REQUESTED_AT, _STAGES_AT = 64, 256, 512, 1024
_TARGET_AT, _ACQUIRE_AT, _QUEUE_AT, _SIZE = 3200, 3456, 4096, 8192
# Actions that may wait for the supervisor, which takes them within a fraction of a second.
_QUEUE_ROWS: Final = 64
# Words of the target: a stamp that is odd while it is written, its number, the figures, and what was decided.
_STAMP, _NUMBER, _INTERVAL, _FOCUS, _STAGE_X, _STAGE_Y, _RESULTS, _PROBES, _TAKEN = range(9)
# Words of the acquire stage.
_TAKEN_UP, _FROM_TIMEPOINT, _REFUSED, _PROBE = range(4)
# A torn read is looked at again: the writer needs microseconds.
_ATTEMPTS: Final = 100
_COMMAND, _RUN_STATE, _PID, _HEARTBEAT = range(4)
_STATE = 0  # a stage has a pid and a heartbeat too, in the same columns as the supervisor


class Control:
    """The block as a whole: for the supervisor, and for those who ask things of it."""

    def __init__(self, block: Block) -> None:
        self.name = block.name
        self._block = block
        self._own: NDArray[np.int64] = block.view(_SUPERVISOR_AT, (4,), np.int64)
        self._handled: NDArray[np.int64] = block.view(_HANDLED_AT, (len(Request),), np.int64)
        self._requested: NDArray[np.int64] = block.view(_REQUESTED_AT, (len(Request),), np.int64)
        self._stages: NDArray[np.int64] = block.view(_STAGES_AT, (_STAGES, 4), np.int64)
        self._target: NDArray[np.int64] = block.view(_TARGET_AT, (9,), np.int64)
        self._acquire: NDArray[np.int64] = block.view(_ACQUIRE_AT, (4,), np.int64)
        self._asked: NDArray[np.int64] = block.view(_QUEUE_AT, (1,), np.int64)
        self._queue: NDArray[np.int64] = block.view(_QUEUE_AT + 64, (_QUEUE_ROWS, 4), np.int64)

    @classmethod
    def create(cls, name: str) -> Self:
        """A new block: command WAIT, state IDLE, every stage STARTING."""
        block = shared_memory.create(name, _SIZE)
        block.sign(_KIND)
        return cls(block)

    @classmethod
    def attach(cls, name: str) -> Self:
        """The block that a supervisor created.

        Raises
        ------
        StoreError
            If there is none.
        """
        return cls(shared_memory.attach(name, _KIND))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the memory go."""
        for views in (
            *("_own", "_handled", "_requested", "_stages"),
            *("_target", "_acquire", "_asked", "_queue"),
        ):
            self.__dict__.pop(views, None)
        self._block.close()

    def unlink(self) -> None:
        """Remove the name; whoever has the block attached keeps it."""
        shared_memory.unlink(self.name)

    @property
    def command(self) -> Command:
        """The order that holds."""
        return Command(int(self._own[_COMMAND]))

    def order(self, command: Command) -> None:
        """Tell every stage. The supervisor's alone."""
        self._own[_COMMAND] = command

    @property
    def state(self) -> RunState:
        """Where the run stands."""
        return RunState(int(self._own[_RUN_STATE]))

    def set_state(self, state: RunState) -> None:
        """Say where the run stands. The supervisor's alone."""
        self._own[_RUN_STATE] = state

    def beat(self) -> None:
        """Show that the supervisor lives. The supervisor's alone."""
        self._own[_PID] = os.getpid()
        self._own[_HEARTBEAT] = time.monotonic_ns()

    @property
    def supervisor_age_s(self) -> float:
        """Seconds since the supervisor's last heartbeat; infinite before its first."""
        return _age_s(int(self._own[_HEARTBEAT]))

    def request(self, request: Request) -> None:
        """Ask something of the supervisor; it acts within a fraction of a second.

        From any number of processes: nothing asked is lost, what is asked twice is asked once.
        """
        # A word for each kind of request, and another for its handling: the supervisor need not
        # clear what it read, so it can't clear what came just after.
        self._requested[request] = max(time.monotonic_ns(), 1)

    def is_handled(self, request: Request) -> bool:
        """Whether the supervisor has taken every request of this kind."""
        return int(self._handled[request]) == int(self._requested[request])

    def take_request(self) -> Request | None:
        """The oldest request that is waiting, if any. The supervisor's alone."""
        asked = [int(word) for word in self._requested]
        waiting = [r for r in Request if asked[r] != int(self._handled[r])]
        if not waiting:
            return None
        oldest = min(waiting, key=lambda r: asked[r])
        self._handled[oldest] = asked[oldest]
        return oldest

    def ask(self, action: Action) -> int:
        """Ask for an action; the number under which `is_taken` knows it. One process at a time.

        Raises
        ------
        StoreError
            If so many wait already that the supervisor can't be well.
        """
        asked = int(self._asked[0])
        if asked - int(self._target[_TAKEN]) >= _QUEUE_ROWS:
            raise StoreError(
                f"{_QUEUE_ROWS} actions wait already", "the run's log.jsonl says what it is doing"
            )
        row, numbers = self._queue[asked % _QUEUE_ROWS], list(vars(action).values())
        row[0] = KINDS.index(type(action))
        row[1:].view(np.float64)[: len(numbers)] = numbers
        # A process that is killed before this has asked for nothing.
        fence()
        self._asked[0] = asked + 1
        return asked + 1

    def is_taken(self, number: int) -> bool:
        """Whether the supervisor has taken the action that `ask` gave this number."""
        return int(self._target[_TAKEN]) >= number

    def take_action(self) -> Action | None:
        """The oldest action that waits, if any. The supervisor's alone."""
        taken = int(self._target[_TAKEN])
        if taken == int(self._asked[0]):
            return None
        fence()
        row = self._queue[taken % _QUEUE_ROWS].copy()
        self._target[_TAKEN] = taken + 1
        kind = KINDS[int(row[0])]
        return kind(*row[1:].view(np.float64)[: len(fields(kind))].tolist())

    @property
    def target(self) -> Target:
        """Where the microscope is to be taken."""
        for _ in range(_ATTEMPTS):
            stamp = int(self._target[_STAMP])
            fence()
            words = self._target.copy()
            fence()
            if stamp % 2 == 0 and int(self._target[_STAMP]) == stamp:
                interval_s, focus_um, x, y = words.view(np.float64)[
                    _INTERVAL : _STAGE_Y + 1
                ].tolist()
                return Target(int(words[_NUMBER]), interval_s, focus_um, (x, y))
            time.sleep(0)
        return Target(0, 0.0, 0.0, (0.0, 0.0))  # the supervisor died in there: nothing is asked

    def aim(self, target: Target) -> None:
        """Tell the acquire stage a target. The supervisor's alone."""
        self._target[_STAMP] |= 1
        fence()
        self._target[_NUMBER] = target.number
        self._target.view(np.float64)[_INTERVAL : _STAGE_Y + 1] = (
            target.interval_s,
            target.focus_um,
            *target.stage_um,
        )
        fence()
        self._target[_STAMP] += 1

    def say_decided(self, results: int, probes: int) -> None:
        """How many timepoints' results and probes all controllers are through with. The supervisor's alone."""
        self._target[_RESULTS], self._target[_PROBES] = results, probes

    @property
    def taken_up(self) -> TakenUp:
        """The newest target that the acquire stage has dealt with; number 0: none."""
        # The number is written last.
        number = int(self._acquire[_TAKEN_UP])
        fence()
        return TakenUp(number, int(self._acquire[_FROM_TIMEPOINT]), bool(self._acquire[_REFUSED]))

    @property
    def newest_probe(self) -> int | None:
        """The timepoint of the newest probe of the focus that waits to be looked at."""
        return int(self._acquire[_PROBE]) - 1 if self._acquire[_PROBE] else None

    def stage(self, index: int) -> StageControl:
        """One stage's part: 0 is acquire, 1 is record, 2 and up are the reconstruct workers."""
        return StageControl(self, index)

    def report(self, index: int) -> StageReport:
        """What is known of a stage."""
        row = self._stages[index]
        return StageReport(
            StageState(int(row[_STATE])), int(row[_PID]), _age_s(int(row[_HEARTBEAT]))
        )


class StageControl:
    """The block as one stage sees it."""

    def __init__(self, control: Control, index: int) -> None:
        if not 0 <= index < _STAGES:
            raise ValueError(f"there is no stage {index}: 0 to {_STAGES - 1}")
        self._control = control
        self._index = index

    @property
    def command(self) -> Command:
        """The supervisor's order."""
        return self._control.command

    @property
    def state(self) -> StageState:
        """This stage's own state."""
        return self._state_of(self._index)

    @property
    def acquisition(self) -> StageState:
        """State of the acquire stage: whether more slots will come."""
        return self._state_of(ACQUIRE)

    @property
    def recording(self) -> StageState:
        """State of the record stage: whether more will be recorded."""
        return self._state_of(RECORD)

    @property
    def target(self) -> Target:
        """Where the microscope is to be taken."""
        return self._control.target

    @property
    def target_number(self) -> int:
        """Of the newest target: quick to look at."""
        return int(self._control._target[_NUMBER])

    def say_taken_up(self, taken: TakenUp) -> None:
        """Tell what became of a target. The acquire stage's alone."""
        words = self._control._acquire
        words[_FROM_TIMEPOINT], words[_REFUSED] = taken.timepoint, taken.refused
        fence()
        words[_TAKEN_UP] = taken.number

    def say_probed(self, timepoint: int) -> None:
        """Tell that a probe lies ready. The acquire stage's alone."""
        self._control._acquire[_PROBE] = timepoint + 1

    def decided(self) -> tuple[int, int]:
        """How many timepoints' results and probes all controllers are through with."""
        words = self._control._target
        return int(words[_RESULTS]), int(words[_PROBES])

    def say(self, state: StageState) -> None:
        """Tell this stage's state. The stage's alone; the supervisor's while the stage is dead."""
        self._control._stages[self._index, _STATE] = state

    def beat(self) -> None:
        """Show that this stage lives, and under which process id. The stage's alone."""
        row = self._control._stages[self._index]
        row[_PID] = os.getpid()
        row[_HEARTBEAT] = time.monotonic_ns()

    def _state_of(self, index: int) -> StageState:
        return StageState(int(self._control._stages[index, _STATE]))


def _age_s(heartbeat_ns: int) -> float:
    # time.monotonic counts from the machine's start, in every process alike.
    return (time.monotonic_ns() - heartbeat_ns) / 1e9 if heartbeat_ns else float("inf")
