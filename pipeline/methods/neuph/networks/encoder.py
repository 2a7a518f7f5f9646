"""Frames to latent: residual blocks without norms, on the camera's grid (EDSR; Lim et al., CVPR Workshops 2017)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from pipeline.methods.neuph.record import NeuPhNetwork


class _Block(nn.Module):
    def __init__(self, features: int, dilation: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(features, features, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv2d(features, features, 3, padding=dilation, dilation=dilation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, F, Y, X]`` → the same shape."""
        out: torch.Tensor = x + self.second(functional.relu_(self.first(x)))
        return out


class Encoder(nn.Module):
    """One kind of frame to its part of the latent.

    Decision. Brightfield of few LEDs tells nothing of wide cells but at their outlines, so their height has to be
    carried inwards from there, over tens of pixels. The paper's 32 blocks see 67 pixels far; a small network's 8
    see 19, and nearly all of its error lay at periods of 10 µm and more. Dilated convolutions (Yu and Koltun, ICLR
    2016) let 8 blocks see 49 for the same work, on every pixel alike, so that tiles fit together.
    """

    def __init__(self, images: int, record: NeuPhNetwork) -> None:
        super().__init__()
        features = record.features
        self.head = nn.Conv2d(images, features, 3, padding=1)
        dilations = record.dilations or (1,) * record.blocks
        self.blocks = nn.Sequential(*(_Block(features, dilation) for dilation in dilations))
        self.tail = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """``[B, images, Y, X]`` → ``[B, F, Y, X]``."""
        first = self.head(images)
        out: torch.Tensor = first + self.tail(self.blocks(first))
        return out


class Encoders(nn.Module):
    """Brightfield, darkfield and DPC images each through an encoder of their own.

    Parameters
    ----------
    record
        The network's sizes.
    """

    def __init__(self, record: NeuPhNetwork) -> None:
        super().__init__()
        self.images = record.encoders
        self.parts = nn.ModuleList(Encoder(n, record) for n in self.images)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """``[B, images, Y, X]`` (brightfield, darkfield, DPC) → latent ``[B, D, Y, X]``."""
        kinds = torch.split(inputs, list(self.images), dim=1)
        return torch.cat([part(kind) for part, kind in zip(self.parts, kinds, strict=True)], 1)
