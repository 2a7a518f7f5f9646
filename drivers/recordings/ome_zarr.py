"""OME-Zarr 0.4 and 0.5: an image, or a bioformats2raw collection whose images are positions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from drivers.recordings.recording import RecordedFrame, Recording, describe
from pipeline.errors import DriverError, ExperimentError
from pipeline.frames import FrameKey

_SECONDS = {"second": 1.0, "millisecond": 1e-3, "microsecond": 1e-6, "minute": 60.0, "hour": 3600.0}
_MICROMETERS = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3}
# A chunk often spans several frames: kept decoded, it is decoded once.
_CACHE_BYTES = 256_000_000


@dataclass(frozen=True)
class _Image:
    """One multiscale image at its full resolution."""

    array: Any
    axes: str
    scale: tuple[float, ...] | None
    units: tuple[str | None, ...]
    labels: tuple[str, ...] | None

    def length(self, axis: str) -> int:
        return int(self.array.shape[self.axes.index(axis)]) if axis in self.axes else 1

    def step(self, axis: str, factors: dict[str, float]) -> float | None:
        """Physical length of one sample along an axis, where the metadata says so."""
        if self.scale is None or axis not in self.axes:
            return None
        index = self.axes.index(axis)
        factor = factors.get(self.units[index] or "")
        step = self.scale[index]
        # Writers that don't know the size put 1 without a unit, or 0.
        return step * factor if factor is not None and step > 0 else None


class OmeZarrRecording(Recording):
    """Axes any of t, c, z and y, x, by their names.

    A frame of which a chunk was never written is missing: zeros in its place would be invented
    light.

    Raises
    ------
    DriverError
        If the metadata or the array can't be read.
    ExperimentError
        If it is a kind of Zarr that holds no such frames.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        context = ts.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}})
        self._images = [_open_image(folder, context) for folder in _image_folders(path)]
        first = self._images[0]
        same = {
            (i.axes, tuple(i.array.shape), str(i.array.dtype.numpy_dtype)) for i in self._images
        }
        if len(same) > 1:
            raise ExperimentError(
                f"{path.name} has images of different shapes", "give one image of the collection"
            )
        self.dtype = np.dtype(first.array.dtype.numpy_dtype)
        self.frame_shape = (first.length("y"), first.length("x"))
        self.positions = len(self._images)
        self.timepoints = first.length("t")
        self.channels, self.foci = first.length("c"), first.length("z")
        if first.labels is not None and len(first.labels) == self.channels:
            self.channel_names = first.labels
        self.pixel_um = first.step("x", _MICROMETERS)
        self._interval_s = first.step("t", _SECONDS)

    def frame(self, key: FrameKey) -> NDArray[Any] | None:
        """Read one frame; None where a chunk of it is absent."""
        image = self._images[key.position]
        place = {"t": key.timepoint, "c": key.channel, "z": key.focus}
        index = tuple(place.get(a, slice(None)) for a in image.axes)
        try:
            pixels: NDArray[Any] = image.array[index].read().result()
        # tensorstore has no exceptions of its own: the status is in the text.
        except ValueError as error:
            if "NOT_FOUND" in str(error):
                return None
            raise DriverError(
                f"{self.path.name}, {describe(key)}: the chunk can't be read ({_brief(error)})",
                "the file is truncated or damaged: copy it again",
            ) from error
        return pixels

    def about(self, key: FrameKey) -> RecordedFrame:
        """The timepoint's time, where the time axis has a unit."""
        if self._interval_s is None:
            return RecordedFrame()
        return RecordedFrame(time_s=key.timepoint * self._interval_s)


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr group or array."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zattrs", ".zarray"))


def _image_folders(path: Path) -> list[Path]:
    ome = _ome_metadata(path)
    if "multiscales" in ome:
        return [path]
    if "plate" in ome or "well" in ome:
        raise ExperimentError(f"{path} is a plate or a well", "give the path of one of its images")
    if ome.get("bioformats2raw.layout") != 3:
        raise DriverError(
            f"{path} has no OME-Zarr metadata", "give an OME-Zarr image, version 0.4 or 0.5"
        )
    listed = _ome_metadata(path / "OME").get("series") if is_zarr(path / "OME") else None
    if listed is None:
        numbered = (p for p in path.iterdir() if p.name.isdecimal() and is_zarr(p))
        listed = [p.name for p in sorted(numbered, key=lambda p: int(p.name))]
    if not listed:
        raise DriverError(f"{path} is a collection without images", "copy or export it again")
    return [path / str(name) for name in listed]


def _ome_metadata(path: Path) -> dict[str, Any]:
    """Attributes of a group that OME-NGFF defines, whichever version put them where."""
    version_5, version_4 = path / "zarr.json", path / ".zattrs"
    file = version_5 if version_5.is_file() else version_4
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if file == version_5:
            found = found.get("attributes", {}).get("ome", {})
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise DriverError(
            f"the metadata {file} can't be read ({error})", "copy or export the Zarr again"
        ) from error
    return found if isinstance(found, dict) else {}


def _open_image(path: Path, context: Any) -> _Image:
    ome = _ome_metadata(path)
    try:
        multiscale = ome["multiscales"][0]
        dataset = multiscale["datasets"][0]
        folder = path / str(dataset["path"])
        # Up to version 0.3 an axis was only its name.
        axes = [{"name": a} if isinstance(a, str) else a for a in multiscale["axes"]]
        names = [str(a["name"]) for a in axes]
        units = tuple(a.get("unit") for a in axes)
        transforms = dataset.get("coordinateTransformations", [])
        scales = [tuple(float(s) for s in t["scale"]) for t in transforms if "scale" in t]
        labels = tuple(
            str(c["label"]) for c in ome.get("omero", {}).get("channels", []) if c.get("label")
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DriverError(
            f"the OME-Zarr metadata of {path} is incomplete ({error!r})", "copy or export it again"
        ) from error
    if names[-2:] != ["y", "x"] or not set(names[:-2]) <= set("tcz"):
        raise ExperimentError(
            f"{path} has axes {', '.join(names)}",
            "give an image with axes out of t, c, z, then y, x",
        )
    array = _open_array(folder, context)
    if array.ndim != len(names):
        raise DriverError(
            f"{folder} has {array.ndim} axes, its metadata names {len(names)}", "export it again"
        )
    scale = scales[0] if scales and len(scales[0]) == len(names) else None
    return _Image(array, "".join(names), scale, units, labels or None)


def _open_array(folder: Path, context: Any) -> Any:
    driver = "zarr3" if (folder / "zarr.json").is_file() else "zarr"
    spec = {
        "driver": driver,
        "kvstore": {"driver": "file", "path": str(folder)},
        "fill_missing_data_reads": False,
    }
    try:
        return ts.open(spec, context=context, read=True, open=True).result()
    except ValueError as error:
        raise DriverError(
            f"the Zarr array {folder} can't be opened ({_brief(error)})",
            "it is truncated or no Zarr array: copy it again",
        ) from error


def _brief(error: ValueError) -> str:
    """tensorstore's message without the trace of its sources."""
    return str(error).split(" [", maxsplit=1)[0]
