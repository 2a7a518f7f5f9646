"""What an experiment's light means for a training: the network's inputs, their scale, the light of each frame."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.calibration import Calibration
from pipeline.experiment import Experiment
from pipeline.experiment.illumination import LedIllumination
from pipeline.methods.neuph.fit import matching_frames
from pipeline.methods.neuph.inputs import NeuPhInputs, measured_scale
from pipeline.methods.neuph.record import InputScale, LightRecord
from pipeline.training.neuph.batches import PatternNoise
from pipeline.training.neuph.fields import NeuPhFields


def inputs_of(
    experiment: Experiment, calibration: Calibration, light: LightRecord, shape: tuple[int, int]
) -> NeuPhInputs:
    """For frames of a field's size, in the light's order."""
    microscope = experiment.microscope
    camera = microscope.camera.model_copy(update={"shape_px": shape})
    small = experiment.model_copy(
        update={"microscope": microscope.model_copy(update={"camera": camera})}
    )
    frames = matching_frames(experiment, calibration, light)
    return NeuPhInputs(
        small, calibration, frames, sum(p.brightfield for p in light.patterns), "cpu"
    )


def relative_light(
    experiment: Experiment, calibration: Calibration, light: LightRecord
) -> np.ndarray:
    """``[K]`` electrons that stand for 1 in each frame, relative to a brightfield frame's."""
    illumination = experiment.illumination
    assert isinstance(illumination, LedIllumination), "refused by light_record"
    plan, foci = experiment.plan(), len(experiment.sequence.foci_um)
    channels = [plan.channels[k // foci] for k in matching_frames(experiment, calibration, light)]
    given = [
        c.exposure_ms * c.brightness * len(p.sines)
        for c, p in zip(channels, light.patterns, strict=True)
    ]
    return np.asarray(given) / given[0]


def scale_of(fields: NeuPhFields, inputs: NeuPhInputs, noise: PatternNoise) -> InputScale:
    """What brings the inputs of such fields to the size of 1."""
    rng = np.random.default_rng(0)
    frames = torch.stack([noise(f, rng) for f in fields.frames[:64]])
    return measured_scale([inputs(frames, torch.ones_like(frames, dtype=torch.bool))])
