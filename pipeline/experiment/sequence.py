"""When and where frames are taken: our own form, or a useq `MDASequence` as it is."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, field_validator, model_validator

from pipeline.experiment.strict import Strict, nearest

if TYPE_CHECKING:
    import useq


class StagePosition(Strict):
    """A place on the specimen."""

    name: str = ""
    x_um: float | None = None
    """Of the stage; none (with y_um none, too): where it stands, the stage is not moved."""
    y_um: float | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.x_um is None) != (self.y_um is None):
            raise ValueError("give both x_um and y_um, or neither for where the stage stands")
        return self


class Sequence(Strict):
    """The axes of the acquisition."""

    timepoints: PositiveInt = Field(le=10_000_000)
    interval_s: NonNegativeFloat = 0.0
    """From one timepoint's start to the next; 0: as fast as the camera goes."""
    channels: tuple[str, ...] = ()
    """Names from `illumination.channels`, in the order of exposure; empty: all of them."""
    foci_um: tuple[float, ...] = Field(default=(0.0,), min_length=1)
    """Focus of each frame; +z: the plane in focus lies downstream of the specimen."""
    positions: tuple[StagePosition, ...] = Field(default=(StagePosition(),), min_length=1)
    slot_order: Literal["tp", "pt"] = "tp"
    """tp: all positions at each timepoint. pt: the whole time series at one position, then the next."""
    frame_order: Literal["cz", "zc"] = "cz"
    """cz: all foci of a channel, then the next channel. zc: all channels at a focus."""

    @field_validator("foci_um")
    @classmethod
    def _foci_differ(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(value)) != len(value):
            raise ValueError("two foci are the same: each focus names one plane, remove the repeat")
        return value


_USEQ_KEYS = {
    "time_plan",
    "z_plan",
    "stage_positions",
    "axis_order",
    "grid_plan",
    "autofocus_plan",
    "keep_shutter_open_across",
}


def is_useq(data: Any) -> bool:
    """Whether a ``sequence:`` section is a useq MDASequence rather than our own form."""
    if not isinstance(data, dict):
        return False
    channels = data.get("channels") or ()
    return bool(_USEQ_KEYS & data.keys()) or any(isinstance(c, dict) for c in channels)


def from_useq(data: dict[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """Translate a useq MDASequence.

    Returns
    -------
    sequence, exposures_ms
        Our own form, and the exposure of each channel that names one.

    Raises
    ------
    ValueError
        For a key that useq does not know (it would ignore it), and for what a regular
        acquisition can't express; with the key and the fix.
    """
    import useq  # noqa: PLC0415 - half a second that only its users should pay

    for key in data:
        if key not in useq.MDASequence.model_fields:
            raise ValueError(
                f"unknown key '{key}' in an MDASequence: {nearest(key, useq.MDASequence.model_fields)}"
            )
    mda = useq.MDASequence.model_validate(data)
    refused = {
        "grid_plan": "list the tiles as stage_positions",
        "autofocus_plan": "remove it: livephase focuses through its own lens",
        "keep_shutter_open_across": "remove it: the light stays on for a whole burst as it is",
    }
    for key, fix in refused.items():
        if getattr(mda, key):
            raise ValueError(f"{key} of an MDASequence is not supported: {fix}")

    timepoints, interval_s = _times(mda)
    names, exposures = _channels(mda)
    order = _order(mda)
    if max(order.index(a) for a in "tp") > min(order.index(a) for a in "cz"):
        raise ValueError(
            f"axis_order '{order}' interleaves timepoints with channels or foci: put t and p first"
        )
    sequence: dict[str, Any] = {
        "timepoints": timepoints,
        "interval_s": interval_s,
        "channels": names,
        "slot_order": "pt" if order.index("p") < order.index("t") else "tp",
        "frame_order": "zc" if order.index("z") < order.index("c") else "cz",
    }
    if mda.z_plan is not None:
        sequence["foci_um"] = [float(z) for z in mda.z_plan]
    positions = _positions(mda)
    if positions:
        sequence["positions"] = positions
    return sequence, exposures


def _order(mda: useq.MDASequence) -> str:
    """The axes from the slowest to the fastest; those that it leaves out have one place each."""
    order = "".join(mda.axis_order)
    plans = {
        "t": ("time_plan", mda.time_plan is not None),
        "p": ("stage_positions", len(mda.stage_positions) > 0),
        "c": ("channels", len(mda.channels) > 0),
        "z": ("z_plan", mda.z_plan is not None),
    }
    for axis, (name, is_given) in plans.items():
        if axis in order:
            continue
        if is_given:
            raise ValueError(
                f"axis_order '{order}' leaves out {axis}, but {name} is given: "
                f"put {axis} into axis_order, or remove {name}"
            )
        order = axis + order if axis in "tp" else order + axis
    return order


def _times(mda: useq.MDASequence) -> tuple[int, float]:
    """Timepoints and their interval in seconds."""
    if mda.time_plan is None:
        return 1, 0.0
    times = list(mda.time_plan)
    steps = {round(b - a, 6) for a, b in pairwise(times)}
    if len(steps) > 1:
        raise ValueError(
            "the MDASequence's time_plan has several intervals: use one phase with one interval"
        )
    return len(times), float(steps.pop()) if steps else 0.0


def _channels(mda: useq.MDASequence) -> tuple[list[str], dict[str, float]]:
    """Names in order, and the exposure in ms of those that give one."""
    names: list[str] = []
    exposures: dict[str, float] = {}
    for channel in mda.channels:
        if channel.acquire_every != 1 or channel.z_offset or not channel.do_stack:
            raise ValueError(
                f"channel '{channel.config}' uses acquire_every, z_offset or do_stack: "
                "every channel is taken at every timepoint and focus, remove them"
            )
        if channel.config in names:
            raise ValueError(f"channel '{channel.config}' is there twice: name each channel once")
        names.append(channel.config)
        if channel.exposure is not None:
            exposures[channel.config] = float(channel.exposure)
    return names, exposures


def _positions(mda: useq.MDASequence) -> list[dict[str, Any]]:
    positions: list[dict[str, Any]] = []
    for position in mda.stage_positions:
        if position.sequence is not None:
            raise ValueError(
                f"position '{position.name}' has a sequence of its own: use one sequence for all positions"
            )
        if position.z is not None:
            raise ValueError(
                f"position '{position.name or len(positions)}' has a z: remove it, foci are "
                "relative to where the microscope is focused"
            )
        positions.append({"name": position.name or "", "x_um": position.x, "y_um": position.y})
    return positions
