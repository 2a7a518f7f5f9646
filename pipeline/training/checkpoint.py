"""Tensors on disk, whole or not there: a training's state, and the fields it is trained on."""

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
    """Write tensors and plain values; the file is whole or not there, and one that was there stays until then.

    Raises
    ------
    MethodError
        If it can't be written: the disk is full, the folder is gone.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        torch.save(state, temporary)
        os.replace(temporary, path)  # noqa: PTH105 - atomic on every system, and said by its name
    # torch reports a full disk as a RuntimeError about positions in its file.
    except (OSError, RuntimeError) as error:
        why = _first_line(error) if isinstance(error, OSError) else "its disk took a part of it"
        raise MethodError(
            f"{path} can't be written ({why})",
            "make room on its disk and give the same command again",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path, identity: str) -> dict[str, Any] | None:
    """The state in `path`, or None where there is none.

    Parameters
    ----------
    identity
        Of all that decides what the file holds: another one's is refused.

    Raises
    ------
    MethodError
        If the file is damaged, or another one's.
    """
    if not path.exists():
        return None
    try:
        # weights_only: tensors and plain values, no code out of the file.
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except _TORN as error:
        raise MethodError(f"{path} can't be read ({_first_line(error)})", "delete it") from error
    if state.get("identity") != identity:
        raise MethodError(
            f"{path} belongs to a training with other settings, optics, data, seed or length",
            "give the same command as before, delete the file, or give another --out",
        )
    return state


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
