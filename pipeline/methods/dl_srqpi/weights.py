"""Weights on disk: convolutions in half precision, everything checked on the way in."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from pipeline.errors import MethodError
from pipeline.methods.dl_srqpi.header import METADATA_KEY, read_record
from pipeline.methods.dl_srqpi.networks import Network, build_network
from pipeline.methods.dl_srqpi.record import WeightsRecord


def save_weights(network: Network, record: WeightsRecord, path: Path) -> None:
    """Write a file that is whole or not there.

    Kernels are stored as float16; norms and biases, which are few and may be tiny, as float32.
    """
    tensors = {
        name: (value.half() if value.ndim == 4 else value).contiguous().cpu()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    # Not save_file: it makes files that only their owner may read.
    temporary.write_bytes(save(tensors, {METADATA_KEY: record.model_dump_json()}))
    os.replace(temporary, path)  # noqa: PTH105 - atomic on Windows, too, and said by its name


def load_network(path: Path) -> tuple[Network, WeightsRecord]:
    """The network of a weights file in float32, in evaluation mode.

    Raises
    ------
    MethodError
        If the file is unreadable, or its tensors aren't finite, or not of the network it names.
    """
    record = read_record(path)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise MethodError(
            f"the weights {path} can't be read ({error})", "copy the file again"
        ) from error
    network = build_network(record.network)
    expected = {
        name: value
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    _check(tensors, expected, path)
    network.load_state_dict({n: v.float() for n, v in tensors.items()}, strict=False)
    return network.eval(), record


def _check(tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], path: Path) -> None:
    fix = "the file is damaged or edited: copy it again, or train new weights"
    absent = sorted(expected.keys() - tensors.keys())
    extra = sorted(tensors.keys() - expected.keys())
    if absent or extra:
        what = f"lack '{absent[0]}'" if absent else f"have the unknown '{extra[0]}'"
        raise MethodError(f"the weights {path} {what}: not those of the network they name", fix)
    for name, value in tensors.items():
        if value.shape != expected[name].shape:
            raise MethodError(
                f"'{name}' of the weights {path} has shape {tuple(value.shape)}, the network "
                f"{tuple(expected[name].shape)}",
                fix,
            )
        if not (value.is_floating_point() and torch.isfinite(value).all()):
            raise MethodError(f"'{name}' of the weights {path} has NaN or infinite values", fix)
