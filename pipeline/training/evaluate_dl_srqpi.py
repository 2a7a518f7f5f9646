"""`livephase evaluate dl_srqpi`: held-out specimens, the live path, and what it has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.calibration import Calibration
from pipeline.experiment import Experiment
from pipeline.methods.dl_srqpi import DlSrqpi
from pipeline.methods.dl_srqpi.fit import default_weights
from pipeline.methods.dl_srqpi.header import read_record, sha256
from pipeline.methods.dl_srqpi.record import UPSAMPLING
from pipeline.quality import (
    align_piston,
    frc_cutoff,
    phase_slope,
    psnr_db,
    rmse_rad,
    ssim,
    ssim_foreground,
)
from pipeline.samples import heldout_field
from pipeline.training.baselines import Baselines
from pipeline.training.data import image_specimen
from pipeline.training.patches import add_noise

# The paper's 0.01 before its 4 x 4 binning; then a bright and an ordinary camera.
NOISE = (0.0025, 0.005, 0.01)
# Finer than any training's forward model, so that no shortcut is shared.
_OVERSAMPLING = 3

Image = NDArray[np.floating]


def evaluate_dl_srqpi(
    experiment: Experiment,
    weights: Path | None = None,
    *,
    fields: int = 10,
    field_px: int = 256,
    noise: tuple[float, ...] = NOISE,
    oversampling: int = _OVERSAMPLING,
    seed: int = 0,
) -> dict[str, Any]:
    """Score weights on families of specimens that no training draws from.

    Parameters
    ----------
    weights
        The experiment's, or those that come with livephase, where None.
    fields, field_px
        Specimens, and edge of each in camera pixels.
    noise
        Standard deviations per camera pixel, of the background; the first is the headline's.

    Returns
    -------
    dict
        ``ssim, ssim_foreground, frc_cutoff, psnr_db, rmse_rad`` (means over the fields, piston aligned),
        ``phase_slope, phase_slope_spread`` (over cells), ``by_noise`` and ``baselines`` of the same,
        ``fields`` one by one, and ``conditions``.

    Raises
    ------
    ExperimentError, MethodError
        If the weights don't fit the experiment, or can't be read.
    """
    method = DlSrqpi()
    named = experiment.reconstruction.weights
    path = weights or (Path(named) if named else default_weights(experiment))
    record = read_record(path)
    live = method.load(experiment, Calibration(), "cpu", path)
    baselines = Baselines(experiment, record.optics.z_um, field_px)
    z = record.optics.z_um
    rows: dict[str, list[dict[str, float]]] = {}
    by_noise: dict[str, list[dict[str, float]]] = {f"{sigma:g}": [] for sigma in noise}
    slopes: list[float] = []
    for number in range(seed, seed + fields):
        phase, frames = image_specimen(
            heldout_field, number, field_px, experiment.optics, record.optics, oversampling, (-z, z)
        )
        truth = phase.numpy()
        for sigma in noise:
            rng = np.random.default_rng([number, round(1e6 * sigma)])
            noisy = add_noise(frames, torch.full((2,), sigma), rng)
            stack = noisy[None, 1:]
            image = live(stack, torch.ones_like(stack, dtype=torch.bool)).images[0, 0].numpy()
            by_noise[f"{sigma:g}"].append(score(image, truth))
            if sigma == noise[0]:
                slopes += phase_slope(image, truth).slopes.tolist()
                for name, other in baselines(truth, noisy[0], noisy[1]).items():
                    rows.setdefault(name, []).append(score(other, truth))
    headline = by_noise[f"{noise[0]:g}"]
    return {
        **mean_scores(headline),
        "phase_slope": float(np.mean(slopes)) if slopes else None,
        "phase_slope_spread": float(np.std(slopes)) if slopes else None,
        "by_noise": {name: mean_scores(scores) for name, scores in by_noise.items()},
        "baselines": {name: mean_scores(scores) for name, scores in rows.items()},
        "fields": headline,
        "conditions": {
            "weights": path.name,
            "sha256": sha256(path),
            "specimens": f"held-out families, seeds {seed} to {seed + fields - 1}",
            "field_px": field_px,
            "noise": list(noise),
            "oversampling": oversampling,
            "z_um": z,
            "aligned": "piston",
        },
    }


def score(image: Image, truth: Image) -> dict[str, float]:
    """The five figures of one field, ``[4Y, 4X]`` each; the piston is aligned first."""
    aligned = align_piston(image, truth)
    return {
        "ssim": ssim(aligned, truth),
        "ssim_foreground": ssim_foreground(aligned, truth),
        "frc_cutoff": frc_cutoff(aligned, truth, UPSAMPLING),
        "psnr_db": psnr_db(aligned, truth),
        "rmse_rad": rmse_rad(aligned, truth),
    }


def mean_scores(scores: list[dict[str, float]]) -> Mapping[str, float | None]:
    """Means over fields; a field without foreground doesn't count in its SSIM."""
    means: dict[str, float | None] = {}
    for name in scores[0]:
        values = [s[name] for s in scores if np.isfinite(s[name])]
        means[name] = float(np.mean(values)) if values else None
    return means
