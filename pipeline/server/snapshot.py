"""A snapshot of a run that goes on: its newest frames and phase, as files in its folder."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.durable import replace_file
from pipeline.errors import RunFolderError
from pipeline.server.run_watch import RunWatch, Seen

_FOLDER = "snapshots"


def take_snapshot(watch: RunWatch) -> list[Path]:
    """Write them: each channel's newest frame and the newest phase as TIFF, and the phase as a picture.

    Raises
    ------
    RunFolderError
        If there is nothing to be seen yet.
    """
    seen = [watch.newest("raw", c, 0) for c in range(len(watch.plan.channels))]
    phase = watch.newest("phase", 0, 0)
    images = [image for image in (*seen, phase) if image is not None]
    if not images:
        raise RunFolderError("there is no image yet", "wait for the first timepoint")
    folder = watch.folder.path / _FOLDER
    folder.mkdir(exist_ok=True)
    written = [_write_tiff(folder, watch, image) for image in images]
    if phase is not None:
        path = folder / f"{_stem(watch, phase)}.png"
        replace_file(path, _picture(watch, phase))
        written.append(path)
    return written


def _stem(watch: RunWatch, seen: Seen) -> str:
    what = "phase" if seen.kind == "phase" else watch.plan.channels[seen.channel].name
    return f"t{seen.key.timepoint:06}_p{seen.key.position}_{what}"


def _write_tiff(folder: Path, watch: RunWatch, seen: Seen) -> Path:
    path = folder / f"{_stem(watch, seen)}.tif"
    pixel_um = watch.pixel_um(seen.image.shape[0])
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        seen.image,
        imagej=True,
        resolution=(1 / pixel_um, 1 / pixel_um),
        metadata={"unit": "um", "axes": "YX"},
    )
    replace_file(path, buffer.getvalue())
    return path


def _picture(watch: RunWatch, seen: Seen) -> bytes:
    image: NDArray[Any] = seen.image
    low, high = (float(np.nanquantile(image, q)) for q in (0.005, 0.998))
    field_um = watch.pixel_um(image.shape[0]) * np.asarray(image.shape[::-1])
    figure = Figure(figsize=(7, 6), layout="constrained")
    axis = figure.subplots()
    shown = axis.imshow(
        image,
        cmap="magma",
        vmin=low,
        vmax=max(high, low + 1e-6),
        extent=(0, field_um[0], field_um[1], 0),
    )
    axis.set_xlabel("µm")
    axis.set_title(f"{watch.name}, timepoint {seen.key.timepoint + 1}")
    figure.colorbar(shown, ax=axis, label="phase / rad")
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
