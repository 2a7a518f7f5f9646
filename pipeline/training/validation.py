"""Which weights of a training are kept: figures on specimens that it never trains on."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.methods.dl_srqpi.inference import DlSrqpiReconstructor
from pipeline.methods.dl_srqpi.networks import DlSrqpiNetwork
from pipeline.quality import align_piston, psnr_db, rmse_rad
from pipeline.training.data import Fields
from pipeline.training.patches import add_noise
from pipeline.training.settings import TrainingSettings


class Validation:
    """Reconstructs whole fields through the live path, at the middle of the trained noise.

    Parameters
    ----------
    fields
        Kept back from the training; one without a specimen is left out.
    """

    def __init__(self, fields: Fields, settings: TrainingSettings) -> None:
        sigma = float(np.sqrt(settings.noise[0] * settings.noise[1]))
        shown = fields.phases.amax((-2, -1)) > 0
        frames, phases = fields.frames[shown], fields.phases[shown]
        noisy = add_noise(frames, torch.full((len(frames),), sigma), np.random.default_rng(0))
        self._frames, self._truth = noisy[:, None], phases[:, None]
        self._gain = settings.contrast_gain

    def __call__(self, network: DlSrqpiNetwork) -> dict[str, float]:
        """``score`` (higher is better: it is ``psnr_db``) and ``rmse_rad``, means over the fields."""
        device = str(next(network.parameters()).device)
        live = DlSrqpiReconstructor(copy.deepcopy(network), self._gain, device)
        phase = live(self._frames, torch.ones_like(self._frames, dtype=torch.bool)).images.cpu()
        # Field by field, or the thickest specimen would decide alone; aligned, or the few fields without
        # any background would, whose piston no method knows.
        pairs = zip(phase[:, 0].numpy(), self._truth[:, 0].numpy(), strict=True)
        scores = [_figures(align_piston(image, truth), truth) for image, truth in pairs]
        psnr, rmse = (float(np.mean(column)) for column in zip(*scores, strict=True))
        return {"score": psnr, "psnr_db": psnr, "rmse_rad": rmse}


def _figures(image: NDArray[np.float64], truth: NDArray[np.float32]) -> tuple[float, float]:
    return psnr_db(image, truth), rmse_rad(image, truth)
