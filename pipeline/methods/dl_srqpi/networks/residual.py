"""The form that livephase ships: residual U-Nets on the camera's grid, modulated by the conditions."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from pipeline.methods.dl_srqpi.frame_model import explained, sent_back
from pipeline.methods.dl_srqpi.inputs import CHANNELS, ESTIMATE
from pipeline.methods.dl_srqpi.networks.fused import convolve, fine_image
from pipeline.methods.dl_srqpi.networks.layers import (
    Embedding,
    Modulated,
    Network,
    in_full_precision,
    pad_to_multiple,
)
from pipeline.methods.dl_srqpi.record import NetworkRecord, UNetRecord

_EMBEDDED = 32


class ResidualUNet(Network):
    """Corrects the linear estimate and puts in what lies beyond the camera's pixels, in one go or in several.

    Against the paper's U-Net: it works on the camera's grid (a sixteenth of the pixels) and a pixel
    shuffle makes the fine one; residual blocks without batch norms, whose statistics hide the
    absolute contrast, and with it the scale of the phase; skips are added, not stacked; one
    network for all conditions. Of several U-Nets, each corrects the phase of the one before, and is told what
    of the frame that phase leaves unexplained (`frame_model`).
    """

    body: _Body

    def __init__(self, record: NetworkRecord) -> None:
        super().__init__(record)
        fine = record.upsampling**2
        self.body = _Body(record)
        self.heads = nn.ModuleList(nn.Conv2d(u.width, fine, 3, padding=1) for u in record.unets)
        with torch.no_grad():
            for _, head in self._pairs():
                head.weight *= 0.1  # the untrained network is nearly the linear estimate
        self.multiple = 2 ** max(u.levels for u in record.unets)
        self.comparisons = len(record.earlier)
        self.reach = sum(2 + unet.reach for unet, _ in self._pairs())

    def forward(
        self, inputs: torch.Tensor, conditions: torch.Tensor, kernels: torch.Tensor
    ) -> torch.Tensor:
        """``[B, CHANNELS, Y, X]``, ``[B, NUMBERS]``, ``[B, u², n, n]`` → ``[B, 1, u·Y, u·X]`` radians."""
        return self._cropped(self._found(inputs, conditions, kernels)[-1], inputs)

    def phases(
        self, inputs: torch.Tensor, conditions: torch.Tensor, kernels: torch.Tensor
    ) -> list[torch.Tensor]:
        """Of each U-Net, the last one last."""
        *earlier, last = self._found(inputs, conditions, kernels)
        fine = [functional.pixel_shuffle(phase, self.record.upsampling) for phase in earlier]
        return [self._cropped(phase, inputs) for phase in (*fine, last)]

    def _found(
        self, inputs: torch.Tensor, conditions: torch.Tensor, kernels: torch.Tensor
    ) -> list[torch.Tensor]:
        """Of padded inputs: ``[B, u², Y, X]`` of the earlier U-Nets, ``[B, 1, u·Y, u·X]`` of the last."""
        seen = padded = pad_to_multiple(inputs, self.multiple)
        frame, phase = padded[:, :1].float(), padded[:, ESTIMATE : ESTIMATE + 1].float()
        embedding = self.body.embedding(conditions)
        *earlier, (unet, head) = self._pairs()
        found = []
        for its_unet, its_head in earlier:
            features = functional.relu(its_unet(seen, embedding))
            phase = phase + in_full_precision(its_head, features)
            found.append(phase)
            with torch.autocast(phase.device.type, enabled=False):
                missing = frame - explained(phase, kernels)
                asked = sent_back(missing, kernels)
            # In the layout and precision of what reads them: converted one by one in a third of the time.
            seen = torch.cat(
                [
                    told.to(features.dtype).contiguous(memory_format=torch.channels_last)
                    for told in (padded, phase, asked, missing, features)
                ],
                1,
            )
        features = unet(seen, embedding)
        return [*found, fine_image(head, features, self.record.upsampling, plus=phase)]

    def _pairs(self) -> list[tuple[_UNet, nn.Conv2d]]:
        """Each U-Net with its last layer."""
        pairs = zip(self.body.unets, self.heads, strict=True)
        return [(cast(_UNet, unet), cast(nn.Conv2d, head)) for unet, head in pairs]

    def _cropped(self, phase: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        (y, x), u = inputs.shape[-2:], self.record.upsampling
        return phase[..., : u * y, : u * x]

    def specialise(self, conditions: torch.Tensor) -> None:
        """Fold the conditions ``[NUMBERS]``, in place."""
        with torch.no_grad():
            embedding = self.body.embed(conditions)
        for layer in self.body.modules():
            if isinstance(layer, Modulated):
                layer.fold(embedding)


class _Body(nn.Module):
    """All that may compute in bf16."""

    def __init__(self, record: NetworkRecord) -> None:
        super().__init__()
        self.embed = Embedding(_EMBEDDED)
        unets, channels = [], CHANNELS
        for sizes in record.unets:
            unets.append(_UNet(channels, sizes))
            # The next one is told the inputs, the phase, what it leaves unexplained and where that comes from, and
            # these features.
            channels = CHANNELS + 2 * record.upsampling**2 + 1 + sizes.width
        self.unets = nn.ModuleList(unets)

    def embedding(self, conditions: torch.Tensor) -> torch.Tensor:
        """Of ``[B, NUMBERS]``, in the precision of the weights."""
        out: torch.Tensor = self.embed(conditions.to(next(self.parameters()).dtype))
        return out


class _UNet(nn.Module):
    def __init__(self, channels: int, sizes: UNetRecord) -> None:
        super().__init__()
        # Features double down to four times the finest's and stay there: the coarse scales would hold
        # most of the parameters and hold little of the information.
        widths = [sizes.width * min(2**i, 4) for i in range(sizes.levels + 1)]
        depths = sizes.depths
        self.entry = nn.Conv2d(channels, widths[0], 3, padding=1)
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
        self.reach = sum(sides) + sum(sides[:-1]) + 2**sizes.levels

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Features ``[B, width, Y, X]`` on the finest scale, before a ReLU, in the precision of the weights."""
        x = convolve(self.entry, x.to(self.entry.weight.dtype))
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
