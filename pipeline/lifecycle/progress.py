"""How a run shows itself: a live line with bars at a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline.frames import Plan
from pipeline.telemetry import Telemetry

# A person reads no faster, and a log file of a three-day run stays readable.
_TERMINAL_S = 0.25
_PLAIN_S = 5.0
_RATE_WINDOW_S = 5.0


class ProgressDisplay(Protocol):
    """A context that shows a session; see `Supervisor`."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def update(self, state: str, telemetry: Telemetry) -> None:
        """Called some times a second."""
        ...

    def message(self, text: str) -> None:
        """Something the user should read."""
        ...


class _Figures:
    """The figures of a session, from its telemetry."""

    def __init__(
        self, plan: Plan, todo_frames: int, already_reconstructed: int, reconstructs: bool
    ) -> None:
        self._plan = plan
        self._todo_frames = todo_frames
        self._already = already_reconstructed
        self._reconstructs = reconstructs
        # Frames come in bursts: the rate is taken over several of them.
        self._window_s = max(_RATE_WINDOW_S, 3 * plan.interval_s)
        self._history: deque[tuple[float, int]] = deque()

    def sample(self, telemetry: Telemetry) -> None:
        """Take note of what was acquired so far; called often, shown seldom."""
        now = time.monotonic()
        if self._history and now - self._history[-1][0] < _TERMINAL_S:
            return
        self._history.append((now, telemetry.total("frames_acquired")))
        while now - self._history[0][0] > self._window_s:
            self._history.popleft()

    def _rate(self) -> float:
        """Frames a second, from the first frame within the window."""
        if len(self._history) < 2:
            return 0.0
        (began, before), (now, acquired) = self._history[0], self._history[-1]
        return (acquired - before) / (now - began)

    def rows(self, telemetry: Telemetry) -> dict[str, str]:
        """Name → value, as shown."""
        acquired = telemetry.total("frames_acquired")
        missing = telemetry.missing_frames()
        # What this session's camera delivered twice is one frame of the plan.
        twice = int(telemetry.by_stage("frames_reacquired").get("acquire", 0))
        rate = self._rate()
        accounted = acquired + missing - twice
        left = self._todo_frames - accounted
        rows = {
            "frames": f"{accounted}/{self._todo_frames}",
            "rate": f"{rate:.1f}/s",
            "stored": str(telemetry.total("frames_written")),
            "missing": str(missing),
        }
        if self._reconstructs:
            done = self._already + telemetry.total("slots_reconstructed")
            latency = telemetry.quantile("latency_seconds", 0.5)
            rows["phase"] = f"{done}/{self._plan.slots}"
            rows["queue"] = str(int(telemetry.value("reconstruction_queue")))
            rows["latency"] = f"{latency * 1e3:.0f} ms" if latency is not None else "-"
        if left > 0:
            step_s = left / rate if rate > 0 else None
            if self._plan.interval_s and step_s is not None:
                slots = left / (self._plan.frames_per_slot * len(self._plan.positions))
                step_s = max(step_s, slots * self._plan.interval_s)
            rows["left"] = _clock(step_s) if step_s is not None else "-"
        return rows


class TerminalProgress:
    """A table that is redrawn in place."""

    def __init__(self, figures: _Figures) -> None:
        self._figures = figures
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._next = 0.0

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, state: str, telemetry: Telemetry) -> None:
        """Redraw, if it is time."""
        self._figures.sample(telemetry)
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _TERMINAL_S
        table = Table(show_edge=False, pad_edge=False, box=None)
        table.add_column("state", style="bold")
        rows = self._figures.rows(telemetry)
        for name in rows:
            table.add_column(name, justify="right")
        table.add_row(state, *rows.values())
        with suppress(OSError):
            self._live.update(table, refresh=True)

    def message(self, text: str) -> None:
        """Above the table."""
        with suppress(OSError):
            self._console.print(text, style="yellow", markup=False, highlight=False)


class PlainProgress:
    """A line every few seconds and at each change of state, for log files and services."""

    def __init__(self, figures: _Figures) -> None:
        self._figures = figures
        self._next = 0.0
        self._state = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, state: str, telemetry: Telemetry) -> None:
        """Print a line, if it is time."""
        self._figures.sample(telemetry)
        now = time.monotonic()
        if now < self._next and state == self._state:
            return
        self._next, self._state = now + _PLAIN_S, state
        figures = "  ".join(f"{k} {v}" for k, v in self._figures.rows(telemetry).items())
        self.message(f"{state}: {figures}")

    def message(self, text: str) -> None:
        """One line on stderr."""
        # Whoever read it may be gone (a closed terminal, `| head`): no reason to end a run.
        with suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def progress_display(
    plan: Plan, todo_frames: int, already_reconstructed: int, reconstructs: bool
) -> TerminalProgress | PlainProgress:
    """The display that fits where stderr goes."""
    figures = _Figures(plan, todo_frames, already_reconstructed, reconstructs)
    return TerminalProgress(figures) if sys.stderr.isatty() else PlainProgress(figures)


def counting() -> Callable[[str, int, int], None]:
    """A callback ``(what, done, all)`` that prints a line on stderr every few seconds, and the last."""
    lock = threading.Lock()
    shown: dict[str, float] = {}

    def show(what: str, done: int, total: int) -> None:
        # Several units report from several threads.
        with lock:
            now = time.monotonic()
            if done < total and now < shown.get(what, 0.0):
                return
            shown[what] = now + _PLAIN_S
            print(f"{what}: {done}/{total}", file=sys.stderr, flush=True)

    return show


def _clock(seconds: float) -> str:
    """h:mm:ss, or m:ss below an hour."""
    total = round(seconds)
    hours, minutes = total // 3600, total // 60 % 60
    return f"{hours}:{minutes:02}:{total % 60:02}" if hours else f"{minutes}:{total % 60:02}"
