"""What networks compute in on this processor or GPU, and how their kernels lie in memory."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from pipeline.methods.settings import Precision

Kind = TypeVar("Kind", bound=nn.Module)


def computes_bf16() -> bool:
    """Whether this processor has bf16 instructions; without them bf16 is slower than float32."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))


def body_dtype(device: torch.device, precision: Precision) -> torch.dtype:
    """Of a network's layers on a device: auto is bf16 where that is computed in hardware."""
    if precision == "fp32":
        return torch.float32
    if precision == "bf16":
        return torch.bfloat16
    if device.type == "cuda":
        with torch.cuda.device(device):
            # A GPU without bf16 imitates it, slowly.
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if computes_bf16() else torch.float32


def channels_last(network: Kind) -> Kind:
    """Kernels in the layout in which convolutions are fastest, in place."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network
