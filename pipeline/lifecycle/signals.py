"""Ctrl+C and a service manager's SIGTERM, as orders: once to finish, twice to leave the backlog."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType


class StopSignals:
    """Counts how often the user asked the run to stop."""

    def __init__(self) -> None:
        self.count = 0

    def _received(self, _signum: int, _frame: FrameType | None) -> None:
        self.count += 1


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Catch SIGINT, SIGTERM, SIGHUP (a dropped terminal; Ctrl+Break on Windows) within the context.

    Python delivers signals to the main thread only: elsewhere, as under a
    notebook's worker thread, the run is stopped through its control object.
    """
    signals = StopSignals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    caught = [signal.SIGINT, signal.SIGTERM]
    caught += [getattr(signal, name) for name in ("SIGHUP", "SIGBREAK") if hasattr(signal, name)]
    before = {s: signal.signal(s, signals._received) for s in caught}
    try:
        yield signals
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that are started within the context don't hear Ctrl+C, from their first instruction on.

    Ctrl+C at a terminal goes to every process of the group. A stage ignores it once it runs, but its
    imports take seconds before. POSIX only: a child inherits what its parent blocks. On Windows the
    stages ignore it as soon as they can.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # multiprocessing starts a helper with its first process, and unblocks these signals after that.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    )
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
