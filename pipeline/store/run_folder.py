"""The run folder: the names of everything in it, its lock and the run's persistent state."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipeline.durable import replace_file, sync_directory
from pipeline.errors import LivephaseError, RunFolderError
from pipeline.experiment import Experiment, dump_experiment, load_experiment
from pipeline.store.failures import write_failure
from pipeline.store.locking import lock_within, try_lock

_VERSION = 1
# Somebody who only looks whether the folder is in use holds the lock for microseconds.
_LOCK_PATIENCE_S = 0.3


class RunState(StrEnum):
    """What became of a run."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"  # derived: running, but nobody holds the lock
    DONE = "done"
    STOPPED = "stopped"
    ABORTED = "aborted"
    FAILED = "failed"

    @property
    def cut_short(self) -> bool:
        """Whether it ended early: frames that were never exposed never will be.

        In a run that is done every frame was exposed, or is recorded as missing.
        """
        return self in (RunState.STOPPED, RunState.ABORTED)


class RunFolder:
    """Names of everything in a run folder. Making one touches nothing.

    A run's life::

        folder = RunFolder(path)
        with folder.lock():              # makes the folder; nobody else may use it
            if not folder.is_run():
                folder.create(experiment)
            ...
            folder.update(RunState.DONE)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.experiment_file = path / "experiment.yaml"
        self.calibration = path / "calibration"
        self.raw_store = path / "raw.ome.zarr"
        self.raw_ledger = path / "raw.ledger"
        self.phase_store = path / "phase.ome.zarr"
        self.frames = path / "frames.zarr"
        self.log = path / "log.jsonl"
        self.report_json = path / "report.json"
        self.report_html = path / "report.html"
        self.run_file = path / "run.json"
        self.lock_file = path / "run.lock"

    def phase_ledger(self, worker: int) -> Path:
        """The ledger of one reconstruct worker."""
        return self.path / f"phase.{worker}.ledger"

    def phase_ledgers(self) -> dict[int, Path]:
        """Every worker's ledger that is there, by worker."""
        return self._ledgers("phase")

    def skipped_ledger(self, worker: int) -> Path:
        """What one reconstruct worker could not reconstruct; absent where it could all."""
        return self.path / f"skipped.{worker}.ledger"

    def skipped_ledgers(self) -> dict[int, Path]:
        """Those that are there, by worker."""
        return self._ledgers("skipped")

    def _ledgers(self, kind: str) -> dict[int, Path]:
        found = {}
        for path in self.path.glob(f"{kind}.*.ledger"):
            worker = path.name.split(".")[1]
            if worker.isdigit():
                found[int(worker)] = path
        return dict(sorted(found.items()))

    def is_run(self) -> bool:
        """Whether a run was begun here. A creation that was cut short is none."""
        return self.run_file.is_file() and self.experiment_file.is_file()

    def require_run(self) -> None:
        """Raise `RunFolderError` unless a run was begun here."""
        if not self.is_run():
            raise RunFolderError(
                f"{self.path} is no run folder", "give the folder that was given as --out"
            )

    def create(self, experiment: Experiment) -> None:
        """Begin a run: write the experiment and the state `running`. The lock must be held.

        Raises
        ------
        RunFolderError
            A run is there already, or the folder can't be written.
        """
        if self.is_run():
            raise RunFolderError(
                f"{self.path} holds a run already", "give --resume, or a new folder"
            )
        self._refuse_foreign()
        try:
            # run.json first: should this be cut short, it says that the rest is ours to write over.
            self.update(RunState.RUNNING)
            replace_file(self.experiment_file, dump_experiment(experiment).encode())
        except OSError as error:
            raise self._unusable(error) from error

    def experiment(self) -> Experiment:
        """The run's experiment, as it was begun.

        Raises
        ------
        RunFolderError
            This is no run folder.
        ExperimentError
            Its experiment.yaml was changed by hand.
        """
        self.require_run()
        return load_experiment(self.experiment_file)

    def info(self) -> dict[str, Any]:
        """The free fields of run.json: versions, times, shared-memory names, …"""
        return {k: v for k, v in self._read().items() if k not in ("livephase_run", "state")}

    def state(self) -> RunState:
        """What became of the run; `interrupted` if it should be running and nobody holds it."""
        self.require_run()
        state = RunState(self._read()["state"])
        if state is RunState.RUNNING and not self.in_use():
            return RunState.INTERRUPTED
        return state

    def update(self, state: RunState | None = None, **fields: Any) -> None:
        """Change the state, and free fields (JSON values; None removes one), durably and at once.

        Raises
        ------
        RunFolderError
            run.json can't be written.
        """
        if state is RunState.INTERRUPTED:
            raise ValueError("interrupted is what others see, not a state to write")
        content = (
            self._read()
            if self.run_file.exists()
            else {"livephase_run": _VERSION, "state": RunState.RUNNING}
        )
        content |= fields
        if state is not None:
            content["state"] = state
        content = {k: v for k, v in content.items() if v is not None}
        try:
            replace_file(
                self.run_file, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
            )
        except OSError as error:
            raise self._unusable(error) from error

    def in_use(self) -> bool:
        """Whether a process holds the folder's lock."""
        try:
            # Windows locks only what is open for writing, POSIX also a read-only archive's files.
            fd = os.open(self.lock_file, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        except OSError:
            return False
        try:
            return not try_lock(fd)
        finally:
            os.close(fd)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process alone; makes the folder (not its parent).

        The operating system releases the lock when the process dies, whichever way.

        Raises
        ------
        RunFolderError
            In use, foreign, read-only, or its parent is missing.
        """
        if not self.path.parent.is_dir():
            raise RunFolderError(
                f"the folder {self.path.parent} does not exist",
                "make it, or correct the path given as --out",
            )
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"{self.path} is a file", "give a new folder as --out")
        self._refuse_foreign()
        try:
            if not self.path.exists():
                self.path.mkdir(exist_ok=True)
                sync_directory(self.path.parent)
            fd = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            if not lock_within(fd, _LOCK_PATIENCE_S):
                holder = os.read(fd, 32).decode(errors="replace").strip()
                raise RunFolderError(
                    f"run folder in use by process {holder or 'unknown'}: {self.path}",
                    "wait for the end of that run, stop it with `livephase stop`, "
                    "or give another folder",
                )
            os.ftruncate(fd, 0)
            os.write(fd, f"{os.getpid()}\n".encode())
            yield
        finally:
            os.close(fd)

    def _refuse_foreign(self) -> None:
        """Raise if the folder holds things that no run has put there."""
        if not self.path.is_dir() or self.run_file.exists():
            return
        ours = {self.lock_file.name}
        strangers = [
            p.name
            for p in self.path.iterdir()
            if p.name not in ours and not p.name.startswith(".run.json.")
        ]
        if strangers:
            raise RunFolderError(
                f"{self.path} exists and is no run folder (it holds {sorted(strangers)[0]})",
                "give a new or empty folder",
            )

    def _read(self) -> dict[str, Any]:
        fix = "restore it from a copy; the images and ledgers beside it are not affected"
        try:
            content = json.loads(self.run_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise RunFolderError(f"can't read {self.run_file} ({error})", fix) from error
        if not isinstance(content, dict) or content.get("livephase_run") != _VERSION:
            raise RunFolderError(
                f"{self.run_file} is not of a livephase run that this version knows", fix
            )
        return content

    def _unusable(self, error: OSError) -> LivephaseError:
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            return RunFolderError(
                f"the run folder {self.path} is read-only", "give a folder that you may write to"
            )
        failure = write_failure(self.path, error)
        return RunFolderError(failure.cause, failure.fix)
