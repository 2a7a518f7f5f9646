"""One controller as the supervisor sees it: started, heard, killed where it hangs, given up where it keeps dying."""

from __future__ import annotations

import json
import logging
import multiprocessing
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from pipeline.experiment import ControllerEntry
from pipeline.lifecycle.signals import deaf_children
from pipeline.stages.context import StageContext
from pipeline.stages.controlling import control_run

log = logging.getLogger("livephase")

# One that dies so often won't get better; the run goes on without it.
_MOST_RESTARTS = 3
# A look that lasts so much longer than its deadline, and at least so long, will not end.
_HANGS_TIMES, _HANGS_S = 3.0, 20.0
_READY_S = 60.0
# So many lines are heard at a time: one that talks without end must not keep the supervisor busy.
_MOST_LINES = 20
_END_S = 1.0


class ControllerProcess:
    """See the module."""

    def __init__(self, entry: ControllerEntry, context: StageContext) -> None:
        self.entry = entry
        self._context = replace(context, stage=f"controller {entry.use}")
        self.looks_at = ""
        """Empty before it is ready."""
        self.decided = 0
        """How many timepoints it is through with."""
        self.given_up = False
        self._restarts = 0
        self._looks_since: float | None = None
        self._process: SpawnProcess
        self._connection: Connection
        self._start()

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._connection, theirs = spawn.Pipe()
        self._process = spawn.Process(
            target=control_run,
            args=(self._context, self.entry, theirs),
            name=f"livephase {self._context.stage}",
        )
        self._started = time.monotonic()
        with deaf_children():
            self._process.start()
        theirs.close()

    @property
    def settled(self) -> bool:
        """Whether nobody has to wait for its start."""
        return bool(self.looks_at) or self.given_up

    def hear(self) -> list[dict[str, Any]]:
        """What it said since the last call: decisions and failures, as `pipeline.stages.controlling` sends them."""
        lines: list[dict[str, Any]] = []
        try:
            while len(lines) < _MOST_LINES and self._connection.poll():
                line = json.loads(self._connection.recv_bytes())
                if line["what"] == "ready":
                    self.looks_at = line["looks_at"]
                elif line["what"] == "looks":
                    self._looks_since = time.monotonic()
                else:
                    self._looks_since = None
                    if line["what"] == "decision":
                        self.decided = max(self.decided, line["timepoint"] + 1)
                    lines.append(line)
        except (EOFError, OSError, ValueError, KeyError):
            pass  # dead, or talking nonsense: `look_after` sees to it
        return lines

    def look_after(self) -> str:
        """Kill it where it hangs, start it again where it died; what the user should know of that."""
        if self.given_up:
            return ""
        now = time.monotonic()
        patience_s = max(_HANGS_TIMES * self.entry.deadline_s, _HANGS_S)
        hangs = self._looks_since is not None and now - self._looks_since > patience_s
        hangs = hangs or (not self.looks_at and now - self._started > _READY_S)
        if self._process.is_alive() and not hangs:
            return ""
        how = "hangs" if hangs else "died"
        self._let_go(0.0)
        self._restarts += 1
        self.looks_at, self._looks_since = "", None
        log.error("a controller is gone", extra={"controller": self.entry.use, "how": how})
        if self._restarts > _MOST_RESTARTS:
            self.given_up = True
            return f"the controller {self.entry.use} {how} again: the run goes on without it"
        self._start()
        return f"the controller {self.entry.use} {how}: it is started again, the run goes on"

    def end(self) -> None:
        """No more is wanted of it."""
        if not self.given_up:
            self._let_go(_END_S)

    def _let_go(self, patience_s: float) -> None:
        self._connection.close()
        self._process.join(patience_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
