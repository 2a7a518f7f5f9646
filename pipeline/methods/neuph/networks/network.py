"""The whole network: encoders and decoder."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.methods.neuph.networks.convolutions import ConvolutionDecoder, ReadyConvolutions
from pipeline.methods.neuph.networks.decoder import Decoder, FoldedDecoder
from pipeline.methods.neuph.networks.encoder import Encoders
from pipeline.methods.neuph.record import NeuPhNetwork


class NeuPh(nn.Module):
    """Normalised frames and their DPC phase to phase at any coordinates (Wang et al., Adv. Photonics Nexus 3, 056005).

    Parameters
    ----------
    record
        Its sizes.
    """

    def __init__(self, record: NeuPhNetwork) -> None:
        super().__init__()
        self.record = record
        self.encoders = Encoders(record)
        self.decoder: Decoder | ConvolutionDecoder
        self.decoder = Decoder(record) if record.decoder == "field" else ConvolutionDecoder(record)

    def inner_kernels(self) -> list[nn.Parameter]:
        """Of the encoders' convolutions but their first, which read the images."""
        return [p for n, p in self.encoders.named_parameters() if p.ndim == 4 and "head" not in n]

    def forward(
        self, inputs: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, cell: float
    ) -> torch.Tensor:
        """``[B, frames + 1, Y, X]`` at coordinates ``[B, Q]`` → ``[B, Q]`` radians; as training asks."""
        latent = self.encoders(inputs)
        if isinstance(self.decoder, ConvolutionDecoder):
            return self.decoder.asked(latent, rows, columns)
        return self.decoder.folded(latent, rows, columns, cell)

    def ready_decoder(
        self, device: torch.device | str, dtype: torch.dtype
    ) -> FoldedDecoder | ReadyConvolutions:
        """The decoder as inference asks it, its layers in `dtype`; its weights are copied."""
        if isinstance(self.decoder, ConvolutionDecoder):
            return ReadyConvolutions(self.decoder, device, dtype)
        return FoldedDecoder(self.decoder, device, dtype)
