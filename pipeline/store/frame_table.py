"""The end of a run in the store: time axes trimmed, per-frame arrays beside the images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.durable import replace_file, sync_directory
from pipeline.frames import FRAME_RECORD
from pipeline.store.arrays import make_context, open_array
from pipeline.store.failures import write_failure
from pipeline.store.layout import set_timepoints
from pipeline.store.ome import group
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunFolder

_CHUNK_FRAMES = 1 << 16
_DESCRIPTIONS = {
    "image_number": "the camera's own frame counter; -1 where unknown",
    "time_utc": "seconds since 1970-01-01 UTC; NaN where unknown",
    "time_monotonic": "seconds of the acquiring computer's monotonic clock; NaN where unknown",
    "focus_um": "focus against the position's own, in micrometers; NaN where unknown",
    "buffer_fill": "share of the camera's buffer in use",
    "led": "index of the channel that the hardware reports lit; -1 where unknown",
    "status": "0 pending, 1 written, 2 missing",
    "reason": "why it is missing: 0 it is not, 1 dropped, 2 overflow, 3 timeout, 4 disconnected, "
    "5 interrupted, 6 stopped, 7 not in the source",
}


def trim_time_axis(folder: RunFolder) -> int:
    """Cut the images' time axis behind the last committed timepoint; returns its length.

    At least one timepoint stays: most readers can't do with none. A resumed run grows it again.

    Raises
    ------
    StoreError
        The ledger can't be read or the folder can't be written.
    """
    reader = RunReader(folder.path)
    exposed = np.flatnonzero(reader.committed().any(axis=1))
    timepoints = int(exposed[-1]) + 1 if exposed.size else 1
    try:
        for store in (folder.raw_store, folder.phase_store):
            set_timepoints(store, reader.experiment, timepoints)
    except OSError as error:
        raise write_failure(folder.path, error) from error
    return timepoints


def export_frame_table(folder: RunFolder) -> None:
    """Write ``frames.zarr``: one array ``[t, p, c, z]`` for each field of `FRAME_RECORD`.

    Irregular times and true foci, which OME-NGFF can't express. Made anew from the ledger, whole or
    not at all.

    Raises
    ------
    StoreError
        The ledger can't be read or the folder can't be written.
    """
    reader = RunReader(folder.path)
    table = reader.frame_table()
    temporary = folder.path / ".frames.zarr.tmp"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        _write_arrays(temporary, table)
        attributes = {
            "livephase": {
                "fingerprint": reader.experiment.fingerprint(),
                "positions": [position.name for position in reader.plan.positions],
                "channels": [channel.name for channel in reader.plan.channels],
                "foci_um": list(reader.plan.foci_um),
            }
        }
        replace_file(temporary / "zarr.json", json.dumps(group(attributes), indent=2).encode())
        if folder.frames.exists():
            shutil.rmtree(folder.frames)
        temporary.rename(folder.frames)
        sync_directory(folder.path)
    except (OSError, ValueError) as error:
        raise write_failure(folder.frames, error) from error


def _write_arrays(root: Path, table: NDArray[np.void]) -> None:
    context = make_context()
    per_timepoint = int(np.prod(table.shape[1:]))
    chunk = [max(1, min(table.shape[0], _CHUNK_FRAMES // per_timepoint)), *table.shape[1:]]
    for name in FRAME_RECORD.names or ():
        values = np.ascontiguousarray(table[name])
        (root / name).mkdir()
        metadata = _array_metadata(values, chunk, _DESCRIPTIONS[name])
        replace_file(root / name / "zarr.json", json.dumps(metadata, indent=2).encode())
        open_array(root / name, context).write(values).result()


def _array_metadata(values: NDArray[Any], chunk: list[int], description: str) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(values.shape),
        "data_type": values.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": "NaN" if values.dtype.kind == "f" else 0,
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": 3, "checksum": True}},
        ],
        "dimension_names": ["t", "p", "c", "z"],
        "attributes": {"description": description},
    }
