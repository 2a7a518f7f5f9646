"""NeuPh's encoders and its decoder, plain and folded; the decoder of convolutions that it is compared with."""

from pipeline.methods.neuph.networks.convolutions import (
    ConvolutionDecoder,
    ReadyConvolutions,
)
from pipeline.methods.neuph.networks.decoder import Decoder, FoldedDecoder
from pipeline.methods.neuph.networks.encoder import Encoders
from pipeline.methods.neuph.networks.grid import Grid
from pipeline.methods.neuph.networks.network import NeuPh

__all__ = [
    "ConvolutionDecoder",
    "Decoder",
    "Encoders",
    "FoldedDecoder",
    "Grid",
    "NeuPh",
    "ReadyConvolutions",
]
