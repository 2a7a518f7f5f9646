"""Frames of one light at a time, for steps that look at a camera's pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from drivers.taking import Microscope
from pipeline.calibrate.step import CalibrationRefusedError
from pipeline.experiment import Experiment
from pipeline.experiment.illumination import LightChannel
from pipeline.experiment.vary import vary
from pipeline.frames import FrameStatus

Frames = NDArray[np.unsignedinteger]

# What a person is asked to put under the objective for a flat: nothing at all.
EMPTY_FIELD = {"kind": "target", "shape": "blank"}
# Frames that are held at a time; a 2048 square has 8 MB.
_MOST_BYTES = 1e9


def frames_in_memory(experiment: Experiment) -> int:
    """How many frames a step may hold at a time."""
    plan = experiment.plan()
    return max(2, int(_MOST_BYTES // (plan.slot_bytes // plan.frames_per_slot)))


def nearest_focus_um(experiment: Experiment) -> float:
    """The focus of the experiment that is nearest to the position's own."""
    return min(experiment.sequence.foci_um, key=abs)


def shots(
    microscope: Microscope,
    experiment: Experiment,
    lights: Mapping[str, LightChannel],
    frames: int,
    *,
    empty: bool = False,
    focus_um: float | None = None,
) -> Iterator[tuple[str, Frames]]:
    """Take `frames` frames of each of the lights, one after the other, round after round.

    Parameters
    ----------
    lights
        Name → light; ``right@5ms`` is the light of channel ``right`` with an exposure of its own.
    empty
        Nothing lies under the objective (which tells a simulator; a person has seen to it).
    focus_um
        That of the experiment that is nearest to 0 if None.

    Yields
    ------
    Each name with its frames ``[N, Y, X]`` in the order of exposure. Frames that the camera lost are left out.

    Raises
    ------
    CalibrationRefusedError
        If the camera lost half of them.
    """
    at_once = max(1, frames_in_memory(experiment) // frames)
    names = iter(lights)
    while batch := list(islice(names, at_once)):
        taken = microscope.take(
            vary(
                experiment,
                channels={name: lights[name] for name in batch},
                timepoints=frames,
                foci_um=[nearest_focus_um(experiment) if focus_um is None else focus_um],
                specimen=EMPTY_FIELD if empty else None,
            )
        )
        written = taken.records["status"][:, 0, :, 0] == FrameStatus.WRITTEN
        for i, name in enumerate(batch):
            if written[:, i].sum() <= frames / 2:
                raise CalibrationRefusedError(
                    f"the camera lost {frames - written[:, i].sum()} of {frames} frames of '{name}'",
                    "mend the camera's connection or its buffer first: `livephase devices`",
                )
            stack = taken.frames[:, 0, i, 0]
            yield name, stack if written[:, i].all() else stack[written[:, i]]


def dark_shots(
    microscope: Microscope, experiment: Experiment, exposures_ms: Sequence[float], frames: int
) -> Iterator[tuple[float, Frames]]:
    """Take `frames` frames of each exposure with the light off; yields as `shots`."""
    # A dark frame of an LED array has a pattern too, which nothing lights.
    pattern = experiment.illumination.channels[experiment.channel_names[0]].pattern
    lights = {
        f"dark@{ms:.6g}ms": LightChannel(pattern=pattern, brightness=0, exposure_ms=ms)
        for ms in exposures_ms
    }
    taken = shots(microscope, experiment, lights, frames)
    return ((lights[name].exposure_ms, stack) for name, stack in taken)


def middle(shape: tuple[int, int], side: int = 512) -> tuple[slice, slice]:
    """The middle of a frame: as many pixels as statistics over a field need, and memory for a series of frames."""
    y, x = ((n - min(n, side)) // 2 for n in shape)
    return slice(y, y + side), slice(x, x + side)


def light_of(experiment: Experiment, channel: str, exposure_ms: float) -> dict[str, LightChannel]:
    """A channel's light with another exposure, under a name of its own."""
    own = experiment.illumination.channels[channel]
    return {f"{channel}@{exposure_ms:.6g}ms": own.model_copy(update={"exposure_ms": exposure_ms})}
