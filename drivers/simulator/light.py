"""The light of each channel as it really is: LEDs out of place, unequally bright."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.simulator.chance import Stream, generator
from pipeline.calibration import LedOrientation
from pipeline.errors import ExperimentError
from pipeline.experiment import (
    Condenser,
    Experiment,
    LedIllumination,
    SimulatorMicroscope,
    nearest,
)
from pipeline.experiment.led_arrays import direction_sines

# An LED never goes quite dark, whatever the spread.
_DIMMEST = 0.05


@dataclass(frozen=True)
class ChannelLight:
    """One channel's light.

    Parameters
    ----------
    electrons_per_ms
        Per camera pixel at the channel's brightness, if all of its light passed the pupil.
    passing
        Share of the light that passes the pupil without a specimen.
    brightfield
        Whether it nominally has a background: LED errors may push a little light into a darkfield.
    """

    electrons_per_ms: float
    passing: float
    brightfield: bool


@dataclass(frozen=True)
class LedErrors:
    """Every LED of the array: direction sines ``[N, 2]`` and relative intensity ``[N]``."""

    sines: NDArray[np.float64]
    intensity: NDArray[np.float64]


def true_orientation(microscope: SimulatorMicroscope) -> LedOrientation:
    """How the array really lies to the camera."""
    wrong = microscope.imperfections
    return LedOrientation(wrong.led_flip_x, wrong.led_swap_xy, wrong.led_rotation_deg)


def led_errors(light: LedIllumination, microscope: SimulatorMicroscope) -> LedErrors:
    """Where the LEDs really are and how bright; seeded per LED."""
    wrong = microscope.imperfections
    places = light.array.places_mm()
    chance = np.stack(
        [
            generator(microscope.seed, Stream.LEDS, led).standard_normal(3)
            for led in range(len(places))
        ]
    )
    places[:, :2] += wrong.led_position_sigma_mm * chance[:, :2]
    intensity = 1 + wrong.led_intensity_sigma * chance[:, 2]
    return LedErrors(direction_sines(places), intensity.clip(_DIMMEST))


def _own_intensity(name: str, known: Iterable[str], microscope: SimulatorMicroscope) -> float:
    """A channel's true brightness, relative to what it should be; ``right@5ms`` is lit as ``right``."""
    own = microscope.imperfections.channel_intensity
    for wrong in own.keys() - set(known):
        raise ExperimentError(
            f"imperfections.channel_intensity names the unknown channel '{wrong}'",
            nearest(wrong, known),
        )
    return own.get(name, own.get(name.partition("@")[0], 1.0))


def channel_lights(
    experiment: Experiment, microscope: SimulatorMicroscope, errors: LedErrors | None
) -> dict[str, ChannelLight]:
    """The light of every channel of the experiment.

    Each LED shines alike, so a pattern of more LEDs is brighter. `microscope.electrons` is the
    background of the brightfield channel that lights the most.
    """
    light = experiment.illumination
    unit = microscope.electrons / 10  # per ms: it is given for 10 ms
    own = {n: unit * _own_intensity(n, light.channels, microscope) for n in light.channels}
    if isinstance(light, Condenser):
        channels = light.channels.items()
        return {n: ChannelLight(own[n] * c.brightness, 1.0, True) for n, c in channels}
    assert errors is not None
    na = experiment.optics.numerical_aperture
    nominal = np.hypot(*light.array.sines().T) <= na * (1 + 1e-6)
    actual = np.hypot(*errors.sines.T) <= na * (1 + 1e-6)
    lit = {n: light.leds(c.pattern or "", na) for n, c in light.channels.items()}
    # A sequence without any brightfield channel: as if all brightfield LEDs made one.
    most = max(int(nominal[leds].sum()) for leds in lit.values()) or max(int(nominal.sum()), 1)
    lights = {}
    for name, leds in lit.items():
        power = errors.intensity[leds]
        lights[name] = ChannelLight(
            float(own[name] * light.channels[name].brightness * power.sum() / most),
            float(power[actual[leds]].sum() / power.sum()),
            bool(nominal[leds].any()),
        )
    return lights
