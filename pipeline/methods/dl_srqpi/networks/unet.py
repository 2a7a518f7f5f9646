"""The paper's U-Net, and its sub-pixel form: on the camera's grid, with a pixel shuffle at the end."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.methods.dl_srqpi.inputs import CHANNELS
from pipeline.methods.dl_srqpi.networks.fused import convolve, fine_image
from pipeline.methods.dl_srqpi.networks.layers import Network, in_full_precision, pad_to_multiple
from pipeline.methods.dl_srqpi.record import NetworkRecord


class ConvBlock(nn.Module):
    """Convolution 3 x 3 at stride 1, batch normalisation, ReLU.

    The paper's text says stride 2; only stride 1 gives the shapes of its figure.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(channels_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, channels_in, Y, X]`` → ``[B, channels_out, Y, X]``."""
        if isinstance(self.norm, nn.Identity):
            return convolve(self.conv, x, relu=True)
        return functional.relu(self.norm(self.conv(x)), inplace=True)


def _twice(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        ConvBlock(channels_in, channels_out), ConvBlock(channels_out, channels_out)
    )


class UNetBody(nn.Module):
    """Encoder and decoder with skips; ``[B, channels, Y, X]`` → ``[B, widths[0], Y, X]``.

    Parameters
    ----------
    widths
        Features at each scale, the finest first; ``len(widths) - 1`` times down and up. Y and X
        must be divisible by two that often.
    """

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.entry = _twice(channels, widths[0])
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(_twice(fine, coarse) for fine, coarse in pairs)
        self.rise = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in reversed(pairs)
        )
        self.up = nn.ModuleList(_twice(2 * fine, fine) for fine, _ in reversed(pairs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features on the grid of the input, in the precision of the body's own weights."""
        x = self.entry(x.to(next(self.parameters()).dtype))
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(functional.max_pool2d(x, 2))
        for rise, up in zip(self.rise, self.up, strict=True):
            x = up(torch.cat([skips.pop(), rise(x)], dim=1))
        return x


class _UNet(Network):
    """What both forms share: conditions reach them by the inputs alone."""

    head: nn.Conv2d

    def __init__(self, record: NetworkRecord, channels: int, most: int) -> None:
        super().__init__(record)
        widths = tuple(record.width * min(2**i, most) for i in range(record.levels + 1))
        self.body = UNetBody(channels, widths)
        # Two convolutions a scale and side, and the coarsest scale's once; its pixels are 2^levels wide.
        self.reach = 4 * (2**record.levels - 1) + 3 * 2**record.levels

    def specialise(self, conditions: torch.Tensor) -> None:  # noqa: ARG002 - in the inputs
        """Fold each norm into its convolution, in place."""
        self.eval()
        for module in self.modules():
            if isinstance(module, ConvBlock) and isinstance(module.norm, nn.BatchNorm2d):
                module.conv = fuse_conv_bn_eval(module.conv, module.norm)
                module.norm = nn.Identity()


class PaperUNet(_UNet):
    """Bilinear to the fine grid, then a U-Net there on the frame's contrast; features double at every scale."""

    def __init__(self, record: NetworkRecord) -> None:
        super().__init__(record, channels=1, most=2**record.levels)
        self.head = nn.Conv2d(record.width, 1, 1)
        self.multiple = 2**record.levels
        self.reach = -(-self.reach // record.upsampling) + 1

    def forward(
        self,
        inputs: torch.Tensor,
        conditions: torch.Tensor,  # noqa: ARG002 - in the inputs
        kernels: torch.Tensor,  # noqa: ARG002 - it compares nothing
    ) -> torch.Tensor:
        """``[B, CHANNELS, Y, X]`` → ``[B, 1, u·Y, u·X]`` radians."""
        fine = functional.interpolate(
            inputs[:, :1],
            scale_factor=self.record.upsampling,
            mode="bilinear",
            align_corners=False,
        )
        out = in_full_precision(self.head, self.body(pad_to_multiple(fine, self.multiple)))
        return out[..., : fine.shape[-2], : fine.shape[-1]]


class SubPixelUNet(_UNet):
    """U-Net on the camera's grid, pixel shuffle at the end.

    Features double down to ``4 · width`` and stay there: the coarse scales would hold most of the
    parameters and hold little of the information.
    """

    def __init__(self, record: NetworkRecord) -> None:
        super().__init__(record, channels=CHANNELS, most=4)
        self.head = nn.Conv2d(record.width, record.upsampling**2, 3, padding=1)
        self.multiple = 2**record.levels
        self.reach += 1

    def forward(
        self,
        inputs: torch.Tensor,
        conditions: torch.Tensor,  # noqa: ARG002 - in the inputs
        kernels: torch.Tensor,  # noqa: ARG002 - it compares nothing
    ) -> torch.Tensor:
        """``[B, CHANNELS, Y, X]`` → ``[B, 1, u·Y, u·X]`` radians."""
        padded = pad_to_multiple(inputs, self.multiple)
        u = self.record.upsampling
        phase = fine_image(self.head, self.body(padded), u)
        return phase[..., : u * inputs.shape[-2], : u * inputs.shape[-1]]
