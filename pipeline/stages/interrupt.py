"""A service manager's SIGTERM and a closed terminal end a command as Ctrl+C does: the light goes off first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """SIGTERM and SIGHUP (Ctrl+Break on Windows) raise `KeyboardInterrupt` within the context.

    Their default would end the process where it stands, with the light on. SIGINT does too, though a shell that
    started the command in the background has told it to ignore that. Python delivers signals to the
    main thread only: elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    caught = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, signal.default_int_handler) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
