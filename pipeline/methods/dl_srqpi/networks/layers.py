"""What the forms share: their interface, padding, and layers that fold for inference."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn
from torch.nn import functional

from pipeline.methods.dl_srqpi.conditions import NUMBERS
from pipeline.methods.dl_srqpi.networks.fused import convolve
from pipeline.methods.dl_srqpi.record import NetworkRecord


class Network(nn.Module, ABC):
    """A form of network.

    Parameters
    ----------
    record
        Its sizes.
    """

    body: nn.Module
    """The part that may compute in bf16; what comes after it stays in float32."""
    multiple: int
    """Frames are padded to sides that this divides."""
    reach: int
    """Camera pixels around a place that its phase depends on, `multiple` and comparisons aside: tiles overlap by it."""
    comparisons: int = 0
    """How often a phase is compared with the frame on the way: each time the kernels reach out and back."""

    def __init__(self, record: NetworkRecord) -> None:
        super().__init__()
        self.record = record

    @abstractmethod
    def forward(
        self, inputs: torch.Tensor, conditions: torch.Tensor, kernels: torch.Tensor
    ) -> torch.Tensor:
        """``[B, CHANNELS, Y, X]``, ``[B, NUMBERS]``, ``[B, u², n, n]`` → ``[B, 1, u·Y, u·X]`` radians."""

    def phases(
        self, inputs: torch.Tensor, conditions: torch.Tensor, kernels: torch.Tensor
    ) -> list[torch.Tensor]:
        """As `forward`, with the phases that were found on the way before it: what a training looks at."""
        return [self(inputs, conditions, kernels)]

    def inner_kernels(self) -> list[nn.Parameter]:
        """Of the body's convolutions but the first, which reads the inputs."""
        return [p for p in self.body.parameters() if p.ndim == 4][1:]

    @abstractmethod
    def specialise(self, conditions: torch.Tensor) -> None:
        """Fold norms and one set of conditions ``[NUMBERS]`` into the convolutions, in place, for inference only.

        The conditions of later calls don't matter.
        """


class Modulated(nn.Module):
    """Convolution 3 x 3 whose output is scaled and shifted, channel by channel, by the conditions.

    Perez et al., "FiLM: visual reasoning with a general conditioning layer", AAAI 2018. For known
    conditions it is one plain convolution.
    """

    def __init__(self, channels_in: int, channels_out: int, embedded: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.film: nn.Linear | None = nn.Linear(embedded, 2 * channels_out)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(
        self, x: torch.Tensor, embedding: torch.Tensor, *, relu: bool = False
    ) -> torch.Tensor:
        """``[B, channels_in, Y, X]``, ``[B, embedded]`` → ``[B, channels_out, Y, X]``."""
        if self.film is None:
            return convolve(self.conv, x, relu=relu)
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        out = torch.addcmul(shift, self.conv(x), 1 + scale)
        return functional.relu(out) if relu else out

    def fold(self, embedding: torch.Tensor) -> None:
        """Put the scale and shift of ``[embedded]`` into the convolution."""
        if self.film is None:
            return
        with torch.no_grad():
            scale, shift = self.film(embedding).chunk(2)
            self.conv.weight.mul_(1 + scale[:, None, None, None])
            assert self.conv.bias is not None  # made with one
            self.conv.bias.mul_(1 + scale).add_(shift)
        self.film = None


class Embedding(nn.Sequential):
    """Conditions ``[..., NUMBERS]`` → ``[..., features]`` that layers are modulated by."""

    def __init__(self, features: int) -> None:
        super().__init__(
            nn.Linear(NUMBERS, 2 * features),
            nn.SiLU(),
            nn.Linear(2 * features, features),
            nn.SiLU(),
        )


def pad_to_multiple(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """Mirror the last rows and columns until both sides divide by `multiple`.

    The edge itself is repeated, and as often as needed: a frame may be smaller than the padding.
    """
    for axis in (-2, -1):
        side = x.shape[axis]
        missing = -side % multiple
        if missing:
            # 0 1 2 | 2 1 0 0 1 2 …: the index runs forth and back.
            index = torch.arange(side + missing, device=x.device) % (2 * side)
            index = torch.where(index < side, index, 2 * side - 1 - index)
            x = x.index_select(axis, index)
    return x


def in_full_precision(layer: nn.Conv2d, features: torch.Tensor) -> torch.Tensor:
    """A last layer in float32 whatever the body ran in: bf16 phases would step by 0.4 %."""
    with torch.autocast(features.device.type, enabled=False):
        out: torch.Tensor = layer(features.float())
        return out
