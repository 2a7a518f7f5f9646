"""Where a run's images lie: shapes, shards, paths, and making the Zarr v3 arrays.

Metadata is plain JSON, written durably and atomically, since a power cut or a reader
may come at any moment. Pixels are written by `raw_writer` and `phase_writer`.

One position: the image lies at the store's root. Several: a bioformats2raw.layout
collection, images "0", "1", … in the order of the plan.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.durable import make_directory, replace_file
from pipeline.errors import RunFolderError, StoreError
from pipeline.experiment import Experiment
from pipeline.frames import Plan, SlotKey
from pipeline.store import ome
from pipeline.store.failures import write_failure

Compression = Literal["lz4", "zstd", "none"]

# A shard is encoded in memory as a whole, and several are in flight.
_MOST_SHARD_BYTES = 256 * 1024 * 1024
# A viewer that shows a corner should not have to decode the whole of a large frame.
_LONGEST_CHUNK_SIDE = 1024
# Chunks with shorter sides cost more in bookkeeping than they save.
_SHORTEST_CHUNK_SIDE = 64
_SMALLEST_LEVEL = 256


@dataclass(frozen=True)
class ImageLayout:
    """One kind of image of a run, the same at every position.

    Parameters
    ----------
    axes
        ``"tczyx"`` or ``"tcyx"``.
    shape
        Of the finest level, one number an axis; t as planned.
    timepoints_per_shard
        A shard is this many timepoints with all channels, foci and pixels.
    level_shapes
        ``(y, x)`` of each pyramid level, finest first.
    dtype
        Of the pixels.
    compression
        Of the chunks.
    """

    axes: str
    shape: tuple[int, ...]
    timepoints_per_shard: int
    level_shapes: tuple[tuple[int, int], ...]
    dtype: np.dtype[Any]
    compression: Compression

    def level_shape(self, level: int) -> tuple[int, ...]:
        """Shape of one level's array."""
        return (*self.shape[:-2], *self.level_shapes[level])

    def shard_shape(self, level: int) -> tuple[int, ...]:
        """Shape of one file of a level."""
        return (self.timepoints_per_shard, *self.level_shape(level)[1:])

    def chunk_shape(self, level: int) -> tuple[int, ...]:
        """Shape of what is compressed and read together: a frame, or an exact part of a big one."""
        y, x = self.level_shapes[level]
        return (*(1 for _ in self.shape[:-2]), chunk_side(y), chunk_side(x))

    def shard_name(self, number: int) -> str:
        """File of the `number`-th shard along the time axis, within its array's folder."""
        return ".".join(["c", str(number), *("0" for _ in self.shape[1:])])


def chunk_side(side: int) -> int:
    """The largest exact divisor of `side` from 64 to 1024; the whole side where there is none."""
    for divisor in range(min(side, _LONGEST_CHUNK_SIDE), _SHORTEST_CHUNK_SIDE - 1, -1):
        if side % divisor == 0:
            return divisor
    return side


def slot_period_s(experiment: Experiment) -> float:
    """Seconds from one timepoint of a position to its next, as planned.

    Never less than exposures and camera allow.
    """
    plan = experiment.plan()
    positions = len(plan.positions) if plan.slot_order == "tp" else 1
    return max(plan.interval_s, experiment.slot_s() * positions)


