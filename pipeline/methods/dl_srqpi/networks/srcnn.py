"""SRCNN (Dong et al., IEEE TPAMI 38, 295, 2016), the paper's learned baseline."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from pipeline.methods.dl_srqpi.networks.layers import Network, in_full_precision
from pipeline.methods.dl_srqpi.record import NetworkRecord


class Srcnn(Network):
    """Bicubic to the fine grid, then convolutions of 9, 1 and 5 pixels; ``2·width`` and `width` features.

    It gets the frame's contrast, as in the paper, and no linear estimate.
    """

    def __init__(self, record: NetworkRecord) -> None:
        super().__init__(record)
        self.multiple, self.reach = 1, 6
        wide, narrow = 2 * record.width, record.width
        self.body = nn.Sequential(
            nn.Conv2d(1, wide, 9, padding=4, padding_mode="replicate"),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, narrow, 1),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Conv2d(narrow, 1, 5, padding=2, padding_mode="replicate")

    def forward(
        self,
        inputs: torch.Tensor,
        conditions: torch.Tensor,  # noqa: ARG002 - it knows none
        kernels: torch.Tensor,  # noqa: ARG002 - it compares nothing
    ) -> torch.Tensor:
        """``[B, CHANNELS, Y, X]`` → ``[B, 1, u·Y, u·X]`` radians."""
        fine = functional.interpolate(
            inputs[:, :1].float(),
            scale_factor=self.record.upsampling,
            mode="bicubic",
            align_corners=False,
        )
        return in_full_precision(self.head, self.body(fine.to(next(self.body.parameters()).dtype)))

    def specialise(self, conditions: torch.Tensor) -> None:
        """Nothing to fold."""
