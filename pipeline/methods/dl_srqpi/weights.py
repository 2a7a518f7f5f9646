"""Weights on disk, and the networks that they make."""

from __future__ import annotations

from pathlib import Path

from pipeline.methods.dl_srqpi.header import read_record
from pipeline.methods.dl_srqpi.networks import Network, build_network
from pipeline.methods.dl_srqpi.record import WeightsRecord
from pipeline.methods.weights_file import load_tensors, save_tensors

# Kernels of convolutions.
_HALF_DIMS = 4


def save_weights(network: Network, record: WeightsRecord, path: Path) -> None:
    """Write a file that is whole or not there, its kernels in half precision."""
    save_tensors(network, record, path, half_dims=_HALF_DIMS)


def load_network(path: Path) -> tuple[Network, WeightsRecord]:
    """The network of a weights file in float32, in evaluation mode.

    Raises
    ------
    MethodError
        If the file is unreadable, or its tensors aren't finite, or not of the network it names.
    """
    record = read_record(path)
    network = build_network(record.network)
    load_tensors(network, path)
    return network.eval(), record
