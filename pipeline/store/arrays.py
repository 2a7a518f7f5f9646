"""Zarr arrays through tensorstore, as this package uses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorstore as ts
from numpy.typing import NDArray

from pipeline.errors import StoreError
from pipeline.store.failures import write_failure


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


def begin_write(array: Any, index: Any, pixels: NDArray[Any], shard: Path) -> Any:
    """Begin to write ``array[index]``; a future that is done when the pixels are on the disk.

    Without a copy: `pixels` must stay as they are until then. The future's ``exception()`` waits.
    The caller is the only writer of the shard.

    Parameters
    ----------
    shard
        The one file that is written.

    Raises
    ------
    StoreError
        The write could not even begin.
    """
    try:
        # tensorstore writes into its lock file and renames it. It does not cut one that a killed
        # writer left: the rest of a longer one would follow the new shard, and spoil its index.
        Path(f"{shard}.__lock").unlink(missing_ok=True)
        target = array[index]
        commit = target.write(
            pixels.reshape(target.shape), can_reference_source_data_indefinitely=True
        ).commit
    except (ValueError, OSError, IndexError) as error:
        raise write_failure(shard, error) from error
    # A future that nobody waits for may otherwise not begin.
    commit.force()
    return commit


def read_array(array: Any, index: Any, what: str) -> Any:
    """Read ``array[index]`` as a numpy array; `what` names it in the error.

    Raises
    ------
    StoreError
        The file is truncated or damaged.
    """
    try:
        return array[index].read().result()
    # A slot behind a wrongly trimmed time axis is an IndexError.
    except (ValueError, OSError, IndexError) as error:
        raise StoreError(
            f"can't read {what} ({_first_line(error)})",
            "restore the file from a copy; `livephase verify` lists the damage",
        ) from error


def _first_line(error: BaseException) -> str:
    """tensorstore's messages go on with source locations that help no user."""
    return str(error).split(" [source locations")[0].split("\n")[0]
