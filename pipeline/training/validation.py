"""Which weights of a training are kept: figures on specimens that it never trains on."""

from __future__ import annotations

import copy

import numpy as np
import torch

from pipeline.methods.dl_srqpi.inference import DlSrqpiReconstructor
from pipeline.methods.dl_srqpi.networks import DlSrqpiNetwork
from pipeline.training.data import Fields
from pipeline.training.patches import add_noise
from pipeline.training.settings import TrainingSettings


class Validation:
    """Reconstructs whole fields through the live path, at the middle of the trained noise.

    Parameters
    ----------
    fields
        Kept back from the training.
    """

    def __init__(self, fields: Fields, settings: TrainingSettings) -> None:
        sigma = float(np.sqrt(settings.noise[0] * settings.noise[1]))
        count = len(fields.frames)
        noisy = add_noise(fields.frames, torch.full((count,), sigma), np.random.default_rng(0))
        self._frames, self._truth = noisy[:, None], fields.phases[:, None]
        self._gain = settings.contrast_gain

    def __call__(self, network: DlSrqpiNetwork) -> dict[str, float]:
        """``score`` (higher is better) and ``rmse_rad``, over all fields."""
        device = str(next(network.parameters()).device)
        live = DlSrqpiReconstructor(copy.deepcopy(network), self._gain, device)
        phase = live(self._frames, torch.ones_like(self._frames, dtype=torch.bool)).images.cpu()
        rmse = float((phase - self._truth).square().mean().sqrt())
        return {"score": -rmse, "rmse_rad": rmse}
