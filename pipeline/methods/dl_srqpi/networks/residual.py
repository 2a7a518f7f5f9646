"""The form that livephase ships: a residual U-Net on the camera's grid, modulated by the conditions."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from pipeline.methods.dl_srqpi.inputs import CHANNELS
from pipeline.methods.dl_srqpi.networks.fused import convolve, fine_image
from pipeline.methods.dl_srqpi.networks.layers import (
    Embedding,
    Modulated,
    Network,
    pad_to_multiple,
)
from pipeline.methods.dl_srqpi.record import NetworkRecord

_EMBEDDED = 32


class ResidualUNet(Network):
    """Corrects the linear estimate and puts in what lies beyond the camera's pixels.

    Against the paper's U-Net: it works on the camera's grid (a sixteenth of the pixels) and a pixel
    shuffle makes the fine one; residual blocks without batch norms, whose statistics hide the
    absolute contrast, and with it the scale of the phase; skips are added, not stacked; one
    network for all conditions.
    """

    body: _Body

    def __init__(self, record: NetworkRecord) -> None:
        super().__init__(record)
        self.multiple = record.stride * 2**record.levels
        self.body = _Body(record)
        self.head = nn.Conv2d(record.width, (record.stride * record.upsampling) ** 2, 3, padding=1)
        with torch.no_grad():
            self.head.weight *= 0.1  # the untrained network is nearly the linear estimate
        self.reach = record.stride * (2 + self.body.reach)

    def forward(self, inputs: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        """``[B, CHANNELS, Y, X]``, ``[B, NUMBERS]`` → ``[B, 1, u·Y, u·X]`` radians."""
        y, x = inputs.shape[-2:]
        padded, stride = pad_to_multiple(inputs, self.multiple), self.record.stride
        entering = padded if stride == 1 else functional.pixel_unshuffle(padded, stride)
        u = self.record.upsampling
        phase = fine_image(
            self.head,
            self.body(entering, conditions),
            u,
            stride=stride,
            plus=padded[:, 1:2].float(),
        )
        return phase[..., : u * y, : u * x]

    def specialise(self, conditions: torch.Tensor) -> None:
        """Fold the conditions ``[NUMBERS]``, in place."""
        with torch.no_grad():
            embedding = self.body.embed(conditions)
        for layer in self.body.modules():
            if isinstance(layer, Modulated):
                layer.fold(embedding)


class _Body(nn.Module):
    def __init__(self, record: NetworkRecord) -> None:
        super().__init__()
        # Features double down to four times the finest's and stay there: the coarse scales would hold
        # most of the parameters and hold little of the information.
        widths = [record.width * min(2**i, 4) for i in range(record.levels + 1)]
        depths = [record.depth] * record.levels + [2 * record.depth]
        self.embed = Embedding(_EMBEDDED)
        self.entry = nn.Conv2d(CHANNELS * record.stride**2, widths[0], 3, padding=1)
        self.encode = nn.ModuleList(_Blocks(w, d) for w, d in zip(widths, depths, strict=True))
        self.decode = nn.ModuleList(
            _Blocks(w, d) for w, d in zip(widths[:-1], depths[:-1], strict=True)
        )
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.rise = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairs
        )
        # Two convolutions a block; each scale's pixels are twice as large.
        sides = [2 * d * 2**i for i, d in enumerate(depths)]
        self.reach = sum(sides) + sum(sides[:-1]) + 2**record.levels

    def forward(self, x: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        """Features ``[B, width, Y, X]`` on the finest scale, before a ReLU, in the precision of the body's weights."""
        precision = self.entry.weight.dtype
        embedding = self.embed(conditions.to(precision))
        x = convolve(self.entry, x.to(precision))
        skips = []
        for encode, down in zip(self.encode, self.down, strict=False):
            x = encode(x, embedding)
            skips.append(x)
            x = down(x)
        x = self.encode[-1](x, embedding)
        for i in reversed(range(len(skips))):
            x = self.decode[i](self.rise[i](x) + skips[i], embedding)
        return x


class _Blocks(nn.ModuleList):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__(_Block(width) for _ in range(depth))

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        for block in self:
            x = block(x, embedding)
        return x


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = Modulated(width, width, _EMBEDDED)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        with torch.no_grad():
            self.second.weight *= 0.3  # a deep stack of blocks begins near the identity

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        return convolve(self.second, self.first(x, embedding, relu=True), plus=x)
