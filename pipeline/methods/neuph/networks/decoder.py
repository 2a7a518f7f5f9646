"""Latent to phase: a small network asked at any coordinate (LIIF; Chen et al., CVPR 2021).

Each coordinate is answered by the four latent pixels around it (local ensemble), each with its 3 x 3
surroundings (feature unfolding), the way from its centre to the coordinate, and the cell that the answer is for;
the answers are weighted by nearness.

Two forms of the same function. The *plain* one gathers all of that for each coordinate: it is what the paper
writes and what training does. The *folded* one uses that the first layer is linear: on the unfolded features it is
one 3 x 3 convolution of the latent, done once a latent pixel instead of once a coordinate; on the way it is a sum of
a row's and a column's part; on the cell a constant. What is left for each coordinate begins at the first ReLU.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional

from pipeline.methods.neuph.networks.fused import linear_relu
from pipeline.methods.neuph.networks.grid import Grid, Neighbours, neighbours
from pipeline.methods.neuph.record import NeuPhNetwork

_UNFOLDED = 9
_WAY, _CELL = 2, 2
# Values of a hidden layer that are computed at a time: they stay in the processor's cache, or fill a GPU.
_CHUNK = {"cpu": 1 << 20, "cuda": 1 << 26}


class Decoder(nn.Module):
    """The layers that both forms share.

    Parameters
    ----------
    record
        The network's sizes.
    """

    def __init__(self, record: NeuPhNetwork) -> None:
        super().__init__()
        self.latent = record.latent
        self.first = nn.Linear(_UNFOLDED * record.latent + _WAY + _CELL, record.hidden)
        self.rest = nn.ModuleList(
            nn.Linear(record.hidden, record.hidden) for _ in range(record.layers - 1)
        )
        self.last = nn.Linear(record.hidden, 1)

    def forward(
        self, latent: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, cell: float
    ) -> torch.Tensor:
        """Plain, at any coordinates.

        Parameters
        ----------
        latent
            ``[B, D, Y, X]``.
        rows, columns
            ``[B, Q]`` float64 camera pixels.
        cell
            Camera pixels that an answer stands for, along each axis.

        Returns
        -------
        ``[B, Q]`` radians.
        """
        y, x = latent.shape[-2:]
        surroundings = functional.unfold(latent, 3, padding=1).reshape(len(latent), -1, y, x)
        vertical, horizontal = neighbours(rows, y), neighbours(columns, x)
        images = torch.arange(len(latent), device=latent.device)[:, None]
        cells = latent.new_full((*rows.shape, _CELL), cell)
        total = latent.new_zeros(rows.shape)
        for i in range(2):
            for j in range(2):
                features = surroundings[images, :, vertical.index[i], horizontal.index[j]]
                way = torch.stack([vertical.offset[i], horizontal.offset[j]], -1).to(latent.dtype)
                answer = self._after(
                    functional.relu(self.first(torch.cat([features, way, cells], -1)))
                )
                total = total + vertical.share[i] * horizontal.share[j] * answer
        return total

    def folded(
        self, latent: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, cell: float
    ) -> torch.Tensor:
        """As `forward`, the first layer folded: what training asks, with gradients."""
        known = self.first_layer(latent).permute(0, 2, 3, 1)
        vertical = neighbours(rows, latent.shape[-2])
        horizontal = neighbours(columns, latent.shape[-1])
        images = torch.arange(len(latent), device=latent.device)[:, None]
        down, across = self.way().unbind(1)
        known = known + cell * self.cell()
        total = torch.zeros(rows.shape, device=latent.device)
        for i in range(2):
            for j in range(2):
                x = known[images, vertical.index[i], horizontal.index[j]]
                x = (
                    x
                    + vertical.offset[i][..., None] * down
                    + horizontal.offset[j][..., None] * across
                )
                share = vertical.share[i] * horizontal.share[j]
                total = total + share * self._after(functional.relu(x)).float()
        return total

    def first_layer(self, latent: torch.Tensor) -> torch.Tensor:
        """``[B, hidden, Y, X]`` of the unfolded features, and the bias."""
        kernel = self.first.weight[:, : _UNFOLDED * self.latent].reshape(-1, self.latent, 3, 3)
        out: torch.Tensor = functional.conv2d(latent, kernel, self.first.bias, padding=1)
        return out

    def way(self) -> torch.Tensor:
        """``[hidden, 2]`` of the way to a coordinate, along y and x."""
        return self.first.weight[:, -_WAY - _CELL : -_CELL]

    def cell(self) -> torch.Tensor:
        """``[hidden]`` of a square cell."""
        return self.first.weight[:, -_CELL:].sum(1)

    def hidden_layers(self) -> list[nn.Linear]:
        """Those between the first and the last."""
        return [layer for layer in self.rest if isinstance(layer, nn.Linear)]

    def _after(self, x: torch.Tensor) -> torch.Tensor:
        """From the first layer's output on."""
        for layer in self.rest:
            x = functional.relu(layer(x))
        out: torch.Tensor = self.last(x)[..., 0]
        return out

    def plain(self, latent: torch.Tensor, grid: Grid) -> torch.Tensor:
        """``[B, Y, X]`` on a grid, a row at a time; of square cells."""
        rows, columns = grid.rows(latent.device), grid.columns(latent.device)
        lines = [
            self(
                latent,
                row.expand(len(latent), len(columns)),
                columns.expand(len(latent), -1),
                grid.cell[0],
            )
            for row in rows
        ]
        return torch.stack(lines, 1)


