"""Writes images that need no ledger (a simulation's ground truth) in the phase store's form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.experiment import Experiment
from pipeline.frames import SlotKey
from pipeline.store.arrays import begin_write, make_context, open_array
from pipeline.store.failures import write_failure
from pipeline.store.layout import array_path, create_phase, set_timepoints
from pipeline.store.pyramid import pyramid


def write_image(
    store: Path,
    experiment: Experiment,
    outputs: Sequence[str],
    images: Iterable[tuple[SlotKey, NDArray[np.floating[Any]]]],
    *,
    pixel_um: float | None = None,
) -> int:
    """Write images by slot as an OME-Zarr with a pyramid; returns how many.

    Parameters
    ----------
    store
        Made if absent; nothing is made where there are no images. What is in it is written over.
    outputs
        Names of the channels, C of them.
    images
        Slot and ``[C, s·Y, s·X]``, all alike: s is a whole number of image pixels a camera pixel.
    pixel_um
        Camera pixel at the sample; the nominal one if None.

    Raises
    ------
    StoreError
        It can't be written.
    ValueError
        The images' shape is no multiple of the frames'.
    """
    plan = experiment.plan()
    pixel = experiment.pixel_um if pixel_um is None else pixel_um
    context = make_context()
    arrays: dict[Path, Any] = {}
    written = 0
    for key, image in images:
        upsampling = image.shape[-1] // plan.frame_shape[1]
        if image.shape[1:] != tuple(upsampling * side for side in plan.frame_shape):
            raise ValueError(f"images {image.shape[1:]} on frames of {plan.frame_shape}")
        if not written:
            layout = create_phase(store, experiment, outputs, upsampling, pixel)
            set_timepoints(store, experiment, plan.timepoints)
        for level, pixels in enumerate(pyramid(image.astype(np.float32), len(layout.level_shapes))):
            path = array_path(store, plan, key.position, level)
            if path not in arrays:
                arrays[path] = open_array(path, context)
            shard = path / layout.shard_name(key.timepoint)
            error = begin_write(arrays[path], key.timepoint, pixels, shard).exception()
            if error is not None:
                raise write_failure(store, error) from error
        written += 1
    return written
