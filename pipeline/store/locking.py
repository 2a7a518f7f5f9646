"""Exclusive file locks that the operating system releases when their holder dies."""

from __future__ import annotations

import os
import sys
import time

# Windows locks are mandatory: the byte is far behind any content, so that the file stays readable.
_WINDOWS_LOCK_OFFSET = 1 << 40


def try_lock(fd: int) -> bool:
    """Lock an open file for this process; False if another holds it.

    The lock goes with the descriptor's last copy: spawned children don't inherit it.
    """
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415 - Windows only

        position = os.lseek(fd, 0, os.SEEK_CUR)
        os.lseek(fd, _WINDOWS_LOCK_OFFSET, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(fd, position, os.SEEK_SET)
        return True
    import fcntl  # noqa: PLC0415 - POSIX only

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_within(fd: int, seconds: float) -> bool:
    """`try_lock`, repeated: a holder that was just killed may take a moment to let go."""
    deadline = time.monotonic() + seconds
    while not try_lock(fd):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
