"""A phase image kept as a picture of its own."""

from __future__ import annotations

from pathlib import Path

from pipeline.mailbox import Result
from pipeline.store.failures import write_failure


def save_snapshot(run: Path, result: Result) -> Path:
    """Write the image, float32 radians, into the run folder's `snapshots/`; its path.

    Raises
    ------
    StoreError
        If it can't be written.
    """
    import tifffile  # noqa: PLC0415 - a tenth of a second that only this costs

    path = run / "snapshots" / f"t{result.key.timepoint:05}_p{result.key.position}.tif"
    try:
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, result.image)
    except OSError as error:
        raise write_failure(path, error) from error
    return path
