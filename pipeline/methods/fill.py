"""Pixels that can't be trusted, replaced by their neighbourhood before a transform spreads them over the field."""

from __future__ import annotations

import torch
from torch.nn.functional import avg_pool2d, interpolate


def fill_invalid(frames: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """`frames` with every invalid pixel replaced by the mean of the nearest valid ones.

    Parameters
    ----------
    frames, valid
        ``[B, K, Y, X]`` float32 and bool. The values of invalid pixels don't matter (NaN included).

    Returns
    -------
    torch.Tensor
        ``[B, K, Y, X]``; where a frame has no valid pixel at all, 1, the background.
    """
    if bool(valid.all()):
        return frames
    known = torch.where(valid, frames, torch.zeros_like(frames))
    return torch.where(valid, frames, _from_coarser(known, valid.to(frames.dtype)))


def _from_coarser(total: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Mean of the valid pixels in the smallest block of 2, 4, 8, … that has any."""
    mean = torch.where(share > 0, total / share.clamp(min=1e-12), torch.ones_like(total))
    if bool((share > 0).all()) or max(total.shape[-2:]) == 1:
        return mean
    pooled = (avg_pool2d(part, 2, ceil_mode=True) for part in (total, share))
    coarse = interpolate(_from_coarser(*pooled), scale_factor=2, mode="nearest")
    return torch.where(share > 0, mean, coarse[..., : total.shape[-2], : total.shape[-1]])
