"""Frames under known LEDs, for the steps that learn the array's geometry and brightness from a specimen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from drivers.taking import Microscope, Taken
from pipeline.calibrate.step import CalibrationRefusedError
from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.experiment import (
    Experiment,
    LedIllumination,
    ReplayMicroscope,
    SimulatorMicroscope,
)
from pipeline.experiment.illumination import LightChannel
from pipeline.experiment.micromanager import MicroManagerMicroscope
from pipeline.experiment.patterns import LedList, Pattern
from pipeline.experiment.vary import vary
from pipeline.frames import FrameStatus
from pipeline.methods.fill import fill_invalid

Number = TypeVar("Number", bound=np.generic)

# Share of the camera's range that an exposure is set to reach: the brightest detail of a specimen is
# about twice its background.
_AIM = 0.45
# Share of saturated pixels that a frame may have.
_SATURATED = 0.01
# A field wider than this is cut to its middle: as good an answer, sooner.
_MOST_PX = 512


@dataclass(frozen=True)
class LedFrames:
    """Frames with the LEDs that made them.

    Parameters
    ----------
    names
        Of the K channels.
    counts
        ``[K, Z, Y, X]`` float32 above the dark level, the camera's shading divided out.
    valid
        The same shape, False where a pixel was saturated, bad or missing (and filled from around it).
    leds
        Numbers of each channel's LEDs.
    light
        ``[K]`` exposure (ms) times brightness.
    foci_um
        ``[Z]`` focus as commanded.
    """

    names: tuple[str, ...]
    counts: NDArray[np.float32]
    valid: NDArray[np.bool_]
    leds: tuple[NDArray[np.int64], ...]
    light: NDArray[np.float64]
    foci_um: tuple[float, ...]


def led_array(experiment: Experiment) -> LedIllumination:
    """The experiment's LED array; an `ExperimentError` where it has a condenser."""
    light = experiment.illumination
    if not isinstance(light, LedIllumination):
        raise ExperimentError(
            "the illumination is a condenser, which has no LEDs",
            "describe the LED array: illumination.source: led_array",
        )
    return light


def shows_any_pattern(experiment: Experiment) -> bool:
    """Whether LEDs can be lit that none of the experiment's channels names.

    So can the simulator, and a set with one recorded image per LED. Light that Micro-Manager switches by
    a property shows what the device map has a value for.
    """
    microscope = experiment.microscope
    if isinstance(microscope, ReplayMicroscope):
        return microscope.source.lower().endswith(".mat")
    return isinstance(microscope, SimulatorMicroscope)


def moves_focus(experiment: Experiment) -> bool:
    """Whether a frame can be taken at another focus."""
    microscope = experiment.microscope
    if isinstance(microscope, MicroManagerMicroscope):
        return microscope.lens is not None
    return isinstance(microscope, SimulatorMicroscope)


def radii_na(experiment: Experiment) -> NDArray[np.float64]:
    """``[N]`` numerical aperture at which each LED of the array lies."""
    return np.asarray(np.hypot(*led_array(experiment).array.sines().T))


def take_led_frames(
    microscope: Microscope,
    experiment: Experiment,
    known: Calibration,
    channels: Mapping[str, LightChannel] | Sequence[str],
    patterns: Mapping[str, Pattern] | None = None,
    foci_um: Sequence[float] = (0.0,),
) -> LedFrames:
    """Take one frame of each channel at each focus, and correct it.

    Raises
    ------
    CalibrationRefusedError
        If a frame was lost or is saturated.
    """
    shot = vary(experiment, channels=channels, patterns=patterns, foci_um=foci_um)
    taken = microscope.take(shot)
    lost = int((taken.records["status"] != FrameStatus.WRITTEN).sum())
    if lost:
        raise CalibrationRefusedError(
            f"the camera lost {lost} of {taken.records.size} frames",
            "mend the camera's connection or its buffer first: `livephase devices`",
        )
    plan, light = shot.plan(), led_array(shot)
    counts, valid = _corrected(shot, known, taken)
    saturated = 1 - valid.mean(axis=(1, 2, 3))
    worst = int(saturated.argmax())
    bad = 0.0 if known.bad_pixels is None else float(known.bad_pixels.mean())
    if saturated[worst] > _SATURATED + bad:
        raise CalibrationRefusedError(
            f"{saturated[worst]:.0%} of the pixels of channel '{plan.channels[worst].name}' are saturated",
            "lower its exposure_ms or brightness",
        )
    na = experiment.optics.numerical_aperture
    return LedFrames(
        tuple(c.name for c in plan.channels),
        counts,
        valid,
        tuple(light.leds(light.channels[c.name].pattern or "", na) for c in plan.channels),
        np.array([c.exposure_ms * c.brightness for c in plan.channels]),
        plan.foci_um,
    )


