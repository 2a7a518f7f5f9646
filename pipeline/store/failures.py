"""Failures of the disk in words: what could not be written, how much space is left, what to do."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from pipeline.errors import StoreError

_FULL = (errno.ENOSPC, errno.EDQUOT)
# tensorstore reports the operating system's error as text only.
_FULL_TEXT = ("no space left", "enospc", "disk quota exceeded", "edquot", "not enough space")


def write_failure(path: Path, error: BaseException) -> StoreError:
    """The error of a write that failed; what was committed before is still valid."""
    number = getattr(error, "errno", None)
    if number in _FULL or any(text in str(error).lower() for text in _FULL_TEXT):
        return StoreError(
            f"the disk is full: {path} can't be written, {_free(path)} free; "
            "what is committed stays valid",
            "make space, then --resume",
        )
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StoreError(
            f"{path} can't be written (read-only)", "choose a folder that you may write to"
        )
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return StoreError(
        f"{path} can't be written ({reason}); what is committed stays valid",
        "check the disk, then --resume",
    )


def _free(path: Path) -> str:
    for folder in (path, *path.parents):
        if folder.is_dir():
            return f"{shutil.disk_usage(folder).free / 1e6:.1f} MB are"
    return "nothing is"
