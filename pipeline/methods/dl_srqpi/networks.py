"""The two U-Nets: the paper's form and the sub-pixel form.

Both map one normalised frame ``[B, 1, Y, X]`` to a phase four times finer, ``[B, 1, 4Y, 4X]``.

- `PaperUNet` (Zhou et al., Laser Photonics Rev. 2024, 2300488): the frame is interpolated to the
  fine grid first and every convolution runs there.
- `SubPixelUNet`: the same U-Net on the camera's own grid, a sixteenth of the pixels; each camera
  pixel's last feature vector holds its 4 x 4 phase pixels (pixel shuffle, Shi et al., CVPR 2016).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.methods.dl_srqpi.record import UPSAMPLING, NetworkRecord


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
        return functional.relu(self.norm(self.conv(x)), inplace=True)


def _twice(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        ConvBlock(channels_in, channels_out), ConvBlock(channels_out, channels_out)
    )


class UNetBody(nn.Module):
    """Encoder and decoder with skips; ``[B, 1, Y, X]`` → ``[B, widths[0], Y, X]``.

    Parameters
    ----------
    widths
        Features at each scale, the finest first; ``len(widths) - 1`` times down and up. Y and X
        must be divisible by two that often.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.entry = _twice(1, widths[0])
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


def _in_full_precision(head: nn.Conv2d, features: torch.Tensor) -> torch.Tensor:
    """The last layer in float32 whatever the body ran in: bf16 phases would step by 0.4 %."""
    with torch.autocast(features.device.type, enabled=False):
        out: torch.Tensor = head(features.float())
        return out


class PaperUNet(nn.Module):
    """Bilinear x4 at the input, then a U-Net on the fine grid; features double at every scale."""

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        self.body = UNetBody(tuple(width * 2**i for i in range(levels + 1)))
        self.head = nn.Conv2d(width, 1, 1)
        self.multiple = 2**levels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, 1, Y, X]`` → ``[B, 1, 4Y, 4X]``."""
        fine = functional.interpolate(
            x, scale_factor=UPSAMPLING, mode="bilinear", align_corners=False
        )
        padded = pad_to_multiple(fine, self.multiple)
        out = _in_full_precision(self.head, self.body(padded))
        return out[..., : fine.shape[-2], : fine.shape[-1]]


class SubPixelUNet(nn.Module):
    """U-Net on the camera's grid, pixel shuffle x4 at the end.

    Features double down to `4 * width` and stay there: the coarse scales would hold most of the
    parameters and hold little of the information.
    """

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        self.body = UNetBody(tuple(width * min(2**i, 4) for i in range(levels + 1)))
        self.head = nn.Conv2d(width, UPSAMPLING**2, 3, padding=1)
        self.multiple = 2**levels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, 1, Y, X]`` → ``[B, 1, 4Y, 4X]``."""
        padded = pad_to_multiple(x, self.multiple)
        features = _in_full_precision(self.head, self.body(padded))
        features = features[..., : x.shape[-2], : x.shape[-1]]
        return functional.pixel_shuffle(features, UPSAMPLING)


DlSrqpiNetwork = PaperUNet | SubPixelUNet


def build_network(record: NetworkRecord) -> DlSrqpiNetwork:
    """The network that a weights file describes, with fresh weights."""
    if record.form == "paper":
        return PaperUNet(record.width, record.levels)
    return SubPixelUNet(record.width, record.levels)


def normalise(frames: torch.Tensor, contrast_gain: float) -> torch.Tensor:
    """A frame's contrast ``[..., Y, X]`` as the network wants it.

    Each whole frame is divided by its own mean, which a flickering lamp changes and defocus doesn't.
    """
    level = frames.mean((-2, -1), keepdim=True).clamp_min(1e-6)
    return (frames / level - 1) * contrast_gain


def computes_bf16() -> bool:
    """Whether this processor has bf16 instructions; without them bf16 is slower than float32."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))


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


def channels_last(network: DlSrqpiNetwork) -> DlSrqpiNetwork:
    """Kernels in the layout in which convolutions are fastest, in place."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def fold_norms(network: DlSrqpiNetwork) -> DlSrqpiNetwork:
    """Put each batch normalisation into its convolution, in place; for inference only."""
    network.eval()
    for module in network.modules():
        if isinstance(module, ConvBlock) and isinstance(module.norm, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()
    return network
