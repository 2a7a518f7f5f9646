"""The latent put together over distance, after the encoders have seen each kind of frame by itself.

Decision. How high a thick cell is, DPC has wrong by tens of percent, and the other frames tell: steep slopes are dark
in the one half circle's frame and bright in a darkfield frame's. But what is right about a slope has to be summed up
over the whole cell to be a height, and a decoder that sees 3 x 3 latent pixels can't: nine tenths of the error of
encoders alone lay at periods over 10 µm. So the kinds meet before the sum: convolutions at a half, a quarter and an
eighth of the resolution, where a far sight costs little.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from pipeline.methods.neuph.networks.blocks import ResidualBlock


class Trunk(nn.Module):
    """A latent and what its surroundings add to it.

    Parameters
    ----------
    features
        Of the latent.
    widths
        Features at a half, a quarter, … of the resolution.
    """

    def __init__(self, features: int, widths: Sequence[int]) -> None:
        super().__init__()
        self._multiple = 2 ** len(widths)
        self.coarser = _Coarser(features, widths)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """``[B, F, Y, X]`` → the same shape, of any Y and X."""
        y, x = latent.shape[-2:]
        beyond = (0, -x % self._multiple, 0, -y % self._multiple)
        whole = functional.pad(latent, beyond, mode="replicate") if any(beyond) else latent
        added: torch.Tensor = self.coarser(whole)
        return latent + added[..., :y, :x]


class _Coarser(nn.Module):
    """From one resolution to half of it and back, and between the two further down."""

    def __init__(self, features: int, widths: Sequence[int]) -> None:
        super().__init__()
        width, *further = widths
        self.down = nn.Conv2d(features, width, 3, stride=2, padding=1)
        self.before = ResidualBlock(width)
        self.coarser = _Coarser(width, further) if further else None
        self.after = ResidualBlock(width)
        self.up = nn.Conv2d(width, 4 * features, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, F, Y, X]`` → the same shape."""
        x = self.before(self.down(x))
        if self.coarser is not None:
            x = x + self.coarser(x)
        return functional.pixel_shuffle(self.up(self.after(x)), 2)
