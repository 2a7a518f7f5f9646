"""Another terminal's hold on a run: what it is doing, and what is asked of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pipeline.actions import (
    Action,
    Move,
    Pause,
    Refocus,
    SetInterval,
    Snapshot,
    Stop,
    name_of,
)
from pipeline.control import Command, Control, Request
from pipeline.control import RunState as LiveState
from pipeline.errors import LivephaseError, RunFolderError, StoreError
from pipeline.lifecycle.bounds import bounded
from pipeline.lifecycle.care import read_care
from pipeline.lifecycle.light_off import make_dark_before_all
from pipeline.lifecycle.sessions import read_sessions, reclaim
from pipeline.mailbox import Mailbox, Result
from pipeline.ring import Ring
from pipeline.stages.snapshot import save_snapshot
from pipeline.stages.stage_lock import wait_for_stages
from pipeline.store.locking import lock_within
from pipeline.store.run_folder import RunFolder, RunState
from pipeline.telemetry import Telemetry

_CAN_BE_CLOSED = (RunState.FAILED, RunState.INTERRUPTED, RunState.STOPPED)
# The supervisor looks many times a second; a machine that swaps may take a moment.
_ANSWER_S = 5.0
_ANSWERS = {
    Request.PAUSE: "pausing after this timepoint: the light goes off, the clock is held",
    Request.RESUME: "going on",
    Request.STOP: "stopping after this timepoint; what is recorded is still reconstructed",
    Request.ABORT: "aborting",
    Request.LEAVE_BACKLOG: "stopping; what is not reconstructed yet is left to a resume",
}


class LiveRun:
    """The shared memory of a run's session that goes on, to look at.

    Raises
    ------
    StoreError
        There is none: the run is just starting or ending.
    """

    def __init__(self, folder: RunFolder) -> None:
        names = _shared_memory(folder)
        self.name = names["control"]
        with ExitStack() as stack:
            self.control = stack.enter_context(Control.attach(names["control"]))
            self.telemetry = stack.enter_context(Telemetry.attach(names["telemetry"]))
            self.mailbox = stack.enter_context(Mailbox.attach(names["mailbox"]))
            self.ring = stack.enter_context(Ring.attach(names["ring"]))
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Let the memory go."""
        self._stack.close()


def run_status(run: Path) -> dict[str, Any]:
    """A run's state, and its counters while it goes on."""
    folder = RunFolder(run)
    state = folder.state()
    status: dict[str, Any] = {"run": str(run), "state": state.value}
    if state is not RunState.RUNNING:
        return status
    try:
        names = _shared_memory(folder)
        with (
            Control.attach(names["control"]) as control,
            Telemetry.attach(names["telemetry"]) as telemetry,
        ):
            status["state"] = control.state.name.lower()
            for name in ("frames_acquired", "frames_written", "slots_reconstructed"):
                status[name] = telemetry.total(name)
            status["frames_missing"] = telemetry.missing_frames()
            status["ring_fill"] = telemetry.value("ring_fill")
            status["reconstruction_queue"] = telemetry.value("reconstruction_queue")
            care = read_care(run)
            status["alarms"], status["suspended"] = care.active, care.suspended
    except StoreError:
        pass  # between the lock and the first shared memory, or just over
    return status


def newest_phase(run: Path | str, after: int = 0) -> Result | None:
    """The newest phase image of a run that is going on, as it is seen live; None where there is none newer.

    For previews and notebooks: results in between may be passed over, all of them are in the store.

    Parameters
    ----------
    after
        `Result.time_ns` of the one that is there already.
    """
    folder = RunFolder(Path(run))
    if folder.state() is not RunState.RUNNING:
        return None
    try:
        with Mailbox.attach(_shared_memory(folder)["mailbox"]) as mailbox:
            return mailbox.newest(after)
    except StoreError:
        return None  # just starting or ending


def _shared_memory(folder: RunFolder) -> dict[str, str]:
    """Names of the shared memory of the session that is going on.

    Raises
    ------
    StoreError
        There is none: the run is just starting, or is the reconstruction of a recording.
    """
    sessions = read_sessions(folder)
    if not sessions:
        raise StoreError(
            f"no stages are at work on {folder.path}: it is just starting, or `livephase reconstruct` is at work",
            "try again in a moment",
        )
    return sessions[-1].shared_memory


