"""The networks that come with livephase, by name."""

from __future__ import annotations

from pipeline.errors import ExperimentError
from pipeline.experiment import nearest
from pipeline.methods.dl_srqpi.record import NetworkRecord, UNetRecord

NETWORKS = {
    "base": NetworkRecord(
        form="residual",
        width=32,
        levels=4,
        earlier=(UNetRecord(width=24, depths=(1, 1, 1, 1)),),
    ),
    "fast": NetworkRecord(form="residual", width=24, levels=4),
    "sub_pixel": NetworkRecord(form="sub_pixel", width=32, levels=4),
    "paper": NetworkRecord(form="paper", width=64, levels=4),
    "srcnn": NetworkRecord(form="srcnn", width=32),
}


def network_name(record: NetworkRecord) -> str:
    """The name of a network of these sizes, whatever its upsampling; ``own`` where there is none."""
    # In words, as blocks that are left out and blocks that are written out are the same network.
    return next((name for name, known in NETWORKS.items() if known.sizes == record.sizes), "own")


def network_named(name: str, upsampling: int) -> NetworkRecord:
    """A network's sizes. Raises `ExperimentError` for a name that there is not."""
    if name not in NETWORKS:
        raise ExperimentError(f"there is no network '{name}'", nearest(name, NETWORKS))
    return NETWORKS[name].model_copy(update={"upsampling": upsampling})
