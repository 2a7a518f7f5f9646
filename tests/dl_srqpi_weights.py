"""Small untrained networks of dl_srqpi for the tests: weights files, experiments that they fit, frames."""

from importlib.resources import files
from pathlib import Path

import torch
import yaml
from torch import nn

from pipeline.experiment import Experiment, parse_experiment
from pipeline.methods.dl_srqpi.conditions import Conditions
from pipeline.methods.dl_srqpi.networks import Network, build_network
from pipeline.methods.dl_srqpi.networks.layers import Modulated
from pipeline.methods.dl_srqpi.record import (
    NetworkRecord,
    OpticsRecord,
    TrainingRecord,
    WeightsRecord,
)
from pipeline.methods.dl_srqpi.weights import save_weights

USUAL = Conditions(0.55, 0.4, 1.0, 2.6, 4.0, 0.2)
SMALL = NetworkRecord(width=4, levels=2)


def experiment(**changes) -> Experiment:
    """The demonstration's, on a small camera, with sections changed."""
    demo = files("pipeline.demos").joinpath("dl_srqpi.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(demo)
    data["microscope"]["camera"]["shape_px"] = [32, 32]
    for section, values in changes.items():
        data[section] = {**data[section], **values}
    return parse_experiment(data)


def record(network: NetworkRecord = SMALL, name: str = "own", **optics) -> WeightsRecord:
    matching = {
        "wavelength_um": 0.55,
        "numerical_aperture": 0.4,
        "refractive_index": 1.0,
        "pixel_um": 2.6,
        "z_um": 4.0,
        "z_min_um": 1.0,
        "z_max_um": 13.0,
        "coherence_min": 0.0,
        "coherence_max": 0.42,
    }
    return WeightsRecord(
        name=name,
        network=network,
        optics=OpticsRecord(**{**matching, **optics}),
        training=TrainingRecord(
            seed=0,
            steps=1,
            samples=1,
            fields=1,
            images=1,
            data="noise",
            noise=(0.002, 0.01),
            minutes=0.0,
            validation={},
            livephase="0",
            torch="0",
        ),
    )


def untrained(network: NetworkRecord, seed: int = 0) -> Network:
    """Random weights; norms and modulations that do something."""
    torch.manual_seed(seed)
    built = build_network(network)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.05, 0.2)
        if isinstance(module, Modulated):
            nn.init.normal_(module.film.weight, std=0.3)
            nn.init.normal_(module.film.bias, std=0.3)
    return built.eval()


def write(path: Path, network: NetworkRecord = SMALL, name: str = "own", **optics) -> Path:
    save_weights(untrained(network), record(network, name, **optics), path)
    return path


def frames(count: int = 1, shape: tuple[int, int] = (32, 32), seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return 1 + 0.05 * torch.randn(count, 1, *shape, generator=g)


def all_valid(x: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(x, dtype=torch.bool)
