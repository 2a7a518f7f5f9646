"""The OME-NGFF 0.5 documents of a run's images: axes, units, scales, channels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.experiment import Experiment

_VERSION = "0.5"
_AXES: dict[str, dict[str, str]] = {
    "t": {"name": "t", "type": "time", "unit": "second"},
    "c": {"name": "c", "type": "channel"},
    "z": {"name": "z", "type": "space", "unit": "micrometer"},
    "y": {"name": "y", "type": "space", "unit": "micrometer"},
    "x": {"name": "x", "type": "space", "unit": "micrometer"},
}


@dataclass(frozen=True)
class Channel:
    """How a viewer is to show a channel: its name and the values from black to white."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class ImageDescription:
    """What an image's metadata says beyond its shape.

    Parameters
    ----------
    name
        ``"raw"`` or ``"phase"``.
    axes
        ``"tczyx"`` or ``"tcyx"``.
    levels
        Of the pyramid; each halves the one before.
    channels
        In the order of the axis c.
    pixel_um
        Of the finest level, at the sample.
    shift_um
        Centre of the first pixel of the finest level, against the centre of the first camera pixel.
    period_s
        From one timepoint to the next.
    """

    name: str
    axes: str
    levels: int
    channels: tuple[Channel, ...]
    pixel_um: float
    shift_um: float
    period_s: float


def group(attributes: dict[str, Any]) -> dict[str, Any]:
    """A Zarr group's metadata."""
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def collection() -> dict[str, Any]:
    """The root of a store with several positions."""
    return group({"ome": {"version": _VERSION, "bioformats2raw.layout": 3}})


def series(paths: Iterable[str]) -> dict[str, Any]:
    """The group "OME" of such a store: its images in the order of the plan."""
    return group({"ome": {"version": _VERSION, "series": list(paths)}})


def image(experiment: Experiment, what: ImageDescription, position: int) -> dict[str, Any]:
    """One position's image: a multiscale with its channels, and what OME-NGFF has no words for."""
    plan = experiment.plan()
    place = plan.positions[position]
    multiscale: dict[str, Any] = {
        "name": place.name,
        "axes": [_AXES[axis] for axis in what.axes],
        "datasets": [_dataset(what, plan.foci_um, level) for level in range(what.levels)],
    }
    if what.levels > 1:
        multiscale["type"] = "mean"
        multiscale["metadata"] = {"description": "2x2 means; an odd last row or column is left out"}
    livephase = {
        "image": what.name,
        "experiment": experiment.name,
        "fingerprint": experiment.fingerprint(),
        "position": {"name": place.name, "x_um": place.x_um, "y_um": place.y_um},
        # OME-NGFF has no irregular axes: its scale gives the mean step, this what was asked for.
        "foci_um": list(plan.foci_um),
        "interval_s": plan.interval_s,
    }
    channels = [_omero(channel, active=i == 0) for i, channel in enumerate(what.channels)]
    ome = {"version": _VERSION, "multiscales": [multiscale], "omero": {"channels": channels}}
    return group({"ome": ome, "livephase": livephase})


def _dataset(what: ImageDescription, foci_um: tuple[float, ...], level: int) -> dict[str, Any]:
    factor = 2**level
    # A coarse pixel's centre is the mean of the centres that it is made of.
    centre_um = what.shift_um + (factor - 1) / 2 * what.pixel_um
    step = {"t": what.period_s, "c": 1.0, "y": factor * what.pixel_um, "x": factor * what.pixel_um}
    start = {"t": 0.0, "c": 0.0, "y": centre_um, "x": centre_um}
    if "z" in what.axes:
        step["z"] = float(np.ptp(foci_um)) / (len(foci_um) - 1)
        # Where the foci don't rise, an axis can't say where they begin.
        start["z"] = foci_um[0] if list(foci_um) == sorted(foci_um) else 0.0
    transformations: list[dict[str, Any]] = [
        {"type": "scale", "scale": [step[axis] for axis in what.axes]}
    ]
    translation = [start[axis] for axis in what.axes]
    if any(translation):
        transformations.append({"type": "translation", "translation": translation})
    return {"path": str(level), "coordinateTransformations": transformations}


def _omero(channel: Channel, *, active: bool) -> dict[str, Any]:
    low, high = channel.low, channel.high
    return {
        "label": channel.name,
        # The channels are one light from several sides: white, and one shown at a time.
        "color": "FFFFFF",
        "active": active,
        "window": {"min": low, "max": high, "start": low, "end": high},
    }
