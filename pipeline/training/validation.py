"""Which weights of a training are kept: figures on specimens that it never trains on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import ExperimentError
from pipeline.methods.dl_srqpi.conditions import Conditions
from pipeline.methods.dl_srqpi.inference import DlSrqpiReconstructor
from pipeline.methods.dl_srqpi.networks import Network
from pipeline.quality import align_piston, psnr_db, rmse_rad, ssim, ssim_foreground
from pipeline.training.data import Fields
from pipeline.training.noise import add_noise
from pipeline.training.settings import TrainingSettings

Image = NDArray[np.floating]

_LEAST_PEAK_RAD = 0.3
# Noise of a good camera, in units of the least that is trained.
_NOISE = 1.7


@dataclass(frozen=True)
class Case:
    """One field to reconstruct: frame ``[1, 1, Y, X]``, conditions, true phase ``[u·Y, u·X]``."""

    frame: torch.Tensor
    conditions: Conditions
    truth: NDArray[np.float32]

    def reconstruct(self, network: Network) -> Image:
        """``[u·Y, u·X]`` through the live path, piston aligned to the truth."""
        live = DlSrqpiReconstructor(
            network, self.conditions, str(next(network.parameters()).device), graphs=False
        )
        phase = live(self.frame, torch.ones_like(self.frame, dtype=torch.bool)).images
        return align_piston(phase[0, 0].cpu().numpy(), self.truth)


class Validation:
    """Scores a network on fields kept back from its training.

    Parameters
    ----------
    fields
        Those with next to no specimen are left out.

    Raises
    ------
    ExperimentError
        If none is left.
    """

    def __init__(self, fields: Fields, settings: TrainingSettings) -> None:
        rng = np.random.default_rng(0)
        sigma = torch.tensor([_NOISE * settings.noise[0]])
        self.cases = []
        for phase, frames, conditions in zip(
            fields.phases, fields.frames, fields.conditions, strict=True
        ):
            if float(phase.max()) < _LEAST_PEAK_RAD:
                continue
            frame = frames[:1] if fields.noisy else add_noise(frames[:1], sigma, rng)
            self.cases.append(Case(frame[None], conditions[0], phase.float().numpy()))
        if not self.cases:
            raise ExperimentError(
                f"nothing kept back to validate with is thicker than {_LEAST_PEAK_RAD:g} rad",
                "record more, or thicker, specimens",
            )

    def __call__(self, network: Network) -> dict[str, float]:
        """Means over the fields; ``score``, higher is better, is that of both SSIM."""
        # Field by field, or the thickest specimen would decide alone.
        scores = [_figures(case.reconstruct(network), case.truth) for case in self.cases]
        means = {name: float(np.nanmean([s[name] for s in scores])) for name in scores[0]}
        return {"score": (means["ssim"] + means["ssim_foreground"]) / 2, **means}


def _figures(image: Image, truth: NDArray[np.float32]) -> dict[str, float]:
    return {
        "ssim": ssim(image, truth),
        "ssim_foreground": ssim_foreground(image, truth),
        "psnr_db": psnr_db(image, truth),
        "rmse_rad": rmse_rad(image, truth),
    }
