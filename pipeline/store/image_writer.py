"""Writes an image series that needs no ledger: it can be made again at any time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.experiment import Experiment
from pipeline.frames import SlotKey
from pipeline.store.arrays import begin_write, make_context, open_array
from pipeline.store.failures import write_failure
from pipeline.store.layout import array_path, create_phase
from pipeline.store.pyramid import pyramid


def write_images(
    store: Path,
    experiment: Experiment,
    channels: Sequence[str],
    upsampling: int,
    images: Iterable[tuple[SlotKey, NDArray[np.float32]]],
) -> None:
    """Write ``[C, s·Y, s·X]`` images by slot into a store laid out as the phase is, pyramid included.

    Parameters
    ----------
    channels
        Name of each of the C images.
    upsampling
        s: image pixels per camera pixel.

    Raises
    ------
    StoreError
        The store can't be written.
    """
    plan = experiment.plan()
    layout = create_phase(store, experiment, channels, upsampling, experiment.pixel_um)
    context = make_context()
    for key, image in images:
        for number, level in enumerate(pyramid(image, len(layout.level_shapes))):
            path = array_path(store, plan, key.position, number)
            shard = path / layout.shard_name(key.timepoint)
            error = begin_write(open_array(path, context), key.timepoint, level, shard).exception()
            if error is not None:
                raise write_failure(store, error) from error
