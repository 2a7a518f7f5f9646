"""How good an image is, against the truth or by itself, by the conventions of the house. numpy and scipy only."""

from pipeline.quality.alignment import align_bowl, align_piston
from pipeline.quality.focus import normalised_variance
from pipeline.quality.histogram import Histogram, histogram, saturated_share
from pipeline.quality.pixelwise import psnr_db, rmse_rad
from pipeline.quality.resolution import frc_cutoff, nyquist_oracle
from pipeline.quality.slope import PhaseSlope, phase_slope
from pipeline.quality.structure import foreground_mask, ssim, ssim_foreground, ssim_map

__all__ = [
    "Histogram",
    "PhaseSlope",
    "align_bowl",
    "align_piston",
    "foreground_mask",
    "frc_cutoff",
    "histogram",
    "normalised_variance",
    "nyquist_oracle",
    "phase_slope",
    "psnr_db",
    "rmse_rad",
    "saturated_share",
    "ssim",
    "ssim_foreground",
    "ssim_map",
]
