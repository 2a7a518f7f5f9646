"""TIFF and OME-TIFF, page by page."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from drivers.recordings.array_layout import axes_by_count, axes_by_shape
from drivers.recordings.recording import RecordedFrame, Recording, describe
from pipeline.errors import DriverError, ExperimentError
from pipeline.frames import FrameKey, Plan

# What tifffile and the decoders raise on damaged files.
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    EOFError,
    struct.error,
    zlib.error,
)
# tifffile's letters for axes that no metadata names: a plain stack.
_PLAIN = set("IQ")
_SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}
_MICROMETERS = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3}


class TiffRecording(Recording):
    """Axes by the file's metadata (OME, ImageJ, Micro-Manager); a plain stack by the plan.

    Several series of one shape in an OME-TIFF are positions.

    Raises
    ------
    DriverError
        If the file can't be read.
    ExperimentError
        If its axes can't be timepoints, positions, channels and foci of grey frames.
    """

    def __init__(self, path: Path, plan: Plan, loop: bool) -> None:
        self.path = path
        self._times: dict[tuple[int, int, int, int], float] = {}
        try:
            self._tiff = tifffile.TiffFile(path)
        except _UNREADABLE as error:
            raise _unreadable(path, error) from error
        try:
            self._read_layout(plan, loop)
        except BaseException:
            self._tiff.close()
            raise

    def frame(self, key: FrameKey) -> NDArray[Any] | None:
        """One page; None where the file's metadata lists it without pixels."""
        series, index = self._locate(key)
        if self._array is not None:
            pixels: NDArray[Any] = self._array[index]
            return pixels
        try:
            page = self._series[series].pages[index]
            if page is None:
                return None
            read: NDArray[Any] = page.asarray()
        except _UNREADABLE as error:
            raise DriverError(
                f"{self.path.name}, {describe(key)}: the page can't be read ({error})",
                "the file is truncated or damaged: copy it again",
            ) from error
        return read.reshape(self.frame_shape)

    def about(self, key: FrameKey) -> RecordedFrame:
        """The plane's time in the OME metadata, where it has one."""
        series, _ = self._locate(key)
        seconds = self._times.get((series, key.timepoint, key.channel, key.focus))
        return RecordedFrame() if seconds is None else RecordedFrame(time_s=seconds)

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()

    def _read_layout(self, plan: Plan, loop: bool) -> None:
        path = self.path
        try:
            series = list(self._tiff.series)
            ome = self._tiff.ome_metadata
        except _UNREADABLE as error:
            raise _unreadable(path, error) from error
        if not series:
            raise DriverError(f"{path} has no image", "copy or export it again")
        if len({(s.axes, tuple(s.shape)) for s in series}) > 1:
            raise ExperimentError(
                f"{path.name} has {len(series)} images of different shapes",
                "save the images of one acquisition, without thumbnails, in one file",
            )
        self._series = series
        self.dtype = np.dtype(series[0].dtype)
        axes, shape = str(series[0].axes), tuple(int(n) for n in series[0].shape)
        if not axes.endswith("YX"):
            raise ExperimentError(
                f"{path.name} has axes {axes}, not grey frames [y, x] last",
                "save grey frames, not colour, as [t, c, y, x]",
            )
        self.frame_shape = (shape[-2], shape[-1])
        self._page_axes, self._page_shape = self._name_axes(axes[:-2], shape[:-2], plan, loop)
        length = dict(zip(self._page_axes, self._page_shape, strict=True))
        self.timepoints = length.get("T", 1)
        self.channels, self.foci = length.get("C", 1), length.get("Z", 1)
        self.positions = length.get("R", 1) * len(series)
        self._array = self._map_contiguous()
        if ome is not None:
            self._read_ome(ome)

    def _name_axes(
        self, axes: str, shape: tuple[int, ...], plan: Plan, loop: bool
    ) -> tuple[str, tuple[int, ...]]:
        # tifffile calls Micro-Manager's position axis P or R.
        axes = axes.replace("P", "R")
        kept = [(a, n) for a, n in zip(axes, shape, strict=True) if n > 1 or a in "TCZR"]
        if any(a in _PLAIN for a, _ in kept):
            pages = int(np.prod([n for _, n in kept]))
            if len(self._series) > 1:
                pages *= len(self._series)
                raise ExperimentError(
                    f"{self.path.name} has {len(self._series)} stacks without metadata",
                    "save one stack, or OME-TIFF, which says which page is what",
                )
            if len(kept) > 1:
                lengths = tuple(n for _, n in kept)
                return axes_by_shape(self.path, lengths, plan, loop).upper(), lengths
            t = axes_by_count(self.path, pages, plan, loop)
            return "TCZ", (t, len(plan.channels), len(plan.foci_um))
        unknown = [a for a, _ in kept if a not in "TCZR"]
        if unknown:
            raise ExperimentError(
                f"{self.path.name} has an axis {unknown[0]} that is no timepoint, channel or focus",
                "save it as [t, c, z, y, x]",
            )
        if not kept and plan.frames_per_slot * plan.timepoints > 1 and not loop:
            axes_by_count(self.path, 1, plan, loop)
        return "".join(a for a, _ in kept), tuple(n for _, n in kept)

    def _map_contiguous(self) -> NDArray[Any] | None:
        """Memory-map pixels that lie in one uncompressed block: ``[pages, Y, X]``; else None.

        Also the one way to the pages of files over 4 GB whose directory holds only the first.
        """
        series = self._series[0]
        if len(self._series) > 1 or series.dataoffset is None:
            return None
        dtype = self.dtype.newbyteorder(self._tiff.byteorder)
        pages = int(np.prod(self._page_shape, dtype=np.int64))
        try:
            return np.memmap(
                self.path,
                dtype=dtype,
                mode="r",
                offset=int(series.dataoffset),
                shape=(pages, *self.frame_shape),
            )
        except (OSError, ValueError) as error:
            raise DriverError(
                f"{self.path} ends before its last frame ({error})",
                "the file is truncated: copy it again",
            ) from error

    def _locate(self, key: FrameKey) -> tuple[int, int]:
        """Number of the series, and of the page in it."""
        per_file = self.positions // len(self._series)
        series, region = divmod(key.position, per_file)
        place = {"T": key.timepoint, "C": key.channel, "Z": key.focus, "R": region}
        index = tuple(place[a] for a in self._page_axes)
        return series, int(np.ravel_multi_index(index, self._page_shape)) if index else 0

    def _read_ome(self, text: str) -> None:
        try:
            root = ET.fromstring(text)
        except ET.ParseError:
            self.remarks = (f"{self.path.name}: its OME metadata is damaged and was left out",)
            return
        images = list(_children(root, "Image"))
        pixels = [next(_children(image, "Pixels"), None) for image in images]
        if not pixels or pixels[0] is None:
            return
        names = [c.get("Name") for c in _children(pixels[0], "Channel")]
        if len(names) == self.channels and all(names):
            self.channel_names = tuple(str(n) for n in names)
        size = _number(pixels[0].get("PhysicalSizeX"))
        unit = pixels[0].get("PhysicalSizeXUnit", "µm")
        if size is not None and size > 0 and unit in _MICROMETERS:
            self.pixel_um = size * _MICROMETERS[unit]
        bits = _number(pixels[0].get("SignificantBits"))
        # Writers that don't know the camera put the type's own width there.
        if bits is not None and self.dtype.kind == "u" and bits != 8 * self.dtype.itemsize:
            self.bit_depth = int(bits)
        times = {}
        for number, image in enumerate(pixels):
            for plane in _children(image, "Plane") if image is not None else ():
                seconds = _number(plane.get("DeltaT"))
                factor = _SECONDS.get(plane.get("DeltaTUnit", "s"))
                if seconds is not None and factor is not None:
                    t, c, z = (int(plane.get(a, "0")) for a in ("TheT", "TheC", "TheZ"))
                    times[number, t, c, z] = seconds * factor
        self._times = times


def _unreadable(path: Path, error: Exception) -> DriverError:
    return DriverError(f"{path} is not a readable TIFF ({error})", "copy or export it again")


def _children(element: ET.Element, name: str) -> Iterator[ET.Element]:
    """Child elements of a name, whatever the OME schema's version."""
    return (e for e in element if e.tag.rpartition("}")[2] == name)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and np.isfinite(value) else None
