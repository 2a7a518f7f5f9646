"""Weights on disk: safetensors whose header says what they are, everything checked on the way in.

Eight bytes of length, a JSON header, the tensors. The header's metadata holds the method's record as JSON. Nothing
in the file is executed (no pickle). No torch until tensors are wanted: the preflight reads headers.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from pipeline.errors import MethodError
from pipeline.experiment import Strict

if TYPE_CHECKING:
    import torch
    from torch import nn

METADATA_KEY = "livephase"

Record = TypeVar("Record", bound=Strict)


def read_header(path: Path, kind: type[Record], method: str) -> Record:
    """What a weights file says of itself.

    Raises
    ------
    MethodError
        If it is absent, truncated, not safetensors, or not of the method.
    """
    fix = f"copy the file again, or train with `livephase train {method} --experiment EXPERIMENT.yaml`"
    if not path.is_file():
        raise MethodError(f"the weights {path} don't exist", "correct reconstruction.weights")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise MethodError(
            f"the weights {path} can't be read as safetensors ({error})", fix
        ) from error
    if METADATA_KEY not in metadata:
        raise MethodError(
            f"the weights {path} don't say what they were trained for: not a file of livephase", fix
        )
    try:
        return kind.model_validate_json(metadata[METADATA_KEY])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise MethodError(
            f"the weights {path} are not of this version of {method} ({where}: {first['msg']})",
            "train again, or use the livephase that made them",
        ) from error


def sha256(path: Path) -> str:
    """Hex digest of a file, for the run's report."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_tensors(module: nn.Module, record: Strict, path: Path, *, half_dims: int) -> None:
    """Write a file that is whole or not there.

    Parameters
    ----------
    half_dims
        Tensors of so many dimensions and more are stored as float16; norms and biases, which are few and may be
        tiny, as float32.
    """
    from safetensors.torch import save  # noqa: PLC0415 - torch

    tensors = {
        name: (value.half() if value.ndim >= half_dims else value).contiguous().cpu()
        for name, value in _stored(module).items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not save_file: it makes files that only their owner may read.
    write_whole(path, save(tensors, {METADATA_KEY: record.model_dump_json()}))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is whole or not there."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(content)
    os.replace(temporary, path)  # noqa: PTH105 - atomic on Windows, too, and said by its name


def load_tensors(module: nn.Module, path: Path) -> None:
    """Put a file's tensors into a network, as float32.

    Raises
    ------
    MethodError
        If the file is unreadable, or its tensors aren't finite, or not of the network.
    """
    from safetensors.torch import load_file  # noqa: PLC0415 - torch

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise MethodError(
            f"the weights {path} can't be read ({error})", "copy the file again"
        ) from error
    _check(tensors, _stored(module), path)
    module.load_state_dict({n: v.float() for n, v in tensors.items()}, strict=False)


def _stored(module: nn.Module) -> dict[str, torch.Tensor]:
    """The state without the counters of batch norms, which inference has no use for."""
    return {n: v for n, v in module.state_dict().items() if not n.endswith("num_batches_tracked")}


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
        if not (value.is_floating_point() and bool(value.isfinite().all())):
            raise MethodError(f"'{name}' of the weights {path} has NaN or infinite values", fix)
