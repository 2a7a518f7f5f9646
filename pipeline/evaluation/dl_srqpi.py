"""`livephase evaluate dl_srqpi`: held-out specimens, the live path, and what it has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.calibration import Calibration
from pipeline.evaluation.baselines import Baselines
from pipeline.evaluation.field_set import EvaluationSet, evaluation_field
from pipeline.evaluation.forward import Conditions
from pipeline.evaluation.noise import pixel_noise
from pipeline.experiment import Condenser, Experiment
from pipeline.methods.dl_srqpi import DlSrqpi
from pipeline.methods.dl_srqpi.fit import default_weights
from pipeline.methods.dl_srqpi.header import read_record, sha256
from pipeline.quality import (
    align_piston,
    frc_cutoff,
    phase_slope,
    psnr_db,
    rmse_rad,
    ssim,
    ssim_foreground,
)

# The paper's 0.01 before its 4 x 4 binning; then a bright and an ordinary camera.
NOISE = (0.0025, 0.005, 0.01)

Image = NDArray[np.floating]


def evaluate_dl_srqpi(
    experiment: Experiment,
    weights: Path | None = None,
    *,
    fields: int = 14,
    field_px: int = 512,
    noise: tuple[float, ...] = NOISE,
    seed: int = 0,
) -> dict[str, Any]:
    """Score weights on families of specimens that no training draws from.

    Parameters
    ----------
    weights
        The experiment's, or those that come with livephase, where None.
    fields, field_px
        Specimens of the evaluation set, and edge of each in camera pixels.
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
    z, upsampling = record.optics.z_um, record.network.upsampling
    light = experiment.illumination
    coherence = light.coherence if isinstance(light, Condenser) else 0.0
    taken = [Conditions(sign * z, coherence) for sign in (-1, 1)]
    members = EvaluationSet(seed, fields)
    baselines = Baselines(experiment, z, field_px, upsampling)
    rows: dict[str, list[dict[str, float]]] = {}
    by_noise: dict[str, list[dict[str, float]]] = {f"{sigma:g}": [] for sigma in noise}
    slopes: list[float] = []
    for number, member in enumerate(members.members):
        specimen = evaluation_field(
            *member,
            experiment.optics,
            experiment.pixel_um,
            field_px,
            upsampling,
            farthest_um=z,
        )
        truth, frames = specimen.truth, specimen.frames(taken, workers=torch.get_num_threads())
        for sigma in noise:
            rng = np.random.default_rng([seed, number, round(1e6 * sigma)])
            before, behind = (torch.from_numpy(pixel_noise(f, rng, sigma)) for f in frames)
            stack = behind[None, None]
            found = live(stack, torch.ones_like(stack, dtype=torch.bool)).images[0, 0].numpy()
            by_noise[f"{sigma:g}"].append(score(found, truth, upsampling))
            if sigma == noise[0]:
                slopes += phase_slope(found, truth).slopes.tolist()
                for name, other in baselines(truth, before, behind).items():
                    rows.setdefault(name, []).append(score(other, truth, upsampling))
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
            "specimens": members.name,
            "field_px": field_px,
            "noise": list(noise),
            "z_um": z,
            "coherence": coherence,
            "aligned": "piston",
        },
    }


def score(image: Image, truth: Image, upsampling: float = 4) -> dict[str, float]:
    """The five figures of one field, ``[s·Y, s·X]`` each; the piston is aligned first."""
    aligned = align_piston(image, truth)
    return {
        "ssim": ssim(aligned, truth),
        "ssim_foreground": ssim_foreground(aligned, truth),
        "frc_cutoff": frc_cutoff(aligned, truth, upsampling),
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
