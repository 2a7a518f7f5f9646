"""Writes that a power cut can't undo.

A file is durable when its bytes, and the directory entry that leads to them, are on the disk.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

# Windows refuses to replace a file that somebody has open, a reader or a virus scanner: these let go
# of small files within milliseconds.
_RENAME_PATIENCE_S = 2.0
_RENAME_AGAIN_S = 0.01


def sync_data(fd: int) -> None:
    """Bring a file's bytes to the disk (with the metadata that is needed to read them)."""
    if sys.platform == "darwin":
        import fcntl  # noqa: PLC0415 - absent on Windows

        # fsync on macOS stops at the drive's volatile cache.
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    elif hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def sync_file(path: Path) -> None:
    """Bring to the disk what any process has written to a file so far."""
    # Windows syncs only what is open for writing.
    fd = os.open(path, os.O_RDWR)
    try:
        sync_data(fd)
    finally:
        os.close(fd)


def sync_directory(folder: Path) -> None:
    """Bring a directory's entries to the disk: new names, renames, removals.

    POSIX only: Windows has no such call, and NTFS journals directory entries itself.
    """
    if os.name != "posix":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(folder: Path) -> None:
    """Make a directory durably; its parent must exist, and it may be there already."""
    folder.mkdir(exist_ok=True)
    sync_directory(folder.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Write a whole file; a reader, or a crash at any moment, finds the old content or the new.

    Raises
    ------
    OSError
        The old content is still there.
    """
    # The process number keeps two writers of one name from sharing a temporary file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _rename(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _rename(temporary: Path, path: Path) -> None:
    deadline = time.monotonic() + _RENAME_PATIENCE_S
    while True:
        try:
            temporary.replace(path)
        except PermissionError:
            if os.name != "nt" or time.monotonic() > deadline:
                raise
            time.sleep(_RENAME_AGAIN_S)
        else:
            return


def append(fd: int, content: bytes) -> None:
    """Append in one write, and come back when it is on the disk.

    `fd` is open with ``O_APPEND``. If only a part could be written (a full disk), the part is taken
    back, so that the file ends where it ended before.

    Raises
    ------
    OSError
        Nothing was appended.
    """
    end = os.fstat(fd).st_size
    try:
        written = os.write(fd, content)
        if written != len(content):
            # The next write tells the reason as an OSError (a full disk), or goes on.
            written += os.write(fd, content[written:])
        if written != len(content):
            raise OSError(f"only {written} of {len(content)} bytes could be appended")
        sync_data(fd)
    except OSError:
        os.ftruncate(fd, end)
        raise
