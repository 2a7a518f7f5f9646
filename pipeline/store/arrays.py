"""Zarr arrays through tensorstore, as this package uses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorstore as ts

from pipeline.errors import StoreError


def make_context() -> Any:
    """Shared by the arrays of one writer or reader.

    Nothing is cached: a written slot's memory goes back to the ring at once, and a reader beside
    a live run must not keep a chunk that it saw before it was written.
    """
    return ts.Context({"cache_pool": {"total_bytes_limit": 0}})


def open_array(path: Path, context: Any) -> Any:
    """Open an array for reading and writing whole shards.

    Raises
    ------
    StoreError
        It is absent or its metadata can't be read.
    """
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": f"{path.absolute().as_posix()}/"},
        # A slot of zeros is stored like any other: each committed shard has a file, or is damaged.
        "store_data_equal_to_fill_value": True,
        "recheck_cached_data": True,
    }
    try:
        return ts.open(spec, open=True, context=context).result()
    except (ValueError, OSError) as error:
        raise StoreError(
            f"can't open the array {path} ({_first_line(error)})",
            "restore it from a copy, or begin a run in a new folder",
        ) from error


def read_array(array: Any, index: Any, what: str) -> Any:
    """Read ``array[index]`` as a numpy array; `what` names it in the error.

    Raises
    ------
    StoreError
        The file is truncated or damaged.
    """
    try:
        return array[index].read().result()
    except (ValueError, OSError) as error:
        raise StoreError(
            f"can't read {what} ({_first_line(error)})",
            "restore the file from a copy; `livephase verify` lists the damage",
        ) from error


def _first_line(error: BaseException) -> str:
    """tensorstore's messages go on with source locations that help no user."""
    return str(error).split(" [source locations")[0].split("\n")[0]
