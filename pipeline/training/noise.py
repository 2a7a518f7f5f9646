"""Camera noise on frames whose background is 1."""

from __future__ import annotations

import numpy as np
import torch


def add_noise(frames: torch.Tensor, sigma: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Shot-like noise on ``[B, Y, X]``: `sigma` ``[B]`` is its standard deviation where they are 1."""
    unit = torch.from_numpy(rng.standard_normal(frames.shape, dtype=np.float32))
    return frames + sigma[:, None, None] * frames.clamp_min(0).sqrt() * unit
