"""Frames to latent: residual blocks without norms, on the camera's grid (EDSR; Lim et al., CVPR Workshops 2017)."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.methods.neuph.networks.blocks import ResidualBlock
from pipeline.methods.neuph.networks.trunk import Trunk
from pipeline.methods.neuph.record import NeuPhNetwork


class Encoder(nn.Module):
    """One kind of frame to its part of the latent."""

    def __init__(self, images: int, blocks: int, features: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(images, features, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(features) for _ in range(blocks)))
        self.tail = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """``[B, images, Y, X]`` → ``[B, F, Y, X]``."""
        first = self.head(images)
        out: torch.Tensor = first + self.tail(self.blocks(first))
        return out


class Encoders(nn.Module):
    """Brightfield, darkfield and DPC images each through an encoder of their own, and together through the trunk.

    Parameters
    ----------
    record
        The network's sizes.
    """

    def __init__(self, record: NeuPhNetwork) -> None:
        super().__init__()
        self.images = record.encoders
        self.parts = nn.ModuleList(Encoder(n, record.blocks, record.features) for n in self.images)
        self.trunk = Trunk(record.latent, record.trunk) if record.trunk else nn.Identity()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """``[B, frames + 1, Y, X]`` (brightfield, darkfield, DPC) → latent ``[B, D, Y, X]``."""
        kinds = torch.split(inputs, list(self.images), dim=1)
        seen = torch.cat([part(kind) for part, kind in zip(self.parts, kinds, strict=True)], 1)
        latent: torch.Tensor = self.trunk(seen)
        return latent
