"""One stage as the supervisor sees it: a spawned process, its reports, its restarts."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from pipeline.errors import LivephaseError
from pipeline.importing import importing
from pipeline.lifecycle.signals import deaf_children
from pipeline.stages.context import StageContext, StageReporter


def _main(kind: str, context: StageContext, connection: Connection) -> None:
    # Imported here, by name: the supervisor itself has no use for a stage's imports (torch among them).
    with importing():
        entry = getattr(importlib.import_module(f"pipeline.stages.{kind}"), kind)
    # It stays: collections amid the frames need not look at it.
    gc.freeze()
    entry(context, StageReporter(connection))


class StageProcess:
    """A stage's process, started again on request under the same index.

    `kind` names the module of `pipeline.stages` and its entry point: acquire, record or reconstruct.
    """

    def __init__(self, kind: str, context: StageContext) -> None:
        self._kind = kind
        self.context = context
        self.restarts = 0
        self.killed = False  # by us, and not to be started again
        self.failure: LivephaseError | None = None
        self._process: SpawnProcess
        self._connection: Connection
        self._start()

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._connection, theirs = spawn.Pipe(duplex=False)
        self._process = spawn.Process(
            target=_main,
            args=(self._kind, self.context, theirs),
            name=f"livephase {self.context.stage}",
        )
        with deaf_children():
            self._process.start()
        theirs.close()

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.context.stage

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: killed by that signal."""
        return self._process.exitcode

    def poll(self) -> list[str]:
        """Messages since the last call; a failure is kept in `failure`."""
        messages: list[str] = []
        try:
            while self._connection.poll():
                kind, content = self._connection.recv()
                if kind == "failure":
                    self.failure = content
                else:
                    messages.append(str(content))
        except (EOFError, OSError):
            pass  # the process is gone: everything it sent was read
        return messages

    def restart(self) -> None:
        """Start again after a death."""
        self.restarts += 1
        self.failure = None
        self._connection.close()
        self._start()

    def kill(self) -> None:
        """End the process at once."""
        self.killed = True
        self._process.kill()

    def end(self, timeout_s: float) -> None:
        """Wait for the process; kill it where it does not end by itself."""
        self._process.join(timeout_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._connection.close()
