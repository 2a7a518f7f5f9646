"""OME-NGFF 0.5 on Zarr v3: names, shapes, codecs and metadata of a run's images.

Metadata is written here as plain JSON, durably and atomically, since a power cut or a
reader may come at any moment; pixels are written by `raw_writer` and `phase_writer`.

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

from pipeline.errors import RunFolderError, StoreError
from pipeline.experiment import Experiment
from pipeline.frames import Plan, SlotKey
from pipeline.store.durable import make_directory, replace_file, sync_directory
from pipeline.store.failures import write_failure

Compression = Literal["lz4", "zstd", "none"]

# A shard is encoded in memory as a whole; several are in flight.
_MOST_SHARD_BYTES = 256 * 1024 * 1024
# A viewer that shows a corner should not have to decode a whole large frame.
_LONGEST_CHUNK_SIDE = 1024
# Below this, chunks are so small that their overhead counts: the whole axis is better.
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
        Of the finest level, one number an axis.
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
        return (self.timepoints_per_shard, *self.shape[1:-2], *self.level_shapes[level])

    def chunk_shape(self, level: int) -> tuple[int, ...]:
        """Shape of what is compressed (and read) together: one frame, or an exact part of a big one."""
        return (
            *(1 for _ in self.shape[:-2]),
            *(chunk_side(side) for side in self.level_shapes[level]),
        )


def chunk_side(side: int) -> int:
    """The largest exact divisor of `side` from 64 to 1024; the whole side where there is none."""
    if side <= _LONGEST_CHUNK_SIDE:
        return side
    for divisor in range(_LONGEST_CHUNK_SIDE, _SHORTEST_CHUNK_SIDE - 1, -1):
        if side % divisor == 0:
            return divisor
    return side


def slot_period_s(experiment: Experiment) -> float:
    """Seconds from one timepoint of a position to its next, as planned: never less than exposure and camera allow."""
    plan = experiment.plan()
    rate = experiment.microscope.camera.frame_rate_hz
    slot_s = max(plan.exposure_s(), plan.frames_per_slot / rate if rate else 0.0)
    positions = len(plan.positions) if plan.slot_order == "tp" else 1
    return max(plan.interval_s, slot_s * positions)


def timepoints_per_shard(
    plan: Plan, shard_s: float, period_s: float, most: int | None = None
) -> int:
    """How many timepoints of a position share a file.

    As many as fill in `shard_s`; one where the interval is a second or more; at most about 256 MB.

    Parameters
    ----------
    period_s
        From one timepoint of a position to its next (`slot_period_s`).
    most
        A cap of the caller's: the ring must hold a whole shard.
    """
    if plan.interval_s >= 1.0 or period_s >= shard_s:
        return 1
    count = min(int(shard_s / period_s), _MOST_SHARD_BYTES // plan.slot_bytes, plan.timepoints)
    if most is not None:
        count = min(count, most)
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
    """The reconstruction: float32 ``[t, c, y, x]``, c = the method's outputs; NaN where there is none as yet.

    Levels halve (2x2 means) until the smaller side is below 256.
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


def shard_path(
    store: Path, plan: Plan, position: int, level: int, layout: ImageLayout, shard: int
) -> Path:
    """The file of one shard (`shard` counts along the time axis)."""
    name = ".".join(["c", str(shard), *("0" for _ in layout.shape[1:])])
    return array_path(store, plan, position, level) / name


