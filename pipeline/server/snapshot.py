"""A snapshot of a run that goes on: its newest frames and phase, as files in its folder."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.errors import RunFolderError
from pipeline.server.run_watch import RunWatch, Seen
from pipeline.stages.snapshot import save_snapshot, snapshot_path, write_snapshot


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
    run = watch.folder.path
    written = [
        save_snapshot(run, watch.experiment, i.key, _what(watch, i), i.image) for i in images
    ]
    if phase is not None:
        path = snapshot_path(run, phase.key, "phase", "png")
        written.append(write_snapshot(path, _picture(watch, phase)))
    return written


def _what(watch: RunWatch, seen: Seen) -> str:
    return "phase" if seen.kind == "phase" else watch.plan.channels[seen.channel].name


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
