"""A run's log as events: what its processes warn of, and each change of its state."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.server.events import Events, Level

# Of one look: a run that floods its log must not flood the page.
_MOST_BYTES = 64_000
_LEVELS: dict[str, Level] = {"warning": "warning", "error": "error", "critical": "error"}
# Short ones, whose fields say the rest, as people follow a run by them.
_TOLD = {
    "state": "the run is {state}",
    "paused": "paused: the light is off",
    "resumed": "going on",
    "alarm": "{alarm} {state}: {text}",
    "suspended": "paused by itself: {alarms}",
    "no longer suspended": "no longer paused by itself: {how}",
}


class _Fields(dict[str, Any]):
    """Of a line: those that it lacks are left out, lists are read out."""

    def __getitem__(self, name: str) -> Any:
        value = self.get(name, "")
        return ", ".join(map(str, value)) if isinstance(value, list) else value


class LogFollower:
    """Follows one file from where it ends now, or from its beginning."""

    def __init__(self, path: Path, events: Events, from_start: bool) -> None:
        self._path, self._events = path, events
        self._at = 0 if from_start or not path.exists() else path.stat().st_size
        self._rest = b""

    def look(self) -> None:
        """Take in what was written since."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                text = file.read(_MOST_BYTES)
        except OSError:
            return
        self._at += len(text)
        *lines, self._rest = (self._rest + text).split(b"\n")
        for line in lines:
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            entry: dict[str, Any] = json.loads(line)
            level = _LEVELS.get(entry["level"])
            text = str(entry["message"])
            if text in _TOLD:
                level, text = level or "info", _TOLD[text].format_map(_Fields(entry)).strip(": ")
            elif level is None:
                return
            when = datetime.fromisoformat(entry["time"]).timestamp()
        except (ValueError, LookupError, TypeError):
            return  # a line that was cut off by a kill
        self._events.add(level, str(entry.get("process", "run")), text, when)
