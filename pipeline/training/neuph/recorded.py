"""Training pairs out of a lab's own single-LED recordings: the phase by Fourier ptychography, frames as sums of LEDs.

Light of different LEDs adds without interference, so the sum of their images is the image under all of them, with
the noise of many exposures instead of one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from drivers.taking import Microscope, whole_slot
from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment, LedIllumination, load_experiment
from pipeline.frames import SlotKey
from pipeline.instrument import resolve_calibration
from pipeline.methods.background import zero_background
from pipeline.methods.fpm.method import Fpm
from pipeline.methods.neuph.fit import channel_sines
from pipeline.methods.neuph.record import LightRecord
from pipeline.optics.sensor import Correction
from pipeline.training.neuph.fields import NeuPhFields

# Of the objective's NA: an LED of a pattern is the recorded one that lies so near.
_NEAR = 0.1
# Relative, of wavelength, NA and pixel.
_SAME = 0.02


def recorded_fields(path: Path, light: LightRecord, upsampling: int) -> NeuPhFields:
    """The field of a single-LED recording as a training pair.

    Parameters
    ----------
    path
        Of the experiment that describes the recording (``method: fpm``); its microscope, mostly a replay, gives a slot.
    light
        Of the network: its patterns are summed from the recorded LEDs.
    upsampling
        Phase pixels per camera pixel.

    Raises
    ------
    ExperimentError
        If the recording is of other optics, isn't LED by LED, or lacks an LED that a pattern needs.
    DriverError
        If a frame of it is missing.
    """
    experiment = load_experiment(path)
    calibration = resolve_calibration(experiment)
    _check_optics(experiment, calibration, light, path)
    chosen = [
        _leds_of(pattern.sines, experiment, calibration, light, path) for pattern in light.patterns
    ]
    settings = {**experiment.reconstruction.settings, "upsampling": upsampling}
    reconstruction = experiment.reconstruction.model_copy(
        update={"method": "fpm", "settings": settings}
    )
    experiment = experiment.model_copy(update={"reconstruction": reconstruction})
    measurement = Fpm().measurement(experiment)
    with Microscope(experiment) as microscope:
        taken = microscope.take_slot(experiment, SlotKey(0, 0))
    raw = whole_slot(taken)
    correction = Correction(experiment, calibration, measurement.frames)
    frames, valid = correction(raw, np.ones(len(raw), bool))
    method = Fpm().load(experiment, calibration, "cpu", None)
    phase = zero_background(method(frames[None], valid[None]).images[:, 0])
    summed = torch.stack([frames[leds].mean(0) for leds in chosen])
    return NeuPhFields(phase.to(torch.float16), summed[None], noisy=True)


def _check_optics(
    experiment: Experiment, calibration: Calibration, light: LightRecord, path: Path
) -> None:
    if not isinstance(experiment.illumination, LedIllumination):
        raise ExperimentError(
            f"{path.name} has no LED array", "give an experiment whose channels are single LEDs"
        )
    optics = experiment.optics
    for name, there, here in (
        ("wavelength", optics.wavelength_um, light.wavelength_um),
        ("NA", optics.numerical_aperture, light.numerical_aperture),
        ("camera pixel at the sample", calibration.pixel_um or experiment.pixel_um, light.pixel_um),
    ):
        if abs(there - here) > _SAME * here:
            raise ExperimentError(
                f"{path.name} was recorded with {name} {there:.4g}, the network is for {here:.4g}",
                "train for the optics of the recording",
            )


def _leds_of(
    sines: tuple[tuple[float, float], ...],
    experiment: Experiment,
    calibration: Calibration,
    light: LightRecord,
    path: Path,
) -> list[int]:
    """Channels of the recording that together are a pattern."""
    single: list[NDArray[np.float64]] = []
    for channel in experiment.channel_names:
        found = channel_sines(experiment, channel, calibration.led_orientation)
        if len(found) > 1:
            raise ExperimentError(
                f"channel '{channel}' of {path.name} lights {len(found)} LEDs",
                "record LED by LED: illumination.one_by_one",
            )
        single.append(found[0])
    apart = np.linalg.norm(np.asarray(sines)[:, None] - np.asarray(single)[None], axis=-1)
    nearest = apart.argmin(1)
    far = apart.min(1) > _NEAR * light.numerical_aperture
    if far.any():
        x, y = sines[int(np.flatnonzero(far)[0])]
        raise ExperimentError(
            f"{path.name} has no LED at NA ({x:.3f}, {y:.3f}), which a pattern lights",
            "record all LEDs of the patterns, or train for patterns of those recorded",
        )
    return [int(k) for k in nearest]
