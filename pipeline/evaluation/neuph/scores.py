"""The figures of one field, all but two with the piston aligned, and their means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.methods.background import zero_background
from pipeline.quality import align_piston, foreground_mask, frc_cutoff, psnr_db, rmse_rad, ssim

Image = NDArray[np.floating]

# Whether more is better.
FIGURES = {
    "mse": False,
    "psnr_db": True,
    "ssim": True,
    "frc_cutoff": True,
    "fm_distance": False,
    "low_frequency_rmse_rad": False,
    "background_std_rad": False,
    "ssim_zero_background": True,
    "dry_mass_error": False,
}
# Of the spectrum's greatest component, its mean removed: what counts in the frequency measure.
_COUNTED = 1e-3


def frequency_measure(image: Image) -> float:
    """FM: share of the Fourier components above a thousandth of the greatest, the mean removed.

    De and Masilamani, "Image sharpness measure for blurred images in frequency domain", Procedia Eng. 64, 149 (2013);
    without removing the mean it would depend on the piston.
    """
    size = np.abs(np.fft.fft2(image - np.mean(image)))
    return float((size > _COUNTED * size.max()).mean())


def score(
    image: Image, truth: Image, upsampling: int, pixel_um: float, na_per_um: float
) -> dict[str, float]:
    """`FIGURES` of one field, ``[u·Y, u·X]`` each.

    Alignment turns a small error of the cells into one of the whole background. So two figures are of the image as a
    user gets it, its background at zero by the rule of all methods: another SSIM, and the share by which the integral
    of the phase over the cells, their dry mass, is off.

    Parameters
    ----------
    pixel_um
        Of a phase pixel.
    na_per_um
        NA/λ of the objective, cycles/µm: frequencies below it are the low ones.
    """
    aligned = align_piston(image, truth)
    error = np.asarray(aligned, np.float64) - truth
    fy, fx = np.fft.fftfreq(truth.shape[0], pixel_um), np.fft.rfftfreq(truth.shape[1], pixel_um)
    low = np.fft.irfft2(
        np.fft.rfft2(error) * (fy[:, None] ** 2 + fx**2 <= na_per_um**2), s=truth.shape
    )
    cells = foreground_mask(truth)
    zeroed = zero_background(torch.from_numpy(np.asarray(image, np.float64))).numpy()
    return {
        "mse": float(np.mean(error**2)),
        "psnr_db": psnr_db(aligned, truth),
        "ssim": ssim(aligned, truth),
        "frc_cutoff": frc_cutoff(aligned, truth, upsampling),
        "fm_distance": abs(frequency_measure(image) - frequency_measure(truth)),
        "low_frequency_rmse_rad": float(np.sqrt(np.mean(low**2))),
        "background_std_rad": float("nan") if cells.all() else float(np.std(error[~cells])),
        "ssim_zero_background": ssim(zeroed, truth),
        "dry_mass_error": abs(float(zeroed[cells].sum() / truth[cells].sum()) - 1)
        if cells.any()
        else float("nan"),
        "rmse_rad": rmse_rad(aligned, truth),
    }


def mean_scores(scores: Sequence[dict[str, float]]) -> dict[str, float | None]:
    """Means over fields."""
    means: dict[str, float | None] = {}
    for name in FIGURES:
        values = [s[name] for s in scores if np.isfinite(s[name])]
        means[name] = float(np.mean(values)) if values else None
    return means
