"""The five figures of one field, and their means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.quality import align_piston, frc_cutoff, psnr_db, rmse_rad, ssim, ssim_foreground

Image = NDArray[np.floating]
Scores = Mapping[str, float | None]

# Whether more is better.
FIGURES: Mapping[str, bool] = {
    "ssim": True,
    "ssim_foreground": True,
    "frc_cutoff": True,
    "psnr_db": True,
    "rmse_rad": False,
    "ssim_unaligned": True,
}


def score(image: Image, truth: Image, upsampling: float) -> dict[str, float]:
    """`FIGURES` of one field, ``[s·Y, s·X]`` each; the piston is aligned first.

    But for `ssim_unaligned`, of the image as it is, its background at zero. Aligned, an image whose cells are
    2 % too low has its background too high by a part of that, and SSIM takes that for an error everywhere.

    Parameters
    ----------
    upsampling
        Phase pixels per camera pixel along each axis.
    """
    aligned = align_piston(image, truth)
    return {
        "ssim": ssim(aligned, truth),
        "ssim_foreground": ssim_foreground(aligned, truth),
        "frc_cutoff": frc_cutoff(aligned, truth, upsampling),
        "psnr_db": psnr_db(aligned, truth),
        "rmse_rad": rmse_rad(aligned, truth),
        "ssim_unaligned": ssim(image, truth),
    }


def mean_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """Means over fields; a field without foreground doesn't count in its SSIM."""
    means: dict[str, float | None] = {}
    for name in FIGURES:
        values = [s[name] for s in scores if name in s and np.isfinite(s[name])]
        means[name] = float(np.mean(values)) if values else None
    return means