class FoldedDecoder:
    """A decoder made ready for grids; for inference.

    Parameters
    ----------
    decoder
        Float32; its weights are copied.
    dtype
        What the layers for each coordinate compute in; the sum over the ensemble is float32.
    """

    def __init__(self, decoder: Decoder, device: torch.device | str, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._decoder = copy.deepcopy(decoder).to(device).requires_grad_(False)
        self._way, self._cell = self._decoder.way(), self._decoder.cell()
        self._rest = [
            (layer.weight.detach().to(device, dtype), layer.bias.detach().to(device, dtype))
            for layer in decoder.hidden_layers()
        ]
        self._last = decoder.last.weight.detach().to(device, dtype)
        self._last_bias = float(decoder.last.bias.detach())

    def prepared(self, latent: torch.Tensor) -> torch.Tensor:
        """``[B, Y, X, hidden]`` float32: the first layer of each latent pixel, without way and cell, for any grid."""
        return self._decoder.first_layer(latent.float()).permute(0, 2, 3, 1).contiguous()

    def __call__(
        self, prepared: torch.Tensor, grid: Grid, cell: float | None = None
    ) -> torch.Tensor:
        """``[B, Y, X]`` float32 radians on a grid.

        Parameters
        ----------
        cell
            Camera pixels that an answer stands for; the grid's own step where None.
        """
        cell = grid.cell[0] if cell is None else cell
        return torch.stack([self._image(one, grid, cell) for one in prepared])

    def _image(self, prepared: torch.Tensor, grid: Grid, cell: float) -> torch.Tensor:
        device = prepared.device
        rows = neighbours(grid.rows(device), prepared.shape[0])
        columns = neighbours(grid.columns(device), prepared.shape[1])
        # The cell's part is the same everywhere: cells are square.
        known = prepared + self._cell * cell
        hidden = prepared.shape[-1]
        out = torch.empty(grid.shape, device=device)
        step = max(1, _CHUNK.get(device.type, 1 << 26) // (grid.shape[1] * hidden))
        across = [(self._way[:, 1] * columns.offset[j, :, None]).to(self._dtype) for j in range(2)]
        for start in range(0, grid.shape[0], step):
            band = slice(start, min(start + step, grid.shape[0]))
            out[band] = self._band(known, rows, columns, across, band)
        return out

    def _band(
        self,
        known: torch.Tensor,
        rows: Neighbours,
        columns: Neighbours,
        across: list[torch.Tensor],
        band: slice,
    ) -> torch.Tensor:
        """``[rows of the band, X]``."""
        total: torch.Tensor | None = None
        for i in range(2):
            lines = known[rows.index[i, band]]
            # Rounded before they are spread over the columns: gathering in float32 took as long as the layers.
            lines = (lines + (self._way[:, 0] * rows.offset[i, band, None])[:, None]).to(
                self._dtype
            )
            for j in range(2):
                x = lines.index_select(1, columns.index[j]).add_(across[j]).relu_()
                for weight, bias in self._rest:
                    x = linear_relu(x, weight, bias)
                answer = functional.linear(x, self._last)[..., 0].float() + self._last_bias
                answer *= rows.share[i, band, None] * columns.share[j]
                total = answer if total is None else total.add_(answer)
        assert total is not None
        return total
