"""The method `dpc`: which frames it takes, and when it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment
from pipeline.experiment.illumination import LedIllumination
from pipeline.frames import FrameKey, Measurement
from pipeline.methods.contract import Reconstructor
from pipeline.methods.dpc.settings import DpcSettings
from pipeline.methods.dpc.transfer import Pupil, phase_information, weak_transfer
from pipeline.methods.settings import read_settings

# Of at most 4; half circles in focus reach 1. Below, noise is amplified a hundred times.
_LEAST_INFORMATION = 1e-3
# Steps from the centre to the edge of the passband: fine enough that no pattern hides between.
_CHECK_STEPS = 16


class Dpc:
    """Phase and absorption from two or more brightfield LED patterns, at one focus or several.

    Every frame of every brightfield channel is used, each with the transfer function of its own LEDs and
    focus. A channel most of whose LEDs are darkfield rides along unused.

    Outputs: ``phase`` (radians) and ``absorption`` (μ: the specimen transmits the amplitude exp(-μ)).
    """

    name = "dpc"

    def measurement(self, experiment: Experiment) -> Measurement:
        """All frames under brightfield patterns.

        Raises
        ------
        ExperimentError
            If there are fewer than two, or if together they can't tell phase from absorption.
        """
        settings = read_settings(DpcSettings, experiment)
        light = experiment.illumination
        if not isinstance(light, LedIllumination):
            raise ExperimentError(
                "method dpc needs LED patterns, but illumination.source is a condenser",
                "describe an LED array (source: led_array), or use method: tie with two or more foci",
            )
        bright = _brightfield_channels(experiment, light)
        foci = experiment.sequence.foci_um
        if len(bright) < 2:
            dark = [c for c in experiment.channel_names if c not in bright]
            others = f"; {', '.join(dark)} light mostly beyond the objective's NA" if dark else ""
            raise ExperimentError(
                f"method dpc needs two or more brightfield patterns, but the sequence has {len(bright)}{others}",
                "add opposite half circles (kind: half_circle, direction_deg: 0, 90, 180, 270) to sequence.channels",
            )
        _refuse_without_phase(experiment, light, bright, settings)
        plan = experiment.plan()
        frames = tuple(
            plan.index(FrameKey(0, 0, experiment.channel_names.index(channel), z))
            for channel in bright
            for z in range(len(foci))
        )
        return Measurement(frames, outputs=("phase", "absorption"), upsampling=settings.upsampling)

    def load(
        self,
        experiment: Experiment,
        calibration: Calibration,
        device: str,
        weights: Path | None,  # noqa: ARG002 - the contract's; a physical model has none
    ) -> Reconstructor:
        """Inverse filters of this geometry; `weights` are not used.

        Raises
        ------
        ExperimentError
            As `measurement` does.
        """
        from pipeline.methods.dpc.reconstructor import load_dpc  # noqa: PLC0415 - torch

        settings = read_settings(DpcSettings, experiment)
        names, foci = experiment.channel_names, len(experiment.sequence.foci_um)
        used = [(names[k // foci], k % foci) for k in self.measurement(experiment).frames]
        return load_dpc(experiment, calibration, settings, used, device)


def _brightfield_channels(experiment: Experiment, light: LedIllumination) -> list[str]:
    """Channels at least half of whose LEDs lie inside the objective's NA."""
    na = experiment.optics.numerical_aperture
    sines = np.hypot(*light.array.sines().T)
    bright = []
    for channel in experiment.channel_names:
        inside = sines[light.leds(_pattern(light, channel), na)] <= na * (1 + 1e-6)
        if inside.mean() >= 0.5:
            bright.append(channel)
    return bright


def _pattern(light: LedIllumination, channel: str) -> str:
    pattern = light.channels[channel].pattern
    assert pattern is not None, "refused by the experiment's validator"
    return pattern


def _refuse_without_phase(
    experiment: Experiment, light: LedIllumination, bright: list[str], settings: DpcSettings
) -> None:
    """Refuse sets whose frames together say nothing of the phase, by their own transfer functions."""
    optics = experiment.optics
    step = 2 * optics.cutoff_per_um / _CHECK_STEPS
    transfer = []
    for channel in bright:
        leds = light.leds(_pattern(light, channel), optics.numerical_aperture)
        waves = -light.array.sines()[leds] / optics.wavelength_um
        for z_um in experiment.sequence.foci_um:
            pupil = Pupil(optics, z_um, settings.aberration_rad)
            grid = (step, step), (_CHECK_STEPS, _CHECK_STEPS)
            transfer.append(weak_transfer(pupil, waves, np.ones(len(leds)), *grid))
    phase, absorption = np.stack(transfer, axis=1)
    if phase_information(phase, absorption).max() >= _LEAST_INFORMATION:
        return
    if np.abs(phase).max() ** 2 < _LEAST_INFORMATION:
        raise ExperimentError(
            f"the patterns {', '.join(bright)} are symmetric about the axis, and in focus they show no phase",
            "use half circles in opposite directions, or add a defocused plane to sequence.foci_um",
        )
    raise ExperimentError(
        f"the patterns {', '.join(bright)} light from the same directions: phase can't be told from absorption",
        "add the opposite half circles (direction_deg: 180 apart)",
    )
