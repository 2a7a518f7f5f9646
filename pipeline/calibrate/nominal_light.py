"""What light each channel should have, by the experiment's own geometry."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.calibrate.step import CalibrationRefusedError
from pipeline.calibration import Calibration
from pipeline.experiment import Condenser, Experiment

# An LED on the very edge of the pupil is inside it.
_EDGE = 1e-6


class NominalLight(NamedTuple):
    """A channel's light.

    `leds` the number of its LEDs, each weighted with its calibrated intensity, times the brightness; `passing`
    the share of it that passes the pupil without a specimen: 0 in darkfield.
    """

    leds: float
    passing: float

    @property
    def brightfield(self) -> bool:
        """Whether the channel has light without a specimen."""
        return self.leds * self.passing > 0


def nominal_light(experiment: Experiment, channel: str, known: Calibration) -> NominalLight:
    """The light of one channel of the experiment."""
    light = experiment.illumination
    brightness = light.channels[channel].brightness
    if isinstance(light, Condenser):
        return NominalLight(brightness, 1.0)
    na = experiment.optics.numerical_aperture
    lit = light.leds(light.channels[channel].pattern or "", na)
    intensity = np.array([known.led_intensity.get(int(led), 1.0) for led in lit])
    inside = np.hypot(*light.array.sines()[lit].T) <= na * (1 + _EDGE)
    return NominalLight(
        float(brightness * intensity.sum()), float(intensity[inside].sum() / intensity.sum())
    )


def lit_channels(experiment: Experiment) -> list[str]:
    """The experiment's channels that have any light: a dark one needs no calibration of it."""
    lights = experiment.illumination.channels
    return [name for name in experiment.channel_names if lights[name].brightness > 0]


def brightfield_channels(experiment: Experiment, known: Calibration) -> list[str]:
    """Those that have light without a specimen."""
    return [
        name
        for name in lit_channels(experiment)
        if nominal_light(experiment, name, known).brightfield
    ]


def brightest_channel(experiment: Experiment, known: Calibration) -> str:
    """The channel with the most light per ms without a specimen.

    Raises
    ------
    CalibrationRefusedError
        If none has any.
    """
    lights = {c: nominal_light(experiment, c, known) for c in lit_channels(experiment)}
    best = max(lights, key=lambda c: lights[c].leds * lights[c].passing, default=None)
    if best is None or not lights[best].brightfield:
        raise CalibrationRefusedError(
            "no channel has light without a specimen",
            "add a brightfield channel to the experiment for the calibration",
        )
    return best


def lacks_background(experiment: Experiment) -> str | None:
    """Why what is measured on an empty field can't be; None where a channel has light without a specimen."""
    if brightfield_channels(experiment, Calibration()):
        return None
    return "no channel has light without a specimen"
