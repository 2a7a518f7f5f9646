"""Crops of noisy frames, and random coordinates with their phase: a pure function of (seed, step)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.methods.neuph.inputs import NeuPhInputs, scaled
from pipeline.methods.neuph.record import InputScale
from pipeline.training.neuph.fields import NeuPhFields
from pipeline.training.neuph.settings import NeuPhTraining


@dataclass(frozen=True)
class QueryBatch:
    """What a step needs.

    Parameters
    ----------
    inputs
        ``[B, K + 1, crop, crop]`` as the encoders take them.
    rows, columns
        ``[B, Q]`` float64 camera pixels from the crop's corner.
    phases
        ``[B, Q]`` radians.
    spans
        ``[B]`` data range of each crop's whole field, radians.
    """

    inputs: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    phases: torch.Tensor
    spans: torch.Tensor


class PatternNoise:
    """A camera's noise on frames under patterns, which have very different light.

    Parameters
    ----------
    light
        ``[K]`` electrons that stand for 1 in each frame, in units of the brightfield background's.
    """

    def __init__(self, light: np.ndarray, settings: NeuPhTraining) -> None:
        self._light = torch.from_numpy(np.asarray(light, np.float32))[:, None, None]
        self._low, self._high = np.log(settings.background_e)
        self._read_e = settings.read_noise_e

    def __call__(self, frames: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """``[K, Y, X]`` with noise."""
        electrons = float(np.exp(rng.uniform(self._low, self._high))) * self._light
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        noise = torch.randn(frames.shape, generator=generator)
        # At these numbers of photons shot noise is Gaussian, but for the darkest pixels, where reading is noisier.
        variance = frames.clamp_min(0) * electrons + self._read_e**2
        return frames + noise * variance.sqrt() / electrons


class QueryBatches:
    """Draws crops and coordinates.

    Parameters
    ----------
    inputs
        Of frames as large as the fields'.
    """

    def __init__(
        self,
        fields: NeuPhFields,
        inputs: NeuPhInputs,
        scale: InputScale,
        noise: PatternNoise,
        settings: NeuPhTraining,
    ) -> None:
        self._fields, self._inputs, self._scale = fields, inputs, scale
        self._noise, self._settings = noise, settings
        flat = fields.phases.flatten(1)
        self._spans = (flat.amax(1) - flat.amin(1)).float()

    def draw(self, seed: int, step: int) -> QueryBatch:
        """The batch of a step."""
        rng = np.random.default_rng([seed, step])
        s, u = self._settings, self._fields.upsampling
        some = rng.integers(len(self._fields), size=s.batch)
        frames = torch.stack([self._noise(self._fields.frames[n], rng) for n in some])
        seen = scaled(self._inputs(frames, torch.ones_like(frames, dtype=torch.bool)), self._scale)
        inputs, rows, columns, phases = [], [], [], []
        room = self._fields.frames.shape[-1] - s.crop_px + 1
        for image, n in zip(seen, some, strict=True):
            top, left = (int(v) for v in rng.integers(room, size=2))
            inputs.append(image[:, top : top + s.crop_px, left : left + s.crop_px])
            y, x = torch.from_numpy(rng.integers(s.crop_px * u, size=(2, s.queries)))
            phases.append(self._fields.phases[n, y + top * u, x + left * u].float())
            rows.append((y + 0.5) / u)
            columns.append((x + 0.5) / u)
        return QueryBatch(
            torch.stack(inputs),
            torch.stack(rows).double(),
            torch.stack(columns).double(),
            torch.stack(phases),
            self._spans[torch.from_numpy(some)],
        )
