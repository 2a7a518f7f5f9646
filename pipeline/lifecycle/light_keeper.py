"""A process that stands by to turn the light off at once, should the one that turned it on die.

Started with the stages, it has imported what it needs long before it is needed. It looks for itself: the
mark in the run folder says that the light may be on, the lock of the acquire stage whether that process
lives. So it acts as well when the supervisor is dead, or hangs.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from drivers.driver import Driver
from drivers.registry import open_driver
from pipeline.errors import RunFolderError
from pipeline.experiment import Experiment
from pipeline.lifecycle.light_off import make_dark
from pipeline.lifecycle.signals import deaf_children
from pipeline.log import log_to, stop_logging
from pipeline.stages.light_mark import LightMark
from pipeline.stages.stage_lock import is_at_work
from pipeline.store.run_folder import RunFolder

log = logging.getLogger("livephase")

# A look is two system calls: of no weight, and soon enough.
_LOOK_S = 0.05
# A microscope that can't be made safe the first time: a port that the dead process's driver has not let go of yet.
_ATTEMPTS = 5
_AGAIN_S = 1.0
# A supervisor that has told its keeper to go does not wait for one that is stuck in a driver.
_END_S = 2.0


class LightKeeper:
    """The supervisor's side: starts the process, starts it again if it dies, hears what it did."""

    def __init__(self, run: Path, experiment: Experiment) -> None:
        self._args = run, experiment
        self._process: SpawnProcess
        self._connection: Connection
        self._ready = False
        self._start()

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._connection, theirs = spawn.Pipe()
        self._ready = False
        self._process = spawn.Process(
            target=_keep, args=(*self._args, theirs), name="livephase light keeper"
        )
        with deaf_children():
            self._process.start()
        theirs.close()

    @property
    def ready(self) -> bool:
        """Whether it stands by."""
        with suppress(EOFError, OSError):
            if not self._ready and self._connection.poll():
                self._connection.recv()
                self._ready = True
        return self._ready and self.alive

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process.is_alive()

    def look_after(self) -> None:
        """Start it again if it died."""
        if not self.alive:
            log.error("the light keeper died: another is started")
            self._connection.close()
            self._process.join()
            self._start()

    def end(self, patience_s: float = _END_S) -> None:
        """Let it go: the light is off, or somebody else's business."""
        self._connection.close()
        self._process.join(patience_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _keep(run: Path, experiment: Experiment, connection: Connection) -> None:
    """Entry point of the process: ends when the other end of the pipe is closed and no acquire process is left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    handler = log_to(RunFolder(run).log, "light keeper")
    try:
        driver = open_driver(experiment)
        log.info("the light keeper stands by", extra={"pid": os.getpid()})
        with suppress(OSError):
            connection.send("ready")
        _stand_by(run, driver, connection)
    finally:
        stop_logging(handler)


def _stand_by(run: Path, driver: Driver, connection: Connection) -> None:
    mark, attended, failures = LightMark(run), True, 0
    # An orphaned acquire process may be just about to light up.
    while attended or mark.is_set() or is_at_work(run, "acquire"):
        if attended:
            attended = not _closed(connection)
        else:
            time.sleep(_LOOK_S)
        if not mark.is_set():
            continue
        try:
            make_dark(run, driver, patience_s=0.0)
        except RunFolderError:
            continue  # the acquire process lives, and sees to it itself
        except Exception:  # whatever a driver raises: the light has to go off, so it is tried again
            log.exception("the light could not be turned off")
            failures += 1
            if failures == _ATTEMPTS:
                return
            time.sleep(_AGAIN_S)


def _closed(connection: Connection) -> bool:
    """Whether the supervisor has closed its end, or died; waits a little for it."""
    try:
        if connection.poll(_LOOK_S):
            connection.recv()
    except (EOFError, OSError):
        return True
    return False
