"""What a training of dl_srqpi makes smaller, and on what."""

from __future__ import annotations

import torch

from pipeline.methods.dl_srqpi.networks import Network
from pipeline.training.batches import Batch, Batches
from pipeline.training.loss import training_loss
from pipeline.training.trainer import Task


def dl_srqpi_task(network: Network, batches: Batches) -> Task[Network, Batch]:
    """A network on patches."""
    return Task(network, Network.inner_kernels, batches.draw, _loss)


def _loss(network: Network, batch: Batch, device: torch.device, bf16: bool) -> torch.Tensor:
    inputs = batch.inputs.to(device).contiguous(memory_format=torch.channels_last)
    truth, spans = batch.phases.to(device), batch.spans.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        phases = network.phases(inputs, batch.conditions.to(device), batch.kernels.to(device))
    return training_loss([phase.float() for phase in phases], truth, spans)
