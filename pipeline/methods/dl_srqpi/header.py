"""The header of a weights file: checked and read without torch, before hardware moves.

safetensors: eight bytes of length, a JSON header, the tensors. The header's metadata holds the
`WeightsRecord` as JSON. Nothing in the file is executed (no pickle).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from pipeline.errors import MethodError
from pipeline.methods.dl_srqpi.record import WeightsRecord

METADATA_KEY = "livephase"
_GET_FIX = (
    "copy the file again, or train with `livephase train dl_srqpi --experiment EXPERIMENT.yaml`"
)


def read_record(path: Path) -> WeightsRecord:
    """What a weights file says of itself.

    Raises
    ------
    MethodError
        If it is absent, truncated, not safetensors, or not of dl_srqpi.
    """
    if not path.is_file():
        raise MethodError(f"the weights {path} don't exist", "correct reconstruction.weights")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise MethodError(
            f"the weights {path} can't be read as safetensors ({error})", _GET_FIX
        ) from error
    if METADATA_KEY not in metadata:
        raise MethodError(
            f"the weights {path} don't say what they were trained for: not a file of livephase",
            _GET_FIX,
        )
    try:
        return WeightsRecord.model_validate_json(metadata[METADATA_KEY])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise MethodError(
            f"the weights {path} are not of this version of dl_srqpi ({where}: {first['msg']})",
            "train again, or use the livephase that made them",
        ) from error


def sha256(path: Path) -> str:
    """Hex digest of a file, for the run's report."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
