"""The simulator's ground truth: stored beside the frames, and held against the reconstructions.

The truth is computed again here, not carried through the pipeline: it is a pure function
of seed, timepoint and position (and of what the run was steered to, which its folder says), and the hot path stays free
of it.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.simulator import SimulatedInstrument
from pipeline.experiment import Experiment
from pipeline.lifecycle.spread import spread_slots
from pipeline.quality import align_piston, psnr_db, rmse_rad, ssim
from pipeline.store.image_writer import write_images
from pipeline.store.reader import RunReader, slots_where
from pipeline.store.run_folder import RunFolder
from pipeline.store.steering_file import SteeringFile

# Computing the truth of a slot takes as long as simulating it; a dozen say how good a run is.
_MOST_COMPARED = 12
_METRICS = {"ssim": ssim, "psnr_db": psnr_db, "rmse_rad": rmse_rad}


def store_truth(folder: RunFolder, experiment: Experiment) -> None:
    """Write ``truth.ome.zarr``: phase (rad) and absorption of every recorded slot, on the specimen's own grid."""
    instrument = SimulatedInstrument(
        experiment, SteeringFile(folder.path).course(experiment.plan())
    )
    keys = slots_where(RunReader(folder.path).committed())
    if not keys:
        return
    scale = instrument.truth(*keys[0])[0].shape[0] // experiment.plan().frame_shape[0]
    write_images(
        folder.path / "truth.ome.zarr",
        experiment,
        ("phase", "absorption"),
        scale,
        ((key, np.stack(instrument.truth(*key))) for key in keys),
    )


def quality_against_truth(experiment: Experiment, reader: RunReader) -> dict[str, Any]:
    """Mean SSIM, PSNR and RMSE of phase images against the truth, piston aligned.

    Where there are more than a dozen images, a dozen of them, evenly spread, are compared, on the
    coarser of the two grids. A figure that is not defined (the PSNR of an empty field, the SSIM of
    a tiny one) is None.
    """
    course = SteeringFile(reader.folder.path).course(experiment.plan())
    instrument = SimulatedInstrument(experiment, course)
    chosen = spread_slots(reader.reconstructed(), most=_MOST_COMPARED)
    scores: dict[str, list[float]] = {name: [] for name in _METRICS}
    for key in chosen:
        truth, _ = instrument.truth(*key)
        image = reader.phase(key)[0]
        shape = (min(image.shape[0], truth.shape[0]), min(image.shape[1], truth.shape[1]))
        truth = area_means(truth, shape)
        image = align_piston(area_means(image, shape), truth)
        for name, metric in _METRICS.items():
            # A constant truth or a tiny field is no failure of the run: it has no such figure.
            with suppress(ValueError):
                scores[name].append(metric(image, truth))
    means = {name: _mean(values) for name, values in scores.items()}
    return means | {"images": len(chosen)}


def area_means(image: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """An image ``[Y, X]`` as means over the pixels of another grid of the same field; any ratio."""
    if image.shape == shape:
        return image
    means: NDArray[np.float64] = image.astype(np.float64)
    for axis, pixels in enumerate(shape):
        size = means.shape[axis]
        along = np.moveaxis(means, axis, 0)
        # The integral from the field's edge is linear within a pixel: read it at the new edges.
        integral = np.concatenate([np.zeros_like(along[:1]), along.cumsum(0)])
        edges = np.linspace(0, size, pixels + 1)
        whole = np.minimum(edges.astype(np.intp), size - 1)
        part = (edges - whole)[:, None]
        at_edges = (1 - part) * integral[whole] + part * integral[whole + 1]
        means = np.moveaxis(np.diff(at_edges, axis=0) * (pixels / size), 0, axis)
    return np.ascontiguousarray(means, np.float32)


def _mean(values: list[float]) -> float | None:
    mean = float(np.mean(values)) if values else math.nan
    return round(mean, 4) if math.isfinite(mean) else None
