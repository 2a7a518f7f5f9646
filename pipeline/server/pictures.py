"""Parts of stored images, from the pyramid level that fits the page."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pipeline.errors import StoreError
from pipeline.frames import SlotKey
from pipeline.server.home import Home
from pipeline.server.image_message import encoded, reduced
from pipeline.store.reader import RunReader

# Readers hold a few open files; a page looks at one run, or two.
_MOST_READERS = 4


class PartRequest(BaseModel):
    """Which part of which image, in pixels of the whole one."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["raw", "phase"] = "phase"
    t: int = Field(default=0, ge=0, le=10_000_000)
    p: int = Field(default=0, ge=0, le=100_000)
    c: int = Field(default=0, ge=0, le=10_000)
    """Channel of raw frames, image of the method's for phase."""
    y: int = Field(default=0, ge=0, le=1_000_000)
    x: int = Field(default=0, ge=0, le=1_000_000)
    h: int = Field(default=1_000_000, ge=1, le=1_000_000)
    w: int = Field(default=1_000_000, ge=1, le=1_000_000)
    max_px: int = Field(default=1024, ge=16, le=2048)


class Pictures:
    """Reads parts of the runs of a home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        # One at a time: a reader is one thread's, and decoding uses every core as it is.
        self._lock = threading.Lock()
        self._readers: OrderedDict[str, tuple[int, RunReader]] = OrderedDict()

    def part(self, name: str, wanted: PartRequest) -> bytes:
        """The message of a part.

        Raises
        ------
        RunFolderError
            There is no such run.
        StoreError
            The image is not stored, or the part lies outside.
        """
        with self.reading(name) as reader:
            key = SlotKey(wanted.t, wanted.p)
            if not reader.plan.has(key):
                raise StoreError(f"the run has no timepoint {wanted.t} at position {wanted.p}", "")
            return (
                self._raw(name, reader, key, wanted)
                if wanted.kind == "raw"
                else self._phase(name, reader, key, wanted)
            )

    @contextmanager
    def reading(self, name: str) -> Iterator[RunReader]:
        """A run's reader, for this thread alone."""
        with self._lock:
            yield self._reader(name)

    def _reader(self, name: str) -> RunReader:
        """Kept for the next time."""
        folder = self._home.run(name)
        # Another run may be under the name by now.
        identity = folder.experiment_file.stat().st_ino
        kept = self._readers.pop(name, None)
        reader = kept[1] if kept and kept[0] == identity else RunReader(folder.path)
        self._readers[name] = identity, reader
        while len(self._readers) > _MOST_READERS:
            self._readers.popitem(last=False)[1][1].close()
        return reader

    def _raw(self, name: str, reader: RunReader, key: SlotKey, wanted: PartRequest) -> bytes:
        plan = reader.plan
        if wanted.c >= len(plan.channels):
            raise StoreError(f"the run has no channel {wanted.c}", "")
        rows, columns = _part(wanted, plan.frame_shape, 1)
        frame = wanted.c * len(plan.foci_um)
        pixels, step = reduced(reader.raw_part(key, frame, rows, columns), wanted.max_px)
        header = {"unit": "counts", "full_shape": list(plan.frame_shape), "step": step}
        pixel_um = reader.raw_pixel_um()
        return encoded(_header(name, wanted, header, rows, columns, pixel_um), pixels)

    def _phase(self, name: str, reader: RunReader, key: SlotKey, wanted: PartRequest) -> bytes:
        layout = reader.phase_layout()
        if wanted.c >= layout.shape[1]:
            raise StoreError(f"the run has no reconstructed image {wanted.c}", "")
        full = layout.level_shapes[0]
        rows, columns = _part(wanted, full, 1)  # refused where it lies outside
        longest = max(rows.stop - rows.start, columns.stop - columns.start)
        level = 0
        while level + 1 < len(layout.level_shapes) and longest / 2 ** (level + 1) >= wanted.max_px:
            level += 1
        coarse_rows, coarse_columns = _part(wanted, layout.level_shapes[level], 2**level)
        pixels, step = reduced(
            reader.phase_part(key, wanted.c, level, coarse_rows, coarse_columns), wanted.max_px
        )
        # The first image is the phase; amplitude and absorption have no unit.
        unit = "rad" if wanted.c == 0 else ""
        header = {"unit": unit, "full_shape": list(full), "step": step * 2**level}
        rows, columns = (slice(s.start * 2**level, s.stop) for s in (coarse_rows, coarse_columns))
        return encoded(
            _header(name, wanted, header, rows, columns, reader.phase_pixel_um()), pixels
        )


def _part(wanted: PartRequest, shape: tuple[int, int], scale: int) -> tuple[slice, slice]:
    """The part in pixels that are `scale` times as large, within an image of `shape` of them."""
    rows = slice(wanted.y // scale, min(-(-(wanted.y + wanted.h) // scale), shape[0]))
    columns = slice(wanted.x // scale, min(-(-(wanted.x + wanted.w) // scale), shape[1]))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise StoreError(
            f"the part at ({wanted.y}, {wanted.x}) lies outside the image of {shape[0]} x {shape[1]}",
            "ask for a part within it",
        )
    return rows, columns


def _header(
    name: str,
    wanted: PartRequest,
    what: dict[str, Any],
    rows: slice,
    columns: slice,
    pixel_um: float,
) -> dict[str, Any]:
    return {
        "seq": 0,
        "kind": wanted.kind,
        "run": name,
        "timepoint": wanted.t,
        "position": wanted.p,
        "channel": wanted.c,
        "origin": [rows.start, columns.start],
        "pixel_um": pixel_um,
        "time_utc": None,
        "info": {},
        **what,
    }


def ranges(mask: NDArray[np.bool_]) -> list[list[list[int]]]:
    """``[timepoints, positions]`` → for each position runs ``[first, last]`` of True."""
    out: list[list[list[int]]] = []
    for position in range(mask.shape[1]):
        runs: list[list[int]] = []
        for t in mask[:, position].nonzero()[0].tolist():
            if runs and runs[-1][1] == t - 1:
                runs[-1][1] = t
            else:
                runs.append([t, t])
        out.append(runs)
    return out
