"""The file that an export writes: a whole one under its name, or none."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.durable import sync_directory, sync_file
from pipeline.errors import ExperimentError, RunFolderError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_target(out: Path, endings: tuple[str, ...], option: str, *, force: bool) -> None:
    """Refuse, before anything is read, a file that can't be written.

    Raises
    ------
    ExperimentError, RunFolderError
        Its name says no kind that is known, its folder is absent, or something is there already.
    """
    if not out.name.lower().endswith(endings):
        raise ExperimentError(
            f"{option} {out} names no known kind of file", f"end it with {' or '.join(endings)}"
        )
    if not out.parent.is_dir():
        raise RunFolderError(
            f"the folder {out.parent} does not exist", "make it, or correct the path"
        )
    if out.is_dir():
        raise RunFolderError(f"{out} is a folder", "give the name of a new file")
    if out.exists() and not force:
        raise RunFolderError(f"{out} exists", "give another name, or --force to write over it")


@contextmanager
def new_file(out: Path) -> Iterator[Path]:
    """Yields a temporary name beside `out`; what is written there becomes `out` at the end.

    If the block fails, nothing is left of it, and what was there before still is.

    Raises
    ------
    RunFolderError
        The disk is full, or the place can't be written.
    """
    # The ending stays: libraries tell the kind of a file by it.
    temporary = out.with_name(f".{os.getpid()}.{out.name}")
    try:
        yield temporary
        sync_file(temporary)
        temporary.replace(out)
        sync_directory(out.parent)
    except OSError as error:
        raise _failure(out, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _failure(out: Path, error: OSError) -> RunFolderError:
    if error.errno in _FULL:
        free = shutil.disk_usage(out.parent).free / 1e6
        return RunFolderError(
            f"the disk is full: {out} can't be written, {free:.1f} MB are free; nothing of it was left",
            "make space, give another place, or export fewer timepoints or smaller images",
        )
    return RunFolderError(
        f"{out} can't be written ({error.strerror or error})", "give a place that you may write to"
    )