def ask(run: Path, request: str) -> str:
    """Ask a run that is going on to pause, resume, stop, leave its backlog or abort; what it will do.

    Raises
    ------
    RunFolderError
        If the run is not going on, or does not answer.
    """
    folder = RunFolder(run)
    state = folder.state()
    wanted = Request[request.upper()]
    if wanted is Request.ABORT and state in _CAN_BE_CLOSED:
        return _close(folder)
    if state is not RunState.RUNNING:
        raise RunFolderError(
            f"the run in {run} is not going on: it is {state.value}",
            "`livephase run … --resume` goes on with it",
        )
    try:
        with Control.attach(_shared_memory(folder)["control"]) as control:
            _refuse_in_vain(control, wanted)
            control.request(wanted)
            deadline = time.monotonic() + _ANSWER_S
            while not control.is_handled(wanted):
                if time.monotonic() > deadline:
                    raise RunFolderError(
                        f"the run in {run} does not answer", f"{folder.log} says what it is doing"
                    )
                time.sleep(0.02)
    except StoreError as error:
        raise RunFolderError(error.cause, error.fix) from error
    return _ANSWERS[wanted]


def act(run: Path | str, action: Action) -> str:
    """Ask a run that is going on for an action between two timepoints; what it will do.

    What a person asks for and can't be done is refused, not bent: controllers' wishes are clamped to the same limits.

    Raises
    ------
    RunFolderError
        If the run is not going on, does not answer, or can't do that: with the fix.
    """
    folder = RunFolder(Path(run))
    if isinstance(action, Pause | Stop):
        return ask(folder.path, name_of(action))
    if isinstance(action, Snapshot):
        newest = newest_phase(folder.path)
        if newest is None:
            raise RunFolderError(
                f"there is no newest phase image of the run in {run}",
                "snapshots are of runs that go on; `livephase query` reads any other image",
            )
        path = save_snapshot(folder.path, folder.experiment(), newest.key, "phase", newest.image)
        return f"kept: {path}"
    state = folder.state()
    if state is not RunState.RUNNING:
        raise RunFolderError(
            f"the run in {run} is not going on: it is {state.value}",
            "`livephase run … --resume` goes on with it",
        )
    experiment = folder.experiment()
    try:
        with Control.attach(_shared_memory(folder)["control"]) as control, _alone(folder):
            if control.state is LiveState.DRAINING:
                raise RunFolderError("all frames are taken: there is nothing to steer", "")
            wanted = bounded(action, control.target, experiment, None)
            if wanted.target is None or wanted.why:
                raise RunFolderError(
                    f"{name_of(action)} {_asked(action)}: {wanted.why}",
                    "ask for something else, or set `control.limits` in the experiment of the next run",
                )
            number = control.ask(action)
            deadline = time.monotonic() + _ANSWER_S
            while not control.is_taken(number):
                if time.monotonic() > deadline:
                    raise RunFolderError(
                        f"the run in {run} does not answer", f"{folder.log} says what it is doing"
                    )
                time.sleep(0.02)
    except StoreError as error:
        raise RunFolderError(error.cause, error.fix) from error
    target = wanted.target
    if isinstance(action, Refocus):
        return f"refocusing by {_asked(action)} before the next timepoint: {target.focus_um:+g} µm from the plan"
    if isinstance(action, Move):
        x, y = target.stage_um
        return f"moving by {_asked(action)} before the next timepoint: ({x:+g}, {y:+g}) µm from the plan"
    return f"the next timepoint comes {target.interval_s:g} s after the one before, and so on"


def _asked(action: Action) -> str:
    """In numbers."""
    if isinstance(action, Refocus):
        return f"{action.dz_um:+g} µm"
    if isinstance(action, Move):
        return f"({action.dx_um:+g}, {action.dy_um:+g}) µm"
    return f"{action.interval_s:g} s" if isinstance(action, SetInterval) else ""


@contextmanager
def _alone(folder: RunFolder) -> Iterator[None]:
    """The queue of actions has one writer at a time: whoever holds this lock, which the system frees if it dies."""
    path = folder.path / "locks" / "asking"
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as file:
        if not lock_within(file.fileno(), _ANSWER_S):
            raise RunFolderError("somebody else is asking the run for something", "try again")
        yield


def _refuse_in_vain(control: Control, wanted: Request) -> None:
    """Refuse to pause what takes no frames, and to resume what is not paused."""
    if wanted is Request.PAUSE and control.state is LiveState.DRAINING:
        raise RunFolderError("all frames are taken: there is nothing to pause", "")
    if wanted is Request.RESUME and control.command not in (Command.PAUSE, Command.WAIT):
        raise RunFolderError("the run is not paused", "`livephase status` says what it is doing")


def _close(folder: RunFolder) -> str:
    """Close a run that nobody works on: what was never stored counts as missing from here on."""
    light = ""
    try:
        if make_dark_before_all(folder):
            light = "; the light that it had left on is off"
    except LivephaseError as error:
        # No reason to keep the run open; its mark stays, and the next start tries again.
        light = f"; THE LIGHT MAY STILL BE ON, switch it off by hand ({error.cause})"
    with folder.lock():
        wait_for_stages(folder.path)
        reclaim(folder)
        folder.update(RunState.ABORTED)
    return (
        "closed: frames that were never stored count as missing "
        f"(--resume --even-aborted opens it again){light}"
    )
