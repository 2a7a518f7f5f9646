"""What a training begins with: a network at random, or another training's."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.errors import ExperimentError
from pipeline.methods.neuph.fit import read_record
from pipeline.methods.neuph.networks import NeuPh
from pipeline.methods.neuph.record import NETWORKS, LightRecord, NeuPhNetwork
from pipeline.methods.neuph.weights import load_network
from pipeline.methods.weights_file import sha256


def blind_to_darkfield(begin_from: Path | None, network: str | None) -> bool:
    """Whether the network is not to see the darkfield frames that the experiment has."""
    if network is not None:
        return not NETWORKS[network].darkfield
    return begin_from is not None and read_record(begin_from).truth_na is not None


def begin(
    begin_from: Path | None,
    network: str | None,
    usual: NeuPhNetwork,
    light: LightRecord,
    seed: int,
) -> tuple[NeuPh, str, str]:
    """The network to train, its name, and the sha256 of the weights that it has."""
    bright = sum(p.brightfield for p in light.patterns)
    counts = {"brightfield": bright, "darkfield": len(light.patterns) - bright}
    if begin_from is None:
        torch.manual_seed(seed)
        wanted = NETWORKS[network] if network else usual
        name = network or next((n for n, known in NETWORKS.items() if known == usual), "own")
        return NeuPh(wanted.model_copy(update=counts)), name, ""
    begun, record = load_network(begin_from)
    there = {"brightfield": record.network.brightfield, "darkfield": record.network.darkfield}
    if there != counts:
        raise ExperimentError(
            f"the weights {begin_from} take {there['brightfield']} brightfield and {there['darkfield']} darkfield "
            f"frames, the experiment has {counts['brightfield']} and {counts['darkfield']}",
            "begin from weights of as many patterns, or from none",
        )
    if network is not None and NETWORKS[network].model_copy(update=counts) != record.network:
        raise ExperimentError(
            f"the weights {begin_from} are of the network '{record.name}', not of '{network}'",
            f"begin from weights of '{network}', or leave the network's name out",
        )
    return begun.train(), record.name, sha256(begin_from)
