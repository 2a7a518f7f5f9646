"""Crops of noisy frames, and random coordinates with their phase: a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Sequence
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


@dataclass(frozen=True)
class QuerySet:
    """Fields of one size, and how often they are drawn from.

    Parameters
    ----------
    inputs
        Of frames as large as the fields'.
    share
        Relative to the other sets'.
    """

    fields: NeuPhFields
    inputs: NeuPhInputs
    share: float = 1.0


class QueryBatches:
    """Draws crops and coordinates out of sets of fields."""

    def __init__(
        self,
        sets: Sequence[QuerySet],
        scale: InputScale,
        noise: PatternNoise,
        settings: NeuPhTraining,
    ) -> None:
        self._sets, self._scale = list(sets), scale
        self._noise, self._settings = noise, settings
        self._shares = np.array([s.share for s in sets]) / sum(s.share for s in sets)
        flat = [s.fields.phases.flatten(1) for s in sets]
        self._spans = [(f.amax(1) - f.amin(1)).float() for f in flat]

    def draw(self, seed: int, step: int) -> QueryBatch:
        """The batch of a step."""
        rng = np.random.default_rng([seed, step])
        drawn = [self._draw_one(rng) for _ in range(self._settings.batch)]
        inputs, rows, columns, phases, spans = zip(*drawn, strict=True)
        return QueryBatch(
            torch.stack(inputs),
            torch.stack(rows),
            torch.stack(columns),
            torch.stack(phases),
            torch.stack(spans),
        )

    def _draw_one(self, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        of = int(rng.choice(len(self._sets), p=self._shares))
        fields, s = self._sets[of].fields, self._settings
        n, u = int(rng.integers(len(fields))), fields.upsampling
        frames = fields.frames[n] if fields.noisy else self._noise(fields.frames[n], rng)
        valid = torch.ones_like(frames, dtype=torch.bool)
        seen = scaled(self._sets[of].inputs(frames[None], valid[None]), self._scale)[0]
        top, left = (int(rng.integers(side - s.crop_px + 1)) for side in frames.shape[-2:])
        y, x = torch.from_numpy(rng.integers(s.crop_px * u, size=(2, s.queries)))
        return (
            seen[:, top : top + s.crop_px, left : left + s.crop_px],
            ((y + 0.5) / u).double(),
            ((x + 0.5) / u).double(),
            fields.phases[n, y + top * u, x + left * u].float(),
            self._spans[of][n],
        )
