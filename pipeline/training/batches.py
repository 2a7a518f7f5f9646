"""Batches of noisy patches with their true phase, a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional

from pipeline.methods.dl_srqpi.inputs import NetworkInputs
from pipeline.training.data import Fields
from pipeline.training.noise import add_noise
from pipeline.training.settings import TrainingSettings

# A patch in which less than this share lies above the background teaches little and is mostly
# passed over.
_LEAST_CONTENT = 0.02
_CONTENT_RAD = 0.15
_ATTEMPTS = 3
# Filters kept, one for each frame's conditions: 65 kB each for frames of 128². Made anew within milliseconds.
_FILTERS = 4096
# Half of the noise's range, in its logarithm, is drawn in two cases of three.
_QUIET = 1.7


@dataclass(frozen=True)
class Batch:
    """What a step needs.

    Parameters
    ----------
    inputs, conditions
        ``[B, CHANNELS, patch, patch]`` and ``[B, NUMBERS]``, as a network takes them.
    phases
        ``[B, 1, u·patch, u·patch]`` radians.
    kernels
        ``[B, u², n, n]``, as a network takes them.
    spans
        ``[B]`` data range of each patch's whole field, radians.
    """

    inputs: torch.Tensor
    conditions: torch.Tensor
    kernels: torch.Tensor
    phases: torch.Tensor
    spans: torch.Tensor


class Batches:
    """Draws from data sets in given shares, each patch under its frame's own conditions.

    Parameters
    ----------
    sets, shares
        Data sets of one frame size each, and how often each is drawn from.
    """

    def __init__(
        self, sets: Sequence[Fields], shares: Sequence[float], settings: TrainingSettings
    ) -> None:
        self._sets, self._settings = list(sets), settings
        self._shares = np.asarray(shares, np.float64) / np.sum(shares)
        self._spans = [
            (s.phases.flatten(1).amax(1) - s.phases.flatten(1).amin(1)).float() for s in sets
        ]
        self._inputs_for = lru_cache(_FILTERS)(NetworkInputs)

    def draw(self, seed: int, step: int) -> Batch:
        """The batch of a step."""
        rng = np.random.default_rng([seed, step])
        drawn = [self._draw_one(rng) for _ in range(self._settings.batch)]
        inputs, conditions, kernels, phases, spans = zip(*drawn, strict=True)
        return Batch(
            torch.stack(inputs),
            torch.stack(conditions),
            _stacked(kernels),
            torch.stack(phases)[:, None],
            torch.stack(spans),
        )

    def _draw_one(
        self, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        of = int(rng.choice(len(self._sets), p=self._shares))
        fields, u = self._sets[of], self._sets[of].upsampling
        side = self._settings.patch_px
        room = np.array(fields.frames.shape[-2:]) - side + 1
        for _ in range(_ATTEMPTS):
            n, k = int(rng.integers(len(fields))), int(rng.integers(fields.frames.shape[1]))
            y, x = (int(v) for v in rng.integers(room))
            phase = fields.phases[n, y * u : (y + side) * u, x * u : (x + side) * u]
            if (phase[::8, ::8] > _CONTENT_RAD).float().mean() >= _LEAST_CONTENT:
                break
        frame, conditions = fields.frames[n, k][None], fields.conditions[n][k]
        if not fields.noisy:
            low, high = np.log(self._settings.noise)
            # Good cameras are the more frequent ones.
            sigma = torch.tensor([float(np.exp(low + (high - low) * rng.random() ** _QUIET))])
            frame = add_noise(frame, sigma, rng)
        inputs = self._inputs_for(conditions, (frame.shape[-2], frame.shape[-1]))
        patch = inputs(frame)[0, :, y : y + side, x : x + side]
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        patch = torch.rot90(patch, turns, (1, 2))
        phase = torch.rot90(phase.float(), turns)
        if mirrored:
            patch, phase = patch.flip(-1), phase.flip(-1)
        numbers = torch.from_numpy(conditions.numbers())
        # The same for a patch that is turned or mirrored: pixels are square, and light spreads evenly.
        return patch, numbers, inputs.kernels(u)[0], phase, self._spans[of][n]


def _stacked(kernels: Sequence[torch.Tensor]) -> torch.Tensor:
    """``[B, u², n, n]`` with zeros around those that reach less far."""
    most = max(kernel.shape[-1] for kernel in kernels)
    edges = ((most - kernel.shape[-1]) // 2 for kernel in kernels)
    return torch.stack(
        [functional.pad(kernel, (edge,) * 4) for kernel, edge in zip(kernels, edges, strict=True)]
    )
