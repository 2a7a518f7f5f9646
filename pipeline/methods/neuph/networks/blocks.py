"""What the encoders and the trunk are made of."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class ResidualBlock(nn.Module):
    """Two convolutions beside a way around them, no norms (EDSR; Lim et al., CVPR Workshops 2017)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(features, features, 3, padding=1)
        self.second = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, F, Y, X]`` → the same shape."""
        out: torch.Tensor = x + self.second(functional.relu_(self.first(x)))
        return out
