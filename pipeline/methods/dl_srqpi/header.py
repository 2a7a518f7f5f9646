"""What a weights file of dl_srqpi says of itself, read without torch, before hardware moves."""

from __future__ import annotations

from pathlib import Path

from pipeline.methods.dl_srqpi.record import WeightsRecord
from pipeline.methods.weights_file import read_header


def read_record(path: Path) -> WeightsRecord:
    """The record of a weights file. Raises `MethodError` as `read_header` does."""
    return read_header(path, WeightsRecord, "dl_srqpi")
