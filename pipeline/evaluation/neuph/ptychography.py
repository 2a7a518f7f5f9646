"""Fourier ptychography of a held-out field: of the sums of LEDs that NeuPh gets, or of each LED by itself."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.evaluation.neuph.fields import Light
from pipeline.evaluation.neuph.stage import Stage
from pipeline.methods.background import zero_background
from pipeline.methods.fpm.imaging import object_field
from pipeline.methods.fpm.solver import Effort, solve
from pipeline.methods.fpm.waves import Waves, make_waves
from pipeline.optics.illumination import Source
from pipeline.optics.unwrap import unwrap

Image = NDArray[np.float32]

ONE_BY_ONE = "fpm_one_by_one"
"""No rival, but what the same LEDs show when each has a frame of its own."""
THOROUGH = Effort(10, 100, recover_pupil=False, recover_light=False)


def one_by_one(lights: list[Light]) -> list[Light]:
    """Every LED of `lights` in a frame of its own, as bright as it is there."""
    return [
        Light(sine[None], light.electrons / len(light.sines))
        for light in lights
        for sine in light.sines
    ]


def stage_waves(stage: Stage, lights: list[Light]) -> Waves:
    """What a field of the stage is seen with, a frame for each of `lights`."""
    optics = stage.experiment.optics
    sources = [
        Source(
            torch.from_numpy(-light.sines / optics.wavelength_um),
            torch.full((len(light.sines),), 1 / len(light.sines), dtype=torch.float64),
        )
        for light in lights
    ]
    return make_waves(
        sources,
        optics,
        stage.experiment.pixel_um,
        stage.experiment.plan().frame_shape,
        stage.upsampling,
        [stage.record.light.z_um] * len(lights),
    )


def ptychography(waves: Waves, frames: torch.Tensor, effort: Effort = THOROUGH) -> Image:
    """Phase ``[u·Y, u·X]`` that explains `frames` ``[K, Y, X]``."""
    with torch.inference_mode():
        found = solve(waves, frames, torch.ones_like(frames, dtype=torch.bool), effort)
        return zero_background(unwrap(object_field(found.spectrum).angle())).numpy()
