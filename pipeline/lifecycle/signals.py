"""Ctrl+C and a service manager's SIGTERM, as orders: once to finish, twice to leave the backlog."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopSignals:
    """Counts how often the user asked the run to stop."""

    def __init__(self) -> None:
        self.count = 0

    def _received(self, _signum: int, _frame: FrameType | None) -> None:
        self.count += 1


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Catch SIGINT, SIGTERM (and Ctrl+Break on Windows) for as long as the context lasts.

    Python delivers signals to the main thread only: elsewhere, as under a
    notebook's worker thread, the run is stopped through its control object.
    """
    signals = StopSignals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    caught = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGBREAK"):
        caught.append(signal.SIGBREAK)
    before = {s: signal.signal(s, signals._received) for s in caught}
    try:
        yield signals
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
