"""What an OME-TIFF says of its planes: sizes, times, light, places, and which of them are missing."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from pipeline.export.selection import Selection
from pipeline.frames import SlotKey
from pipeline.wording import ranges

# In the place of a time that is not known; `without_unknown` takes it out again.
UNKNOWN = "unknown"
# Every plane repeats where its position is: of more than so many, only the annotation says it.
_MOST_PLACED = 20_000


@dataclass(frozen=True)
class Series:
    """One image of the file: a position's frames or phase, ``[t, c, z, y, x]``.

    Parameters
    ----------
    channels
        Numbers of the channels or of the method's images.
    missing
        Of each plane that there is not: why, and its t, c, z in this image.
    """

    kind: str
    name: str
    position: int
    channels: tuple[int, ...]
    channel_names: tuple[str, ...]
    foci_um: tuple[float, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pixel_um: float
    missing: tuple[tuple[str, int, int, int], ...]

    axes = "TCZYX"

    @property
    def planes(self) -> int:
        """How many."""
        return int(np.prod(self.shape[:3]))

    def missing_json(self) -> str:
        """The missing planes for programs: ``[{"why", "c", "z", "t": [[first, last], …]}, …]``."""
        found: dict[tuple[str, int, int], list[int]] = {}
        for why, t, c, z in self.missing:
            found.setdefault((why, c, z), []).append(t)
        lines = [
            {"why": why, "c": c, "z": z, "t": [list(r) for r in ranges(t)]}
            for (why, c, z), t in found.items()
        ]
        return json.dumps(lines)


def series_metadata(chosen: Selection, series: Series) -> dict[str, Any]:
    """As `tifffile.TiffWriter.write` takes it for OME."""
    plan, optics = chosen.reader.plan, chosen.reader.experiment.optics
    began, plane = _planes(chosen, series)
    count = len(series.channels)
    metadata: dict[str, Any] = {
        "axes": series.axes,
        "Name": series.name,
        "Description": _description(chosen, series),
        "PhysicalSizeX": series.pixel_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": series.pixel_um,
        "PhysicalSizeYUnit": "µm",
        "Channel": {
            "Name": [n if n != "phase" else "phase / rad" for n in series.channel_names],
            "AcquisitionMode": ["WideField"] * count,
            "IlluminationType": ["Transmitted"] * count,
            "ContrastMethod": ["Phase" if series.kind == "phase" else "Brightfield"] * count,
            "EmissionWavelength": [round(optics.wavelength_um * 1e3, 3)] * count,
            "EmissionWavelengthUnit": ["nm"] * count,
        },
        "Plane": plane,
        "MapAnnotation": _annotation(chosen, series),
    }
    if series.kind == "raw":
        metadata["SignificantBits"] = plan.bit_depth
    if len(series.foci_um) > 1:
        metadata["PhysicalSizeZ"] = float(np.ptp(series.foci_um)) / (len(series.foci_um) - 1)
        metadata["PhysicalSizeZUnit"] = "µm"
    if plan.interval_s:
        metadata["TimeIncrement"] = plan.interval_s
        metadata["TimeIncrementUnit"] = "s"
    if math.isfinite(began):
        when = datetime.fromtimestamp(began, UTC)
        metadata["AcquisitionDate"] = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return metadata


def without_unknown(ome_xml: str) -> str:
    """The document without the times that are not known: tifffile wants a value for every plane."""
    return ome_xml.replace(f' DeltaT="{UNKNOWN}"', "")


def _planes(chosen: Selection, series: Series) -> tuple[float, dict[str, Any]]:
    """When the image began (NaN where no time is known), and the true time and place of each plane."""
    plan = chosen.reader.plan
    foci = len(series.foci_um)
    times = np.full(series.shape[:3], np.nan)
    for t, timepoint in enumerate(chosen.timepoints):
        record = chosen.reader.raw_records.get(SlotKey(timepoint, series.position))
        if record is None:
            continue
        taken = record["frames"]["time_utc"]
        if series.kind == "raw":
            times[t] = taken.reshape(-1, foci)[list(series.channels)]
        else:
            known = taken[np.isfinite(taken)]
            times[t] = known.min() if len(known) else np.nan
    for _, t, c, z in series.missing:
        times[t, c, z] = np.nan
    began = float(np.nanmin(times)) if np.isfinite(times).any() else math.nan
    planes: dict[str, Any] = {}
    if math.isfinite(began):
        # In seconds, as OME takes them where no unit is given.
        delta = (times - began).ravel().tolist()
        planes["DeltaT"] = [round(d, 6) if math.isfinite(d) else UNKNOWN for d in delta]
    if series.kind == "raw":
        exposures = [
            plan.channels[c].exposure_ms / 1e3 for c in series.channels for _ in range(foci)
        ]
        planes["ExposureTime"] = exposures * series.shape[0]
    if series.planes > _MOST_PLACED:
        return began, planes
    place = plan.positions[series.position]
    for axis, value in (("X", place.x_um), ("Y", place.y_um)):
        if value is not None:
            planes[f"Position{axis}"] = [value] * series.planes
            planes[f"Position{axis}Unit"] = ["µm"] * series.planes
    if series.kind == "raw":
        planes["PositionZ"] = list(series.foci_um) * (series.shape[0] * len(series.channels))
        planes["PositionZUnit"] = ["µm"] * series.planes
    return began, planes


def _description(chosen: Selection, series: Series) -> str:
    reader = chosen.reader
    text = f"{reader.experiment.name}: "
    if series.kind == "phase":
        text += (
            f"{' and '.join(series.channel_names)} by {reader.experiment.reconstruction.method}; phase in radians, "
            "zero in the background; NaN where there is none"
        )
    else:
        text += "camera frames in counts, as stored; zeros where a frame is missing"
    return f"{text}. The annotation lists the missing planes."


def _annotation(chosen: Selection, series: Series) -> dict[str, Any]:
    reader = chosen.reader
    info = reader.folder.info()
    place = reader.plan.positions[series.position]
    values = {
        "livephase": info.get("versions", {}).get("livephase", ""),
        "experiment": reader.experiment.name,
        "fingerprint": reader.experiment.fingerprint(),
        "position": place.name,
        "x_um": "" if place.x_um is None else str(place.x_um),
        "y_um": "" if place.y_um is None else str(place.y_um),
        "first_timepoint": str(chosen.timepoints.start),
        "planned_timepoints": str(reader.plan.timepoints),
        "foci_um": json.dumps(list(series.foci_um)),
        "missing_planes": str(len(series.missing)),
        "missing": series.missing_json(),
    }
    if series.kind == "phase":
        values["method"] = reader.experiment.reconstruction.method
        values["weights_sha256"] = info.get("weights_sha256") or ""
    return {"Namespace": "livephase", "Value": {k: v for k, v in values.items() if v != ""}}
