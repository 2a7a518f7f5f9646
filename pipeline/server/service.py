"""The service's own state: at most one run, or one errand at the microscope, at a time."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from pathlib import Path

from pipeline import __version__
from pipeline.actions import Action
from pipeline.errors import LivephaseError, RunFolderError
from pipeline.experiment import read_experiment
from pipeline.instrument import resolve_exposures
from pipeline.lifecycle.after_service import take_hung_run
from pipeline.lifecycle.care import read_care
from pipeline.lifecycle.light_off import turn_light_off
from pipeline.lifecycle.preflight import check_disk, estimate
from pipeline.lifecycle.remote import act, ask
from pipeline.methods.registry import available_methods
from pipeline.server.events import Events
from pipeline.server.home import Home
from pipeline.server.models import ActiveAlarm, RunStatus, ServiceFacts, Status
from pipeline.server.pictures import Pictures
from pipeline.server.run_child import RunChild
from pipeline.server.run_watch import RunWatch
from pipeline.server.snapshot import take_snapshot
from pipeline.stages.light_mark import LightMark
from pipeline.store.run_folder import RunFolder, RunState

log = logging.getLogger("livephase.service")

_LOOK_S = 0.2
# Torch and weights on a slow, cold disk.
_BEGIN_S = 180.0
# A whole calibration takes minutes; what takes longer than this hangs.
_ERRAND_S = 3600.0
# How often it is looked for runs that others begin, and among how many.
_FIND_S, _NEWEST = 2.0, 20
_RESUMABLE = (RunState.INTERRUPTED, RunState.STOPPED, RunState.FAILED)


class BusyError(RunFolderError):
    """The microscope has one master at a time."""


class Service:
    """Everything that the API does, for any thread.

    Parameters
    ----------
    home
        Made, and this process's alone.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self.events = Events()
        self.pictures = Pictures(home)
        self.clients = 0
        self._methods = ["none", *available_methods()]
        self.watch: RunWatch | None = None
        self._child: RunChild | None = None
        self._errand_child: RunChild | None = None
        self._doing: str | None = None
        self._stopping = False
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._find_again = 0.0
        self._looker = threading.Thread(target=self._keep_looking, name="look", daemon=True)

    def start(self) -> None:
        """Find out what an earlier service, or a power cut, has left; then keep looking."""
        for name in self.home.run_names():
            self._find(RunFolder(self.home.runs / name))
        self._looker.start()
        hung = take_hung_run(self.home.path)
        if hung is not None:
            # Beside the loop: a run takes as long to begin as torch does to load.
            threading.Thread(target=self._go_on_after_hang, args=(hung,), daemon=True).start()

    def close(self) -> None:
        """Stop looking. A run that goes on does so."""
        self._end.set()
        self._looker.join()
        if self.watch is not None:
            self.watch.close()

    # --- what the API does ---

    def status(self) -> Status:
        """Service and run."""
        state = "stopping" if self._stopping else "busy" if self.is_at_work else "idle"
        facts = ServiceFacts(
            version=__version__,
            uptime_s=time.monotonic() - self._began,
            state=state,
            doing=self._doing,
            methods=self._methods,
            clients=self.clients,
        )
        watch = self.watch
        return Status(service=facts, run=None if watch is None else self._run_status(watch))

    @property
    def is_at_work(self) -> bool:
        """Whether a run goes on or is about to, or something else is done at the microscope."""
        return self._doing is not None or self.run_goes_on

    @property
    def run_goes_on(self) -> bool:
        """Whether a run's processes are at work."""
        watch, child = self.watch, self._child
        return (child is not None and child.exit_code is None) or (
            watch is not None and watch.is_going_on
        )

    def begin(self, text: str, name: str | None) -> str:
        """Begin a run; returns its name once its folder is there.

        Raises
        ------
        LivephaseError
            With cause and fix, before anything moves.
        """
        with self._one_at_a_time("beginning a run"):
            experiment = resolve_exposures(read_experiment(text, self.home.experiments))
            name = self.home.new_name(name, experiment.name)
            check_disk(estimate(experiment, self.home.runs))
            path = self.home.keep_experiment(name, text)
            self._launch(name, path, from_start=True)
        return name

    def go_on(self, name: str) -> str:
        """Go on with a run that was stopped, failed or cut off. Raises `LivephaseError`."""
        with self._one_at_a_time("resuming a run"):
            folder = self.home.run(name)
            state = folder.state()
            if state not in _RESUMABLE:
                raise RunFolderError(f"the run '{name}' is {state.value}: it can't go on", "")
            self._launch(name, folder.experiment_file, from_start=False)
        return f"going on with {name}"

    def ask(self, request: str) -> str:
        """Ask the run to pause, resume, stop or abort; what it will do. Raises `RunFolderError`."""
        said = ask(self.run_folder().path, request)
        self.events.add("info", "service", said)
        return said

    def act(self, action: Action) -> str:
        """Have something done between two timepoints; what it will be. Raises `RunFolderError`."""
        said = act(self.run_folder().path, action)
        self.events.add("info", "service", said)
        return said

    def run_folder(self) -> RunFolder:
        """Of the run that goes on. Raises `RunFolderError` where none does."""
        watch = self.watch
        if watch is None or not watch.is_going_on:
            raise RunFolderError("no run goes on", "start one")
        return watch.folder

    def snapshot(self, text: str | None) -> list[Path]:
        """Files of what is to be seen now, or of a look through the microscope. Raises `LivephaseError`."""
        watch = self.watch
        if watch is not None and watch.is_going_on:
            files = take_snapshot(watch)
        elif text is None:
            raise RunFolderError(
                "no run goes on", "give an experiment: its first timepoint is taken, without a run"
            )
        else:
            files = self._snap(text)
        self.events.add("info", "service", f"snapshot: {files[0].name}")
        return files

    def calibrate(self, text: str, steps: list[str]) -> str:
        """Calibrate; what was found. Raises `LivephaseError`."""
        experiment = self._scratch("calibrate", text)
        return self._errand("calibrating", ["calibrate", str(experiment), *steps, "--yes"])

    def devices(self) -> str:
        """JSON of `livephase devices`: what Micro-Manager can reach from here. Raises `LivephaseError`."""
        return self._errand("looking for devices", ["devices", "--json"])

    # --- the end ---

    def stop_run(self) -> bool:
        """The service ends: the run finishes its timepoint and drains. Whether it was told so.

        False where it is only just beginning: it is to be told a little later.
        """
        self._stopping = True
        errand = self._errand_child
        if errand is not None:
            errand.end()
        if not self.is_at_work:
            return True
        try:
            self.ask("stop")
        except LivephaseError:
            return False
        return True

    def leave_backlog(self) -> None:
        """The run ends without its backlog: `--resume` reconstructs it. As a second Ctrl+C."""
        if self.run_goes_on:
            with suppress(LivephaseError):
                self.ask("leave_backlog")

    # --- within ---

    def _one_at_a_time(self, what: str) -> _Turn:
        return _Turn(self, what)

    def _find(self, folder: RunFolder) -> None:
        """Take up a run that goes on; make safe what one that was cut off has left."""
        try:
            state = folder.state()
            if state is RunState.INTERRUPTED and LightMark(folder.path).is_set():
                # In a process of its own: what a microscope's devices do to it is not done to the service.
                dark = turn_light_off(folder.path, folder.experiment())
                now = "it is off now" if dark else "IT MAY STILL BE ON, switch it off by hand"
                text = f"{folder.path.name} was cut off with the light on: {now}"
                self.events.add("warning" if dark else "error", "service", text)
            if state in (RunState.RUNNING, RunState.INTERRUPTED) and self.watch is None:
                self.watch = RunWatch(folder, self.events, from_start=False)
                self._tell_found(folder.path.name, state)
        except LivephaseError as error:
            self.events.add("error", "service", f"{folder.path.name}: {error}")

    def _tell_found(self, name: str, state: RunState) -> None:
        if state is RunState.RUNNING:
            self.events.add("info", "service", f"{name} goes on")
        else:
            self.events.add("warning", "service", f"{name} was cut off: it can be resumed")

    def _go_on_after_hang(self, name: str) -> None:
        """A run that hung, and was ended by the service manager together with the service before this one."""
        try:
            self.go_on(name)
        except LivephaseError as error:
            self.events.add("error", "service", f"{name} hung, and can't go on by itself: {error}")

    def _launch(self, name: str, experiment: Path, *, from_start: bool) -> None:
        folder = RunFolder(self.home.runs / name)
        arguments = ["run", str(experiment), "--out", str(folder.path), "--resume", "--json"]
        child = RunChild(arguments, self.home.console)
        deadline = time.monotonic() + _BEGIN_S
        while not (folder.is_run() and folder.in_use()):
            if child.exit_code is not None:
                if child.exit_code == 0:
                    break  # so short that it is over
                raise LivephaseError(*_cause_and_fix(child.reason()))
            if time.monotonic() > deadline:
                child.kill()
                raise LivephaseError(
                    f"the run did not begin within {_BEGIN_S:.0f} s",
                    f"{self.home.console} says what it did",
                )
            time.sleep(0.05)
        before = self.watch
        watch = RunWatch(folder, self.events, from_start)
        watch.look()
        self.watch, self._child = watch, child
        if before is not None:
            before.close()
        self.events.add("info", "service", f"{name} {'begins' if from_start else 'goes on'}")

    def _keep_looking(self) -> None:
        while not self._end.wait(_LOOK_S):
            try:
                self._look()
            except Exception:
                # Whatever it is (a full disk, too many open files), the next look may succeed.
                log.exception("a look at the run failed")

    def _look(self) -> None:
        self._find_from_elsewhere()
        watch, child = self.watch, self._child
        if watch is not None:
            watch.look()
        if child is not None and child.exit_code is not None:
            self._child = None
            if child.exit_code != 0 and watch is not None:
                watch.error = child.reason()
                self.events.add("error", "run", watch.error)

    def _find_from_elsewhere(self) -> None:
        """Take up a run that was begun by `livephase run` in this home, at a terminal."""
        now = time.monotonic()
        if now < self._find_again or self._doing is not None or self.run_goes_on:
            return
        self._find_again = now + _FIND_S
        for name in self.home.run_names()[:_NEWEST]:
            folder = RunFolder(self.home.runs / name)
            if folder.in_use() and folder.state() is RunState.RUNNING:
                before, self.watch = self.watch, RunWatch(folder, self.events, from_start=False)
                self._tell_found(name, RunState.RUNNING)
                if before is not None:
                    before.close()
                return

    def _run_status(self, watch: RunWatch) -> RunStatus:
        figures = watch.status()
        state = figures["state"]
        care = read_care(watch.folder.path)
        return RunStatus(
            **figures,
            alarms=[ActiveAlarm(**alarm) for alarm in care.active],
            suspended=care.suspended,
            can_resume=not self.run_goes_on and state in _RESUMABLE,
        )

    def _snap(self, text: str) -> list[Path]:
        folder = self.home.path / "snapshots"
        folder.mkdir(exist_ok=True)
        out = folder / f"{time.strftime('%Y-%m-%d-%H%M%S')}.png"
        experiment = self._scratch("snap", text)
        self._errand("taking a snapshot", ["snap", str(experiment), "--out", str(out)])
        return [out]

    def _scratch(self, name: str, text: str) -> Path:
        """An experiment of an errand, beside those of runs: paths in it mean the same."""
        read_experiment(text, self.home.experiments)
        return self.home.keep_experiment(f".{name}", text)

    def _errand(self, what: str, arguments: list[str]) -> str:
        """Do something at the microscope in a process of its own; what it printed. Raises `LivephaseError`."""
        with self._one_at_a_time(what):
            child = self._errand_child = RunChild(arguments, self.home.console)
            try:
                if child.wait(_ERRAND_S) is None:
                    child.end()
                    raise LivephaseError(f"{what} took longer than {_ERRAND_S:.0f} s", "")
                if child.exit_code != 0:
                    raise LivephaseError(*_cause_and_fix(child.reason()))
                return child.printed()
            finally:
                self._errand_child = None


class _Turn:
    """A turn at the microscope. Raises `BusyError` where another one has it."""

    def __init__(self, service: Service, what: str) -> None:
        self._service, self._what = service, what

    def __enter__(self) -> None:
        service = self._service
        with service._lock:
            if service._stopping:
                raise BusyError("the service is stopping", "start it again first")
            if service._doing is not None:
                raise BusyError(f"the service is {service._doing}", "wait until it is done")
            if service.run_goes_on:
                raise BusyError("a run goes on", "stop it first, or wait for its end")
            service._doing = self._what

    def __exit__(self, *_: object) -> None:
        self._service._doing = None


def _cause_and_fix(reason: str) -> tuple[str, str]:
    cause, _, fix = reason.rpartition(": ")
    return (cause, fix) if cause else (reason, "")