def timepoints_per_shard(plan: Plan, shard_s: float, period_s: float) -> int:
    """How many timepoints of a position share a file.

    As many as fill in `shard_s`; one where the interval is a second or more; at most about 256 MB.

    Parameters
    ----------
    period_s
        From one timepoint of a position to its next (`slot_period_s`).
    """
    if plan.interval_s >= 1.0 or period_s >= shard_s:
        return 1
    count = min(int(shard_s / period_s), _MOST_SHARD_BYTES // plan.slot_bytes, plan.timepoints)
    return max(count, 1)


def raw_layout(experiment: Experiment, per_shard: int) -> ImageLayout:
    """The raw image: ``[t, c, y, x]``, or ``[t, c, z, y, x]`` with several foci."""
    plan = experiment.plan()
    foci = (len(plan.foci_um),) if len(plan.foci_um) > 1 else ()
    return ImageLayout(
        axes="tczyx" if foci else "tcyx",
        shape=(plan.timepoints, len(plan.channels), *foci, *plan.frame_shape),
        timepoints_per_shard=per_shard,
        level_shapes=(plan.frame_shape,),
        dtype=plan.dtype,
        compression=experiment.output.compression,
    )


def phase_layout(plan: Plan, outputs: Sequence[str], upsampling: int) -> ImageLayout:
    """The reconstruction: float32 ``[t, c, y, x]``, c = the method's outputs.

    NaN where there is none as yet. Levels halve until the smaller side is below 256.
    """
    levels = [(plan.frame_shape[0] * upsampling, plan.frame_shape[1] * upsampling)]
    while min(levels[-1]) >= _SMALLEST_LEVEL:
        levels.append((levels[-1][0] // 2, levels[-1][1] // 2))
    return ImageLayout(
        axes="tcyx",
        shape=(plan.timepoints, len(outputs), *levels[0]),
        timepoints_per_shard=1,
        level_shapes=tuple(levels),
        dtype=np.dtype(np.float32),
        compression="lz4",
    )


def phase_owner(plan: Plan, key: SlotKey, workers: int) -> int:
    """The one worker that writes this slot's phase shard."""
    return (key.timepoint * len(plan.positions) + key.position) % workers


def image_path(store: Path, plan: Plan, position: int) -> Path:
    """The group of one position's image within a store."""
    return store if len(plan.positions) == 1 else store / str(position)


def array_path(store: Path, plan: Plan, position: int, level: int = 0) -> Path:
    """The array of one position and level."""
    return image_path(store, plan, position) / str(level)


def create_raw(store: Path, experiment: Experiment, pixel_um: float, per_shard: int) -> ImageLayout:
    """Make the raw store, or open the one that is there.

    Parameters
    ----------
    pixel_um
        Camera pixel at the sample.
    per_shard
        Of a new store.

    Returns
    -------
    ImageLayout
        As it is on the disk: an existing store keeps its own `timepoints_per_shard`.

    Raises
    ------
    RunFolderError
        The existing store is of another shape or pixel type.
    StoreError
        It can't be written, or the pixel size is not positive.
    """
    plan = experiment.plan()
    layout = raw_layout(experiment, per_shard)
    top = float(2**plan.bit_depth - 1)
    what = ome.ImageDescription(
        name="raw",
        axes=layout.axes,
        levels=1,
        channels=tuple(ome.Channel(channel.name, 0.0, top) for channel in plan.channels),
        pixel_um=pixel_um,
        shift_um=0.0,
        period_s=slot_period_s(experiment),
    )
    return _create(store, experiment, layout, what)


def create_phase(
    store: Path, experiment: Experiment, outputs: Sequence[str], upsampling: int, pixel_um: float
) -> ImageLayout:
    """Make the phase store, or open the one that is there.

    Parameters
    ----------
    outputs, upsampling
        Of the method's `Measurement`.
    pixel_um
        Camera pixel at the sample; the image's own is this by `upsampling`.

    Raises
    ------
    RunFolderError, StoreError
        As `create_raw`.
    """
    layout = phase_layout(experiment.plan(), outputs, upsampling)
    what = ome.ImageDescription(
        name="phase",
        axes=layout.axes,
        levels=len(layout.level_shapes),
        channels=tuple(
            ome.Channel(name, *((-np.pi, np.pi) if name == "phase" else (0.0, 2.0)))
            for name in outputs
        ),
        pixel_um=pixel_um / upsampling,
        # The first fine pixel's centre lies up and left of the first camera pixel's.
        shift_um=(1 / upsampling - 1) / 2 * pixel_um,
        period_s=slot_period_s(experiment),
    )
    return _create(store, experiment, layout, what)


def open_layout(store: Path, experiment: Experiment) -> ImageLayout:
    """The layout of a store that is there, out of its own metadata.

    Raises
    ------
    StoreError
        No readable image of livephase is in `store`.
    """
    plan = experiment.plan()
    try:
        image = _read(image_path(store, plan, 0) / "zarr.json")
        multiscale = image["attributes"]["ome"]["multiscales"][0]
        arrays = [
            _read(array_path(store, plan, 0, level) / "zarr.json")
            for level in range(len(multiscale["datasets"]))
        ]
        finest = arrays[0]
        return ImageLayout(
            axes="".join(axis["name"] for axis in multiscale["axes"]),
            # What is planned, not what the axis was trimmed to.
            shape=(plan.timepoints, *finest["shape"][1:]),
            timepoints_per_shard=finest["chunk_grid"]["configuration"]["chunk_shape"][0],
            level_shapes=tuple((a["shape"][-2], a["shape"][-1]) for a in arrays),
            dtype=np.dtype(finest["data_type"]),
            compression=_compression_of(finest["codecs"][0]["configuration"]["codecs"]),
        )
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StoreError(
            f"no readable image in {store} ({error})",
            "restore it from a copy, or begin a run in a new folder",
        ) from error


def stored_channels(store: Path, plan: Plan) -> tuple[str, ...]:
    """Names along the axis c of a store that is there.

    Raises
    ------
    StoreError
        No readable image of livephase is in `store`.
    """
    return tuple(str(c["label"]) for c in _ome_of(store, plan)["omero"]["channels"])


def stored_pixel_um(store: Path, plan: Plan) -> float:
    """Finest pixel of a store that is there, at the sample.

    Raises
    ------
    StoreError
        No readable image of livephase is in `store`.
    """
    finest = _ome_of(store, plan)["multiscales"][0]["datasets"][0]
    return float(finest["coordinateTransformations"][0]["scale"][-1])


def _ome_of(store: Path, plan: Plan) -> dict[str, Any]:
    try:
        found: dict[str, Any] = _read(image_path(store, plan, 0) / "zarr.json")["attributes"]["ome"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StoreError(
            f"no readable image in {store} ({error})", "restore it from a copy"
        ) from error
    return found


def set_timepoints(store: Path, experiment: Experiment, timepoints: int) -> None:
    """Set the length of the time axis at every position and level.

    Trims it at the end of a run and grows it at resume. Only metadata changes: what exists is
    what the ledger says. Does nothing if the store is absent.
    """
    plan = experiment.plan()
    if not (store / "zarr.json").exists():
        return
    levels = len(open_layout(store, experiment).level_shapes)
    for position in range(len(plan.positions)):
        for level in range(levels):
            path = array_path(store, plan, position, level) / "zarr.json"
            metadata = _read(path)
            if metadata["shape"][0] != timepoints:
                metadata["shape"][0] = timepoints
                _write(path, metadata)


def remove_stale_locks(store: Path) -> int:
    """Delete the lock files that a killed tensorstore writer left; returns how many.

    Only while nobody writes the store.
    """
    stale = list(store.rglob("*.__lock")) if store.is_dir() else []
    for path in stale:
        path.unlink(missing_ok=True)
    return len(stale)


def _create(
    store: Path, experiment: Experiment, layout: ImageLayout, what: ome.ImageDescription
) -> ImageLayout:
    if not (np.isfinite(what.pixel_um) and what.pixel_um > 0):
        raise StoreError(
            f"a pixel size of {what.pixel_um} µm can't be",
            "calibrate, or correct the camera's and the optics' values",
        )
    if (store / "zarr.json").exists():
        return _existing(store, experiment, layout)
    positions = range(len(experiment.plan().positions))
    try:
        make_directory(store)
        for position in positions:
            path = image_path(store, experiment.plan(), position)
            make_directory(path)
            for level in range(what.levels):
                make_directory(path / str(level))
                _write(path / str(level) / "zarr.json", _array_metadata(layout, level))
            if path != store:
                _write(path / "zarr.json", ome.image(experiment, what, position))
        if len(positions) > 1:
            make_directory(store / "OME")
            _write(store / "OME" / "zarr.json", ome.series(str(p) for p in positions))
        root = ome.collection() if len(positions) > 1 else ome.image(experiment, what, 0)
        # The root's metadata last: a store without it was never finished, and is made again.
        _write(store / "zarr.json", root)
    except OSError as error:
        raise write_failure(store, error) from error
    return layout


def _existing(store: Path, experiment: Experiment, wanted: ImageLayout) -> ImageLayout:
    found = open_layout(store, experiment)
    same = (found.shape, found.level_shapes) == (wanted.shape, wanted.level_shapes)
    if not same or found.dtype != wanted.dtype:
        raise RunFolderError(
            f"{store} holds {found.dtype} {list(found.shape)}, "
            f"this experiment makes {wanted.dtype} {list(wanted.shape)}",
            "give the experiment that began this run, or a new folder",
        )
    return found


def _array_metadata(layout: ImageLayout, level: int) -> dict[str, Any]:
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    chunks: list[dict[str, Any]] = [little]
    if layout.compression != "none":
        blosc = {
            "cname": layout.compression,
            "clevel": 1,
            # The high bits of neighbouring pixels agree: sorted by bit, they compress.
            "shuffle": "bitshuffle",
            "typesize": layout.dtype.itemsize,
            "blocksize": 0,
        }
        chunks.append({"name": "blosc", "configuration": blosc})
    sharding = {
        "chunk_shape": list(layout.chunk_shape(level)),
        "codecs": chunks,
        "index_codecs": [little, {"name": "crc32c"}],
        "index_location": "end",
    }
    grid = {"chunk_shape": list(layout.shard_shape(level))}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(layout.level_shape(level)),
        "data_type": layout.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": grid},
        # All shards in one directory. Nested ones ("/") would be made anew for each shard, and
        # tensorstore does not bring those to the disk: a power cut could take a committed shard.
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": "NaN" if layout.dtype.kind == "f" else 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "dimension_names": list(layout.axes),
        "attributes": {},
    }


def _compression_of(codecs: list[dict[str, Any]]) -> Compression:
    for codec in codecs:
        if codec["name"] == "blosc":
            name: Compression = codec["configuration"]["cname"]
            return name
    return "none"


def _write(path: Path, metadata: dict[str, Any]) -> None:
    replace_file(path, json.dumps(metadata, indent=2, ensure_ascii=False).encode())


def _read(path: Path) -> dict[str, Any]:
    metadata: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return metadata
