"""A stage does not outlive its supervisor: it would write where others believe all is over."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable
from multiprocessing.connection import wait

log = logging.getLogger("livephase")

# Turning the light off must not keep an orphan alive: all is over within two seconds.
_LIGHT_OFF_S = 1.2
_EXIT_STATUS = 70


def watch_parent(on_orphan: Callable[[], None] | None = None) -> threading.Thread | None:
    """Watch the parent process from a daemon thread; when it dies, end this one.

    The sentinel is a pipe on POSIX and a process handle on Windows: the operating system wakes the
    thread whichever way the parent dies, SIGKILL included.

    Parameters
    ----------
    on_orphan
        Called first (the light goes off); given 1.2 s.

    Returns
    -------
    threading.Thread or None
        None in a process that no `multiprocessing` parent started.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return None
    watcher = threading.Thread(
        target=_watch, args=(parent.sentinel, on_orphan), name="parent watch", daemon=True
    )
    watcher.start()
    return watcher


def _watch(sentinel: int, on_orphan: Callable[[], None] | None) -> None:
    wait([sentinel])
    if on_orphan is not None:
        # In a thread of its own: a driver that hangs must not hold the exit.
        last_act = threading.Thread(target=_last_act, args=(on_orphan,), daemon=True)
        last_act.start()
        last_act.join(_LIGHT_OFF_S)
    # Not sys.exit: the main thread may sit in a camera's or a disk's call and would never see it.
    os._exit(_EXIT_STATUS)


def _last_act(on_orphan: Callable[[], None]) -> None:
    try:
        on_orphan()
    except Exception:  # whatever a driver raises, the process has to end and the log to know
        log.exception("the last act of an orphaned stage failed")
