"""An image of a run kept as a file of its own, in the run folder's `snapshots/`."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pipeline.durable import replace_file
from pipeline.experiment import Experiment
from pipeline.frames import SlotKey
from pipeline.store.failures import write_failure
from pipeline.store.layout import stored_pixel_um
from pipeline.store.run_folder import RunFolder


def snapshot_path(run: Path, key: SlotKey, what: str, ending: str) -> Path:
    """Where an image goes."""
    # A channel may be called as no file can be.
    name = re.sub(r"[^\w.-]+", "-", what)
    return run / "snapshots" / f"t{key.timepoint:06}_p{key.position}_{name}.{ending}"


def save_snapshot(
    run: Path, experiment: Experiment, key: SlotKey, what: str, image: NDArray[Any]
) -> Path:
    """Write an image ``[Y, X]`` of the whole field as it is, a TIFF that knows its pixels' size; its path.

    Raises
    ------
    StoreError
        If it can't be written.
    """
    import tifffile  # noqa: PLC0415 - a tenth of a second that only this costs

    plan = experiment.plan()
    camera_um = stored_pixel_um(RunFolder(run).raw_store, plan)
    pixel_um = camera_um * plan.frame_shape[0] / image.shape[0]
    content = io.BytesIO()
    tifffile.imwrite(
        content,
        image,
        imagej=True,
        resolution=(1 / pixel_um, 1 / pixel_um),
        metadata={"unit": "um", "axes": "YX"},
    )
    return write_snapshot(snapshot_path(run, key, what, "tif"), content.getvalue())


def write_snapshot(path: Path, content: bytes) -> Path:
    """Write a file of that folder. Raises `StoreError`."""
    try:
        path.parent.mkdir(exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise write_failure(path, error) from error
    return path
