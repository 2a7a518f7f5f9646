"""The folder of a calibration: what is known now, and every version that was known before.

calibration.json  calibration.npz      now
history/20261120T141003Z/…             before, named by when it was saved last; never written over
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pipeline.calibration import Calibration
from pipeline.durable import make_directory, replace_file, sync_directory
from pipeline.errors import RunFolderError
from pipeline.experiment import nearest
from pipeline.store.locking import lock_within

_FILES = ("calibration.npz", "calibration.json")
_LOCK_PATIENCE_S = 0.3


class CalibrationFolder:
    """Names in a calibration folder; making one touches nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.history = path / "history"

    def exists(self) -> bool:
        """Whether a calibration is there."""
        return (self.path / "calibration.json").is_file()

    def load(self) -> Calibration:
        """What is known now; an empty calibration where there is none yet.

        Raises
        ------
        ExperimentError
            If the folder holds one that can't be read.
        """
        return Calibration.load(self.path) if self.exists() else Calibration()

    def versions(self) -> list[str]:
        """Names of the versions that are kept, oldest first."""
        if not self.history.is_dir():
            return []
        return sorted(p.name for p in self.history.iterdir() if (p / "calibration.json").is_file())

    def keep(self) -> str | None:
        """Copy what is known now into the history; its name there, None if there is nothing to keep.

        A crash leaves the whole version or none of it.

        Raises
        ------
        RunFolderError
            If the folder can't be written.
        """
        if not self.exists():
            return None
        saved = (self.path / "calibration.json").stat().st_mtime
        stamp = datetime.fromtimestamp(saved, UTC).strftime("%Y%m%dT%H%M%SZ")
        try:
            make_directory(self.history)
            part = self.history / f".{stamp}.{os.getpid()}"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            for name in _FILES:
                replace_file(part / name, (self.path / name).read_bytes())
            taken = 1
            name = stamp
            while (self.history / name).exists():
                taken += 1
                name = f"{stamp}-{taken:03d}"
            part.rename(self.history / name)
            sync_directory(self.history)
        except OSError as error:
            raise RunFolderError(
                f"the calibration in {self.path} can't be kept in its history ({error.strerror or error})",
                "make space on the disk, or give a folder that you may write to",
            ) from error
        return name

    def restore(self, version: str) -> Calibration:
        """Make an earlier version the present one; the present one goes into the history.

        Raises
        ------
        RunFolderError
            If there is no such version.
        """
        if version not in self.versions():
            raise RunFolderError(
                f"{self.path} has no version '{version}'",
                nearest(version, self.versions()) if self.versions() else "it has no history",
            )
        calibration = Calibration.load(self.history / version)
        self.keep()
        calibration.save(self.path)
        return calibration

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder (made if absent) for one session.

        Raises
        ------
        RunFolderError
            If another session holds it, or it can't be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path / "calibration.lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunFolderError(
                f"the calibration folder {self.path} can't be used ({error.strerror or error})",
                "give a folder that you may write to",
            ) from error
        try:
            if not lock_within(fd, _LOCK_PATIENCE_S):
                raise RunFolderError(
                    f"{self.path} is being calibrated by another process",
                    "wait until it ends, or give another folder",
                )
            yield
        finally:
            os.close(fd)
