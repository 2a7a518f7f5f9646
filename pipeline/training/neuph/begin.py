"""What a training begins with: a network at random, another training's, or parts of one."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from pipeline.errors import ExperimentError
from pipeline.methods.neuph.fit import read_record
from pipeline.methods.neuph.networks import NeuPh
from pipeline.methods.neuph.record import NETWORKS, LightRecord, NeuPhNetwork
from pipeline.methods.neuph.weights import load_network
from pipeline.methods.weights_file import sha256

# Where a network keeps its encoders' parameters, before their number.
_ENCODER = "encoders.parts."
_LAYERS = (nn.Conv2d, nn.Linear)


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
    parent = sha256(begin_from)
    if network is not None:
        wanted = NETWORKS[network].model_copy(update=counts)
        if wanted != record.network:
            torch.manual_seed(seed)
            return _with_parts_of(begun, NeuPh(wanted), begin_from, network), network, parent
    there = {"brightfield": record.network.brightfield, "darkfield": record.network.darkfield}
    if there != counts:
        raise ExperimentError(
            f"the weights {begin_from} take {there['brightfield']} brightfield and {there['darkfield']} darkfield "
            f"frames, the experiment has {counts['brightfield']} and {counts['darkfield']}",
            "begin from weights of as many patterns, or from none",
        )
    return begun.train(), record.name, parent


def _with_parts_of(known: NeuPh, network: NeuPh, path: Path, name: str) -> NeuPh:
    """Encoders by the kind of frame that they see, and whatever layer else has the same place and size in both."""
    theirs, there, here = dict(known.named_modules()), _kinds(known), _kinds(network)
    taken = 0
    for place, layer in network.named_modules():
        source = place
        if place.startswith(_ENCODER):
            number, dot, rest = place.removeprefix(_ENCODER).partition(".")
            kind = here[int(number)]
            source = f"{_ENCODER}{there.index(kind)}{dot}{rest}" if kind in there else ""
        other = theirs.get(source)
        if not (isinstance(layer, _LAYERS) and isinstance(other, _LAYERS)):
            continue
        if layer.weight.shape == other.weight.shape:
            layer.load_state_dict(other.state_dict())
            taken += 1
    if not taken:
        raise ExperimentError(
            f"the weights {path} have no layer that fits into the network '{name}'",
            "begin from weights of a network of the same widths, or from none",
        )
    return network


def _kinds(network: NeuPh) -> list[str]:
    """What its encoders see, in their order."""
    dark = ["darkfield"] if network.record.darkfield else []
    return ["brightfield", *dark, "DPC"]
