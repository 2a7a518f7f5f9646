"""Weights on disk, and the networks that they make."""

from __future__ import annotations

from pathlib import Path

from pipeline.methods.neuph.fit import read_record
from pipeline.methods.neuph.networks import NeuPh
from pipeline.methods.neuph.record import WeightsRecord
from pipeline.methods.weights_file import load_tensors, save_tensors

# Kernels of convolutions and matrices of layers.
_HALF_DIMS = 2


def save_weights(network: NeuPh, record: WeightsRecord, path: Path) -> None:
    """Write a file that is whole or not there, its kernels in half precision."""
    save_tensors(network, record, path, half_dims=_HALF_DIMS)


def load_network(path: Path) -> tuple[NeuPh, WeightsRecord]:
    """The network of a weights file in float32, in evaluation mode.

    Raises
    ------
    MethodError
        If the file is unreadable, or its tensors aren't finite, or not of the network it names.
    """
    record = read_record(path)
    network = NeuPh(record.network)
    load_tensors(network, path)
    return network.eval(), record
