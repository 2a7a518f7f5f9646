"""Which weights of a training are kept: figures on fields that it never trains on."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.methods.background import zero_background
from pipeline.methods.neuph.inputs import NeuPhInputs, scaled
from pipeline.methods.neuph.networks import Grid, NeuPh
from pipeline.methods.neuph.record import InputScale
from pipeline.methods.precision import body_dtype
from pipeline.quality import align_piston, psnr_db, rmse_rad, ssim
from pipeline.training.neuph.batches import PatternNoise
from pipeline.training.neuph.fields import NeuPhFields

# Edge in camera pixels of what is looked at: the decoder is asked for 36 points of each.
_LOOKED_AT_PX = 64


class NeuPhValidation:
    """Scores a network on kept back fields, their noise drawn once."""

    def __init__(
        self, fields: NeuPhFields, inputs: NeuPhInputs, scale: InputScale, noise: PatternNoise
    ) -> None:
        rng = np.random.default_rng(0)
        frames = torch.stack([noise(f, rng) for f in fields.frames])
        seen = scaled(inputs(frames, torch.ones_like(frames, dtype=torch.bool)), scale)
        side, u = min(_LOOKED_AT_PX, seen.shape[-1]), fields.upsampling
        first = (seen.shape[-1] - side) // 2
        fine = slice(first * u, (first + side) * u)
        self._seen = seen
        self._asked = Grid.region((first, first), (side, side), u)
        self._truths = [phase[fine, fine].float().numpy() for phase in fields.phases]
        self._cell = 1 / u

    def reconstruct(self, network: NeuPh, number: int) -> np.ndarray:
        """Phase ``[u·Y, u·X]`` of one field, piston aligned."""
        device = next(network.parameters()).device
        with torch.inference_mode():
            seen = self._seen[number : number + 1].to(device)
            decoder = network.ready_decoder(device, body_dtype(device, "auto"))
            latent = decoder.prepared(network.encoders(seen))
            phase = zero_background(decoder(latent, self._asked, self._cell))[0]
        return align_piston(phase.cpu().numpy(), self._truths[number])

    def __call__(self, network: NeuPh) -> dict[str, float]:
        """Means over the fields; ``score`` is the PSNR: of a few fields it wavers less than the SSIM does."""
        figures = []
        for number, truth in enumerate(self._truths):
            image = self.reconstruct(network, number)
            figures.append((ssim(image, truth), psnr_db(image, truth), rmse_rad(image, truth)))
        mean = np.nanmean(figures, axis=0)
        return {
            "score": float(mean[1]),
            "ssim": float(mean[0]),
            "psnr_db": float(mean[1]),
            "rmse_rad": float(mean[2]),
        }