def create_raw(store: Path, experiment: Experiment, pixel_um: float, per_shard: int) -> ImageLayout:
    """Make the raw store, or open the one that is there.

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
    channels = [
        _omero_channel(channel.name, 0, 2**plan.bit_depth - 1, active=i == 0)
        for i, channel in enumerate(plan.channels)
    ]
    layout = raw_layout(experiment, per_shard)
    return _create(store, experiment, layout, channels, pixel_um, 0.0, "raw")


def create_phase(
    store: Path, experiment: Experiment, outputs: Sequence[str], upsampling: int, pixel_um: float
) -> ImageLayout:
    """Make the phase store, or open the one that is there; `pixel_um` is the camera pixel at the sample.

    Raises like `create_raw`.
    """
    channels = [
        _omero_channel(name, *((-np.pi, np.pi) if name == "phase" else (0.0, 2.0)), active=i == 0)
        for i, name in enumerate(outputs)
    ]
    layout = phase_layout(experiment.plan(), outputs, upsampling)
    # The centre of the first fine pixel lies up and left of the centre of the first camera pixel.
    shift_um = (1 / upsampling - 1) / 2 * pixel_um
    return _create(store, experiment, layout, channels, pixel_um / upsampling, shift_um, "phase")


def open_layout(store: Path, experiment: Experiment) -> ImageLayout:
    """The layout of a store that is there, out of its own metadata.

    Raises
    ------
    StoreError
        No readable image of livephase is in `store`.
    """
    plan = experiment.plan()
    fix = "restore it from a copy, or begin a run in a new folder"
    try:
        image = _read(image_path(store, plan, 0) / "zarr.json")
        multiscale = image["attributes"]["ome"]["multiscales"][0]
        arrays = [
            _read(array_path(store, plan, 0, level) / "zarr.json")
            for level in range(len(multiscale["datasets"]))
        ]
        finest = arrays[0]
        sharding = finest["codecs"][0]
        return ImageLayout(
            axes="".join(axis["name"] for axis in multiscale["axes"]),
            # What is planned, not what the axis was trimmed to.
            shape=(plan.timepoints, *finest["shape"][1:]),
            timepoints_per_shard=finest["chunk_grid"]["configuration"]["chunk_shape"][0],
            level_shapes=tuple((a["shape"][-2], a["shape"][-1]) for a in arrays),
            dtype=np.dtype(finest["data_type"]),
            compression=_compression_of(sharding["configuration"]["codecs"]),
        )
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StoreError(f"no readable image in {store} ({error})", fix) from error


def set_timepoints(store: Path, experiment: Experiment, timepoints: int) -> None:
    """Set the length of the time axis of every position and level: trims at the end of a run, grows at resume.

    Only metadata changes: a ledger says what exists. Does nothing if the store is absent.
    """
    plan = experiment.plan()
    if not (store / "zarr.json").exists():
        return
    layout = open_layout(store, experiment)
    for position in range(len(plan.positions)):
        for level in range(len(layout.level_shapes)):
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
    store: Path,
    experiment: Experiment,
    layout: ImageLayout,
    channels: list[dict[str, Any]],
    pixel_um: float,
    shift_um: float,
    name: str,
) -> ImageLayout:
    if not (np.isfinite(pixel_um) and pixel_um > 0):
        raise StoreError(
            f"a pixel size of {pixel_um} µm can't be", "calibrate, or correct the camera and optics"
        )
    plan = experiment.plan()
    if (store / "zarr.json").exists():
        return _existing(store, experiment, layout)
    try:
        make_directory(store)
        for position in range(len(plan.positions)):
            image = image_path(store, plan, position)
            make_directory(image)
            for level in range(len(layout.level_shapes)):
                array = array_path(store, plan, position, level)
                make_directory(array)
                _write(array / "zarr.json", _array_metadata(layout, level))
            if image != store:
                _write(
                    image / "zarr.json",
                    _image_metadata(
                        experiment, layout, channels, pixel_um, shift_um, name, position
                    ),
                )
        # The root's metadata last: a store without it was never finished, and is made again.
        if len(plan.positions) == 1:
            root = _image_metadata(experiment, layout, channels, pixel_um, shift_um, name, 0)
        else:
            make_directory(store / "OME")
            series = [str(p) for p in range(len(plan.positions))]
            _write(
                store / "OME" / "zarr.json", _group({"ome": {"version": "0.5", "series": series}})
            )
            root = _group({"ome": {"version": "0.5", "bioformats2raw.layout": 3}})
        _write(store / "zarr.json", root)
        sync_directory(store)
    except OSError as error:
        raise write_failure(store, error) from error
    return layout


def _existing(store: Path, experiment: Experiment, wanted: ImageLayout) -> ImageLayout:
    found = open_layout(store, experiment)
    if (found.shape, found.level_shapes, found.dtype) != (
        wanted.shape,
        wanted.level_shapes,
        wanted.dtype,
    ):
        raise RunFolderError(
            f"{store} holds {found.dtype} {list(found.shape)}, this experiment makes {wanted.dtype} {list(wanted.shape)}",
            "give the experiment that began this run, or a new folder",
        )
    return found


def _array_metadata(layout: ImageLayout, level: int) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(layout.level_shape(level)),
        "data_type": layout.dtype.name,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": list(layout.shard_shape(level))},
        },
        # All shards in one directory. With nested ones ("/") each shard makes new directories, which
        # tensorstore does not bring to the disk: a power cut could take a committed shard.
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": "NaN" if layout.dtype.kind == "f" else 0,
        "codecs": [
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": list(layout.chunk_shape(level)),
                    "codecs": _codecs(layout),
                    "index_codecs": [
                        {"name": "bytes", "configuration": {"endian": "little"}},
                        {"name": "crc32c"},
                    ],
                    "index_location": "end",
                },
            }
        ],
        "dimension_names": list(layout.axes),
        "attributes": {},
    }


def _codecs(layout: ImageLayout) -> list[dict[str, Any]]:
    codecs: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    if layout.compression != "none":
        codecs.append(
            {
                "name": "blosc",
                "configuration": {
                    "cname": layout.compression,
                    "clevel": 1,
                    # The high bits of neighbouring pixels agree: sorted by bit, they compress.
                    "shuffle": "bitshuffle",
                    "typesize": layout.dtype.itemsize,
                    "blocksize": 0,
                },
            }
        )
    return codecs


def _compression_of(codecs: list[dict[str, Any]]) -> Compression:
    for codec in codecs:
        if codec["name"] == "blosc":
            name: Compression = codec["configuration"]["cname"]
            return name
    return "none"


def _image_metadata(
    experiment: Experiment,
    layout: ImageLayout,
    channels: list[dict[str, Any]],
    pixel_um: float,
    shift_um: float,
    name: str,
    position: int,
) -> dict[str, Any]:
    plan = experiment.plan()
    period_s = slot_period_s(experiment)
    units = {"t": ("time", "second"), "c": ("channel", None), "z": ("space", "micrometer")}
    axes = []
    for axis in layout.axes:
        kind, unit = units.get(axis, ("space", "micrometer"))
        axes.append({"name": axis, "type": kind} | ({"unit": unit} if unit else {}))
    z_um = float(np.ptp(plan.foci_um)) / (len(plan.foci_um) - 1) if "z" in layout.axes else 1.0
    steps = {"t": period_s, "c": 1.0, "z": z_um}
    rising = all(a < b for a, b in zip(plan.foci_um, plan.foci_um[1:], strict=False))
    starts = {"z": plan.foci_um[0] if "z" in layout.axes and rising else 0.0}
    datasets = []
    for level in range(len(layout.level_shapes)):
        factor = 2**level
        scale = [steps.get(axis, pixel_um * factor) for axis in layout.axes]
        # A coarse pixel's centre is the mean of the centres that it is made of.
        centre_um = shift_um + (factor - 1) / 2 * pixel_um
        translation = [starts.get(axis, centre_um if axis in "yx" else 0.0) for axis in layout.axes]
        transformations: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if any(translation):
            transformations.append({"type": "translation", "translation": translation})
        datasets.append({"path": str(level), "coordinateTransformations": transformations})
    place = plan.positions[position]
    multiscale: dict[str, Any] = {"name": place.name, "axes": axes, "datasets": datasets}
    if len(datasets) > 1:
        multiscale |= {
            "type": "mean",
            "metadata": {"description": "2x2 means; an odd last row or column is left out"},
        }
    livephase = {
        "image": name,
        "experiment": experiment.name,
        "fingerprint": experiment.fingerprint(),
        "position": {"name": place.name, "x_um": place.x_um, "y_um": place.y_um},
        # OME-NGFF has no irregular axes: scale gives the mean steps, here and in frames.zarr is what was.
        "foci_um": list(plan.foci_um),
        "interval_s": plan.interval_s,
    }
    ome = {"version": "0.5", "multiscales": [multiscale], "omero": {"channels": channels}}
    return _group({"ome": ome, "livephase": livephase})


def _omero_channel(label: str, low: float, high: float, *, active: bool) -> dict[str, Any]:
    window = {"min": low, "max": high, "start": low, "end": high}
    # Every channel is the same light under another angle: white, and one shown at a time.
    return {"label": label, "color": "FFFFFF", "active": active, "window": window}


def _group(attributes: dict[str, Any]) -> dict[str, Any]:
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def _write(path: Path, metadata: dict[str, Any]) -> None:
    replace_file(path, json.dumps(metadata, indent=2, ensure_ascii=False).encode())


def _read(path: Path) -> dict[str, Any]:
    metadata: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return metadata
