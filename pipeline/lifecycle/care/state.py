"""`alarms.json` in the run folder: what is alarming now and was before, for whoever looks at a run from outside."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pipeline.durable import replace_file
from pipeline.store.run_folder import RunFolder, RunState

log = logging.getLogger("livephase")

# An alarm that comes and goes for weeks must not make the file ever larger: it is written whole.
_MOST_PAST: Final = 2000


@dataclass
class CareState:
    """All of the file.

    `active`: ``{name, severity, text, since_utc}``. `past`: ``{name, from_utc, to_utc}``, `to_utc` None where the
    session was killed meanwhile. `suspended` says why the run has paused itself, `suspensions` when it did so:
    ``{alarms, from_utc, to_utc}``. Times are seconds since the epoch.
    """

    active: list[dict[str, Any]] = field(default_factory=list)
    suspended: str | None = None
    past: list[dict[str, Any]] = field(default_factory=list)
    suspensions: list[dict[str, Any]] = field(default_factory=list)

    def trim(self) -> None:
        """Forget the oldest of far too many."""
        del self.past[:-_MOST_PAST]
        del self.suspensions[:-_MOST_PAST]


def care_file(run: Path) -> Path:
    """The file of a run folder."""
    return run / "alarms.json"


def load_state(run: Path) -> CareState:
    """What the file holds; nothing where there is none or it can't be read."""
    try:
        return CareState(**json.loads(care_file(run).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return CareState()


def read_care(run: Path) -> CareState:
    """How a run that is going on is; nothing of one that is over: a killed session leaves its alarms behind."""
    goes_on = RunFolder(run).state() is RunState.RUNNING
    return load_state(run) if goes_on else CareState()


def read_alarms(run: Path) -> list[dict[str, Any]]:
    """The alarms of a run that is going on: ``{name, severity, text, since_utc}``, the oldest first."""
    return read_care(run).active


def read_suspended(run: Path) -> str | None:
    """Why a run that is going on has paused itself; None where it has not."""
    return read_care(run).suspended


def care_report(run: Path) -> dict[str, Any]:
    """For the report: `alarms` with `name`, `from_utc`, `to_utc`, and `suspensions`, over all sessions."""
    state = load_state(run)
    still = [{"name": a["name"], "from_utc": a["since_utc"], "to_utc": None} for a in state.active]
    return {"alarms": [*state.past, *still], "suspensions": state.suspensions}


class StateWriter:
    """Replaces the file from a thread: a disk that hangs keeps nobody waiting. What is superseded is not written."""

    def __init__(self, run: Path) -> None:
        self._path = care_file(run)
        self._content: bytes | None = None
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="alarms file", daemon=True)
        self._thread.start()

    def write(self, state: CareState) -> None:
        """As soon as the disk takes it."""
        content = (json.dumps(asdict(state), indent=1) + "\n").encode()
        with self._changed:
            self._content = content
            self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Write what is left, unless the disk takes longer than that."""
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._content is not None or self._over)
                content, self._content = self._content, None
            if content is None:
                return
            try:
                replace_file(self._path, content)
            except OSError as error:
                # A full disk, most likely: the alarm itself says so elsewhere.
                log.warning("alarms.json was not written", extra={"error": str(error)})
