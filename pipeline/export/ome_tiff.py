"""A run as one OME-TIFF, plane by plane: raw frames bit for bit, phase as float32."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.export.ome_metadata import Series, series_metadata, without_unknown
from pipeline.export.selection import Selection, What, pick, select
from pipeline.export.target import check_target, new_file
from pipeline.frames import SlotKey

OME_TIFF_ENDINGS = (".ome.tif", ".ome.tiff", ".ome.tf2", ".ome.tf8", ".ome.btf")
# A viewer that shows a corner should not have to decode the whole of a large frame. TIFF wants multiples of 16.
_TILE_PX = 512
# Noise is what compresses badly: a higher level takes twice the time for a hundredth of the size.
_DEFLATE = {"level": 1}
# Differences of neighbours compress better, and are undone exactly. (TIFF's own for floats needs a codec that
# tifffile does not bring.)
_DIFFERENCES = 2


def export_ome_tiff(
    run: Path | str,
    out: Path | str,
    *,
    what: What | None = None,
    positions: Sequence[str | int] | None = None,
    channels: Sequence[str | int] | None = None,
    timepoints: tuple[int | None, int | None] | None = None,
    force: bool = False,
    on_plane: Callable[[int, int], None] = lambda _done, _of: None,
) -> dict[str, Any]:
    """Write an OME-TIFF (BigTIFF, tiled, compressed without loss): an image for each position and kind.

    A missing raw frame is zeros, a missing phase image NaN; both are listed in the file's structured
    annotations.

    Parameters
    ----------
    run
        The run folder; also of a run that goes on: what is stored so far.
    out
        ``.ome.tif`` and the like.
    what
        Phase (with the method's other images), camera frames, or both; phase where the run has any if not
        given.
    positions, channels
        Names or numbers from 0; all if not given. Channels are those of the light for camera frames, and
        the method's images for phase.
    timepoints
        First, and the one behind the last, from 0 on.
    force
        Write over a file that is there.
    on_plane
        Called with the planes written so far and in all.

    Returns
    -------
    dict
        ``file``, ``bytes``, ``planes``, ``timepoints`` (first and one behind the last), ``images`` (``name``,
        ``channels``, ``axes``, ``shape``, ``dtype``, ``pixel_um``), ``missing`` (as in the annotation, by image).

    Raises
    ------
    LivephaseError
        With the cause and the fix; no part of a file is left.
    """
    import tifffile  # noqa: PLC0415 - takes longer than a movie wants to wait

    out = Path(out)
    check_target(out, OME_TIFF_ENDINGS, "--ome-tiff", force=force)
    chosen = select(run, what, timepoints, positions)
    with chosen.reader:
        images = [
            _series(chosen, kind, position, channels)
            for kind in chosen.kinds
            for position in chosen.positions
        ]
        of = sum(series.planes for series in images)
        done = 0

        def count() -> None:
            nonlocal done
            done += 1
            on_plane(done, of)

        with new_file(out) as temporary:
            with tifffile.TiffWriter(temporary, bigtiff=True, ome=True) as file:
                for series in images:
                    file.write(
                        _tiles(chosen, series, count),
                        shape=series.shape,
                        dtype=series.dtype,
                        tile=(_tile(series.shape[-2]), _tile(series.shape[-1])),
                        photometric="minisblack",
                        compression="zlib",
                        compressionargs=_DEFLATE,
                        predictor=_DIFFERENCES if series.dtype.kind == "u" else None,
                        metadata=series_metadata(chosen, series),
                    )
            written = str(tifffile.tiffcomment(temporary))
            if (told := without_unknown(written)) != written:
                tifffile.tiffcomment(temporary, told.encode())
        return {
            "file": str(out),
            "bytes": out.stat().st_size,
            "planes": of,
            "timepoints": [chosen.timepoints.start, chosen.timepoints.stop],
            "images": [
                {
                    "name": series.name,
                    "channels": list(series.channel_names),
                    "axes": series.axes,
                    "shape": list(series.shape),
                    "dtype": series.dtype.name,
                    "pixel_um": series.pixel_um,
                }
                for series in images
            ],
            "missing": {s.name: json.loads(s.missing_json()) for s in images if s.missing},
        }


def _series(
    chosen: Selection, kind: str, position: int, channels: Sequence[str | int] | None
) -> Series:
    reader, plan = chosen.reader, chosen.reader.plan
    dtype: np.dtype[Any]
    if kind == "raw":
        names: Sequence[str] = [c.name for c in plan.channels]
        foci = plan.foci_um
        dtype, pixel_um = plan.dtype, reader.raw_pixel_um()
        size = plan.frame_shape
    else:
        names = reader.outputs()
        foci = (0.0,)
        dtype, pixel_um = np.dtype(np.float32), reader.phase_pixel_um()
        size = reader.phase_layout().level_shapes[0]
    wanted = (
        range(len(names)) if channels is None else [pick(c, names, "channel") for c in channels]
    )
    place = plan.positions[position].name
    name = f"{place} {kind}" if len(chosen.kinds) > 1 else place
    return Series(
        kind=kind,
        name=name,
        position=position,
        channels=tuple(wanted),
        channel_names=tuple(names[c] for c in wanted),
        foci_um=tuple(foci),
        shape=(len(chosen.timepoints), len(wanted), len(foci), *size),
        dtype=dtype,
        pixel_um=pixel_um,
        missing=tuple(_missing(chosen, kind, position, wanted, len(foci))),
    )


def _missing(
    chosen: Selection, kind: str, position: int, channels: Sequence[int], foci: int
) -> Iterator[tuple[str, int, int, int]]:
    """Planes that there are not: why, and t, c, z within the image."""
    for t, timepoint in enumerate(chosen.timepoints):
        key = SlotKey(timepoint, position)
        whole = chosen.why_no_phase(key) if kind == "phase" else None
        for c, channel in enumerate(channels):
            for z in range(foci):
                why = whole
                if kind == "raw":
                    why = chosen.why_no_frame(key, channel * foci + z)
                if why is not None:
                    yield why, t, c, z


def _tiles(chosen: Selection, series: Series, count: Callable[[], None]) -> Iterator[NDArray[Any]]:
    """Every tile of every plane, in the order of the file."""
    gone = {(t, c, z) for _, t, c, z in series.missing}
    height, width = _tile(series.shape[-2]), _tile(series.shape[-1])
    for t, timepoint in enumerate(chosen.timepoints):
        key = SlotKey(timepoint, series.position)
        phase: NDArray[np.float32] | None = None
        for c, channel in enumerate(series.channels):
            for z in range(len(series.foci_um)):
                if (t, c, z) in gone:
                    plane = _nothing(series)
                elif series.kind == "raw":
                    plane = chosen.reader.raw_frame(key, channel * len(series.foci_um) + z)
                else:
                    phase = chosen.reader.phase(key) if phase is None else phase
                    plane = phase[channel]
                yield from _cut(plane, height, width)
                count()


def _nothing(series: Series) -> NDArray[Any]:
    fill = 0 if series.dtype.kind == "u" else np.nan
    return np.full(series.shape[-2:], fill, series.dtype)


def _cut(plane: NDArray[Any], height: int, width: int) -> Iterator[NDArray[Any]]:
    for y in range(0, plane.shape[0], height):
        for x in range(0, plane.shape[1], width):
            part = plane[y : y + height, x : x + width]
            if part.shape != (height, width):
                edge = ((0, height - part.shape[0]), (0, width - part.shape[1]))
                part = np.pad(part, edge)
            yield part


def _tile(side: int) -> int:
    return min(_TILE_PX, -(-side // 16) * 16)
