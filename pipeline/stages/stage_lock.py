"""Proof that no stage of an earlier session is still at work on a run.

Each stage holds a lock that the operating system lets go when the process ends,
however it ends. A new session waits for all of them, so that a microscope and a
folder never have two masters.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import RunFolderError
from pipeline.store.locking import lock_within

_FOLDER = "locks"


@contextmanager
def hold_stage_lock(run: Path, stage: str, patience_s: float = 5.0) -> Iterator[None]:
    """Hold a stage's lock for as long as the context lasts.

    Raises
    ------
    RunFolderError
        If another process still holds it after `patience_s`.
    """
    folder = run / _FOLDER
    folder.mkdir(exist_ok=True)
    with (folder / f"{stage}.lock").open("ab") as file:
        if not lock_within(file.fileno(), patience_s):
            raise RunFolderError(
                f"the {stage} process of an earlier session still works on {run}",
                "wait until it has ended, or end it, then try again",
            )
        yield


def is_at_work(run: Path, stage: str) -> bool:
    """Whether a process of this stage lives."""
    try:
        with hold_stage_lock(run, stage, patience_s=0.0):
            return False
    except RunFolderError:
        return True


def wait_for_stages(run: Path, patience_s: float = 10.0) -> None:
    """Return once no stage of an earlier session is at work.

    Raises
    ------
    RunFolderError
        If one still is after `patience_s`.
    """
    for file in sorted((run / _FOLDER).glob("*.lock")):
        with hold_stage_lock(run, file.stem, patience_s):
            pass