def metered_ms(
    microscope: Microscope, experiment: Experiment, known: Calibration, pattern: Pattern
) -> float:
    """Exposure at which the brighter half of a frame under a new pattern lies at about half of the camera's range.

    Found from one frame; exposures from 1/50 to 50 times the longest of the experiment's are tried.
    A recording has the light that it has: 1 ms.
    """
    if isinstance(experiment.microscope, ReplayMicroscope):
        return 1.0
    light = led_array(experiment)
    longest = max(c.exposure_ms for c in light.channels.values())
    camera = experiment.microscope.camera
    top = 2**camera.bit_depth - 1 - camera.offset_counts
    exposure_ms = longest
    # Twice: a first frame that was saturated says only that it was too long.
    for _ in range(2):
        channel = LightChannel(pattern="metered", exposure_ms=exposure_ms)
        shot = vary(experiment, channels={"metered": channel}, patterns={"metered": pattern})
        counts = microscope.take(shot).frames[0, 0, 0, 0].astype(np.float32) - _dark(known, shot)
        level = float(np.quantile(counts, 0.75))
        least = (
            top / 1000
        )  # darker ones are offset and noise: exposures are not raised by more than this
        exposure_ms *= _AIM * top / max(level, least)
        exposure_ms = float(np.clip(exposure_ms, longest / 50, longest * 50))
        if level < 0.95 * top:
            break
    return exposure_ms


def middle(frames: NDArray[Number]) -> NDArray[Number]:
    """At most 512 x 512 pixels of ``[..., Y, X]``."""
    y, x = (
        slice((n - m) // 2, (n - m) // 2 + m) for n in frames.shape[-2:] for m in [min(n, _MOST_PX)]
    )
    return frames[..., y, x]


def list_pattern(leds: Sequence[int] | NDArray[np.int64]) -> LedList:
    """A pattern of these LEDs."""
    return LedList(leds=tuple(int(led) for led in leds))


def _dark(known: Calibration, shot: Experiment) -> NDArray[np.float32]:
    """Dark level of a channel that has none of its own: the mean of those known."""
    if known.dark:
        return np.asarray(np.mean(list(known.dark.values()), axis=0, dtype=np.float32))
    return np.asarray(shot.microscope.camera.offset_counts, np.float32)


def _shading(known: Calibration) -> NDArray[np.float32]:
    """How unevenly the camera and the light illuminate the field, median 1: the same for all LEDs."""
    flats = [f / np.median(f) for f in known.flat.values() if f.ndim == 2 and np.median(f) > 0]
    if not flats:
        return np.ones((1, 1), np.float32)
    return np.asarray(np.mean(flats, axis=0), np.float32)


def _corrected(
    shot: Experiment, known: Calibration, taken: Taken
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    raw = taken.frames[0, 0]
    shape = shot.plan().frame_shape
    # A calibration of another camera region is refused here with its name.
    replace(known, flat={}, dark={}).check([], shape)
    top = 2.0**shot.microscope.camera.bit_depth - 1
    valid = raw < (known.saturation_counts or top)
    if known.bad_pixels is not None:
        valid &= ~known.bad_pixels
    shading = _shading(known)
    valid &= shading > 0.05
    counts = np.empty(raw.shape, np.float32)
    shared = _dark(known, shot)
    for k, name in enumerate(shot.channel_names):
        dark = known.dark.get(name, shared)
        counts[k] = (raw[k] - dark) / np.maximum(shading, 0.05)
    filled = fill_invalid(torch.from_numpy(counts), torch.from_numpy(valid)).numpy()
    return filled, valid
