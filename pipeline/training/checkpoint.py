"""A training that was stopped goes on where it was."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import MethodError

# What torch's reader runs into in a torn file, depending on where it is torn.
_TORN = (OSError, RuntimeError, ValueError, LookupError, EOFError, pickle.UnpicklingError)


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values; the file is whole or not there."""
    temporary = path.with_name(path.name + ".part")
    torch.save(state, temporary)
    os.replace(temporary, path)  # noqa: PTH105 - atomic on every system, and said by its name


def load_checkpoint(path: Path, identity: str) -> dict[str, Any] | None:
    """The state in `path`, or None where there is none.

    Parameters
    ----------
    identity
        What the training is: a checkpoint of another one is refused.

    Raises
    ------
    MethodError
        If the file is damaged, or belongs to another training.
    """
    if not path.exists():
        return None
    try:
        # weights_only: tensors and plain values, no code out of the file.
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except _TORN as error:
        raise MethodError(f"the checkpoint {path} can't be read ({error})", "delete it") from error
    if state.get("identity") != identity:
        raise MethodError(
            f"the checkpoint {path} belongs to a training with other settings, optics or seed",
            "delete it, or give another --out",
        )
    return state
