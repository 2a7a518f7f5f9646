"""A memory fence for counters that processes share without a lock.

Aligned words of eight bytes are never torn. Their order is another matter: x86 keeps stores in
order and loads in order, except for the streaming stores that large memory copies use, and other
CPUs reorder more. So a fence stands between the words and the data that they announce,
in the writer and in the reader.
"""

from __future__ import annotations

import threading

_lock = threading.Lock()


def fence() -> None:
    """Keep every read and write before it before every read and write after it.

    CPython offers no fence, but taking and giving a lock twice makes one: what comes before can't
    sink below the first release, what comes after can't rise above the second acquire, and
    that release and that acquire keep their order (a locked instruction on x86-64, RCsc on
    AArch64). Run on x86-64 only; for AArch64 it is an argument, not a measurement. About 0.5 µs.
    """
    with _lock:
        pass
    with _lock:
        pass
