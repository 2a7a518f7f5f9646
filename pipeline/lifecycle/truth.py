"""The simulator's ground truth: stored beside the frames, and held against the reconstructions.

The truth is computed again here, not carried through the pipeline: it is a pure function
of seed, timepoint and position, and the hot path stays free of it.
"""

from __future__ import annotations

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

# Computing the truth of a slot takes as long as simulating it; a dozen say how good a run is.
_MOST_COMPARED = 12


def store_truth(folder: RunFolder, experiment: Experiment) -> None:
    """Write ``truth.ome.zarr``: phase (rad) and absorption of every recorded slot, on the specimen's own grid."""
    instrument = SimulatedInstrument(experiment)
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

    Where there are more than a dozen images, a dozen of them, evenly spread, are compared.
    """
    instrument = SimulatedInstrument(experiment)
    chosen = spread_slots(reader.reconstructed(), most=_MOST_COMPARED)
    scores = []
    for key in chosen:
        truth, _ = instrument.truth(*key)
        image = reader.phase(key)[0]
        truth = _on_grid(truth, image.shape)
        image = align_piston(image, truth)
        scores.append((ssim(image, truth), psnr_db(image, truth), rmse_rad(image, truth)))
    mean = np.mean(scores, axis=0)
    names = ("ssim", "psnr_db", "rmse_rad")
    return {name: round(float(v), 4) for name, v in zip(names, mean, strict=True)} | {
        "images": len(chosen)
    }


def _on_grid(truth: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The truth as means over the reconstruction's pixels, where those are coarser."""
    n = truth.shape[0] // shape[0]
    if truth.shape == shape or n < 1:
        return truth
    coarse: NDArray[np.float32] = truth.reshape(shape[0], n, shape[1], n).mean(
        axis=(1, 3), dtype=np.float32
    )
    return coarse
