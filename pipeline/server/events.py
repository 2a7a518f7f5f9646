"""What happened, for people: a bounded list that clients follow by number."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["info", "warning", "error"]

_MOST = 2000


@dataclass(frozen=True)
class Event:
    """One of them."""

    seq: int
    time_utc: float
    level: Level
    source: str
    text: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Events:
    """Added to from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: deque[Event] = deque(maxlen=_MOST)
        self._last = 0

    def add(self, level: Level, source: str, text: str, time_utc: float | None = None) -> None:
        """Something happened."""
        with self._lock:
            self._last += 1
            when = time.time() if time_utc is None else time_utc
            self._events.append(Event(self._last, when, level, source, text))

    def after(self, seq: int) -> list[Event]:
        """Those since; the oldest may be forgotten."""
        with self._lock:
            return [event for event in self._events if event.seq > seq]

    @property
    def last(self) -> int:
        """Number of the newest; 0 before the first."""
        return self._last
