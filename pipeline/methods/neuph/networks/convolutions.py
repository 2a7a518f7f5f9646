"""Latent to phase by convolutions on one grid: what the local field is compared with.

Pixel shuffles by the grid's prime factors, a convolution before each, as EDSR enlarges (Lim et al., CVPR Workshops
2017); of about as many parameters as the field's decoder.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional

from pipeline.methods.neuph.networks.grid import Grid
from pipeline.methods.neuph.record import NeuPhNetwork


class ConvolutionDecoder(nn.Module):
    """A latent ``[B, D, Y, X]`` to phase ``[B, u·Y, u·X]``.

    Parameters
    ----------
    record
        The network's sizes; `grid` is u.
    """

    def __init__(self, record: NeuPhNetwork) -> None:
        super().__init__()
        self.grid = record.grid
        width = record.hidden // 2
        layers: list[nn.Module] = [nn.Conv2d(record.latent, width, 3, padding=1), nn.ReLU()]
        for factor in _primes(record.grid):
            finer = max(width // 2, 4)
            layers += [
                nn.Conv2d(width, finer * factor**2, 3, padding=1),
                nn.PixelShuffle(factor),
                nn.ReLU(),
            ]
            width = finer
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """``[B, u·Y, u·X]`` radians."""
        out: torch.Tensor = self.layers(latent)[:, 0]
        return out

    def asked(
        self, latent: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
    ) -> torch.Tensor:
        """``[B, Q]`` of the pixels in which coordinates ``[B, Q]`` in camera pixels lie: what training asks."""
        image = self(latent).float()
        y, x = ((at * self.grid).floor().long() for at in (rows, columns))
        images = torch.arange(len(latent), device=latent.device)[:, None]
        out: torch.Tensor = image[
            images, y.clamp(0, image.shape[1] - 1), x.clamp(0, image.shape[2] - 1)
        ]
        return out


class ReadyConvolutions:
    """A decoder made ready for inference, asked as `FoldedDecoder` is; between its pixels it interpolates."""

    def __init__(
        self, decoder: ConvolutionDecoder, device: torch.device | str, dtype: torch.dtype
    ) -> None:
        self._dtype, self._grid = dtype, decoder.grid
        self._decoder = copy.deepcopy(decoder).to(device, dtype).requires_grad_(False)

    def prepared(self, latent: torch.Tensor) -> torch.Tensor:
        """``[B, Y, X, u²]`` float32: each camera pixel's share of the image."""
        image = self._decoder(latent.to(self._dtype)).float()
        return functional.pixel_unshuffle(image[:, None], self._grid).permute(0, 2, 3, 1)

    def __call__(
        self,
        prepared: torch.Tensor,
        grid: Grid,
        cell: float | None = None,  # noqa: ARG002 - convolutions have one
    ) -> torch.Tensor:
        """``[B, Y, X]`` radians on a grid, bilinear: on the decoder's own, its very pixels."""
        image = functional.pixel_shuffle(prepared.permute(0, 3, 1, 2), self._grid)
        height, width = prepared.shape[1:3]
        y = grid.rows(prepared.device) * (2 / height) - 1
        x = grid.columns(prepared.device) * (2 / width) - 1
        at = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1).float()
        out = functional.grid_sample(
            image, at.expand(len(image), -1, -1, -1), padding_mode="border", align_corners=False
        )
        return out[:, 0]


def _primes(number: int) -> list[int]:
    factors, left, factor = [], number, 2
    while left > 1:
        while left % factor == 0:
            factors.append(factor)
            left //= factor
        factor += 1
    return factors
