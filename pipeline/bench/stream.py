"""`livephase bench stream`: do frames become durable as fast as they come, and are they seen at once?"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Protocol

from pipeline.bench.durable import DurableBench
from pipeline.bench.handoff import HandoffBench
from pipeline.bench.small_frames import SmallFramesBench
from pipeline.errors import RunFolderError

# The preflight of a run asks for as much beyond the run's own frames.
_RESERVE_BYTES = 1_000_000_000


class Measurement(Protocol):
    """A part of the bench."""

    @property
    def most_bytes(self) -> int:
        """On the disk at any time."""
        ...

    def measure(self, folder: Path) -> dict[str, Any]:
        """Measure in an empty folder."""
        ...


_PARTS: tuple[Measurement, ...] = (DurableBench(), HandoffBench(), SmallFramesBench())


def bench_stream(folder: Path, parts: tuple[Measurement, ...] = _PARTS) -> dict[str, Any]:
    """Durable speed beside raw files, the hand-off to a reconstructor, and small frames at a high rate.

    Parameters
    ----------
    folder
        On the disk to measure. Everything is written into a temporary folder in it.
    parts
        What is measured.

    Returns
    -------
    dict
        ``durable_ratio, compression_ratio, missing, mb_per_s, cpu_ms_per_mb, handoff_ms {p50, p99},
        small_frames {fps, missing}`` and the conditions of each.

    Raises
    ------
    RunFolderError
        The folder can't be written, or has too little space.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    result: dict[str, Any] = {}
    try:
        _check_space(folder, max(part.most_bytes for part in parts) + _RESERVE_BYTES)
        # Removed whatever happens, Ctrl+C included.
        with tempfile.TemporaryDirectory(prefix="livephase-bench-", dir=folder) as temporary:
            for part in parts:
                with tempfile.TemporaryDirectory(dir=temporary) as own:
                    result |= part.measure(Path(own))
    except OSError as error:
        raise RunFolderError(
            f"can't write into {folder} ({error.strerror})",
            "give a folder on the disk to measure with --folder",
        ) from error
    return result | {"conditions": {"cores": os.cpu_count(), "load_average_before": load}}


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RunFolderError(
            f"the bench needs {needed / 1e9:.1f} GB for a few minutes and the disk of {folder} has "
            f"{free / 1e9:.1f} GB left",
            "make space, or give a folder on another disk with --folder",
        )
