"""Batches of noisy patches with their true phase, a pure function of (seed, step)."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.methods.dl_srqpi.record import UPSAMPLING
from pipeline.training.data import Fields
from pipeline.training.settings import TrainingSettings

# A patch in which less than this share lies above the background teaches little and is mostly
# passed over.
_LEAST_CONTENT = 0.02
_CONTENT_RAD = 0.15
_ATTEMPTS = 4


def draw_batch(
    fields: Fields, settings: TrainingSettings, seed: int, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """One batch for the network.

    Parameters
    ----------
    fields
        Their frames divided by their own means.

    Returns
    -------
    inputs, phases
        ``[B, 1, patch, patch]`` and ``[B, 1, 4·patch, 4·patch]``.
    """
    rng = np.random.default_rng([seed, step])
    pairs = [_patch(fields, settings.patch_px, rng) for _ in range(settings.batch)]
    low, high = np.log(settings.noise)
    sigma = np.exp(rng.uniform(low, high, settings.batch)).astype(np.float32)
    frames = add_noise(torch.stack([f for f, _ in pairs]), torch.from_numpy(sigma), rng)
    inputs = (frames - 1) * settings.contrast_gain
    return inputs[:, None], torch.stack([p for _, p in pairs])[:, None]


def add_noise(frames: torch.Tensor, sigma: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Shot-like noise on ``[B, Y, X]``: `sigma` ``[B]`` is its standard deviation where they are 1."""
    unit = torch.from_numpy(rng.standard_normal(frames.shape, dtype=np.float32))
    return frames + sigma[:, None, None] * frames.clamp_min(0).sqrt() * unit


def _patch(
    fields: Fields, side: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """``[side, side]``, ``[4·side, 4·side]``: a place in a field, turned and mirrored at random."""
    room = np.array(fields.frames.shape[-2:]) - side + 1
    for _ in range(_ATTEMPTS):
        n = int(rng.integers(len(fields.frames)))
        y, x = (int(v) for v in rng.integers(room))
        phase = fields.phases[
            n, y * UPSAMPLING : (y + side) * UPSAMPLING, x * UPSAMPLING : (x + side) * UPSAMPLING
        ]
        if (phase[::8, ::8] > _CONTENT_RAD).float().mean() >= _LEAST_CONTENT:
            break
    frame = fields.frames[n, y : y + side, x : x + side]
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    frame, phase = torch.rot90(frame, turns), torch.rot90(phase, turns)
    return (frame.flip(-1), phase.flip(-1)) if mirrored else (frame, phase)
