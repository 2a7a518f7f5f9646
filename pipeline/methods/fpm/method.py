"""The method `fpm`: which frames it takes, and when it refuses."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment, LedIllumination
from pipeline.frames import Measurement
from pipeline.methods.contract import Reconstructor
from pipeline.methods.fpm.settings import FpmSettings
from pipeline.methods.settings import read_settings

_EDGE = 1e-6
# Neighbouring LEDs' pupils must share a part of their discs, or nothing ties their images' phases together: at
# 1.6 radii apart 10 % is shared, which is too little for noisy frames but enough to begin with.
_FARTHEST_APART = 1.6


class Fpm:
    """Phase and amplitude beyond the objective's NA from frames under single LEDs, or patterns of them.

    Every frame is used, each with its own LEDs and focus: model-based Fourier ptychography. No training.

    Outputs: ``phase`` (radians, unwrapped) and ``amplitude`` (1 is the background).
    """

    name = "fpm"

    def measurement(self, experiment: Experiment) -> Measurement:
        """All frames.

        Raises
        ------
        ExperimentError
            If there is no LED array, no frame in brightfield, or the LEDs' pupils don't overlap.
        """
        settings = read_settings(FpmSettings, experiment)
        light = experiment.illumination
        if not isinstance(light, LedIllumination):
            raise ExperimentError(
                "method fpm needs an LED array, but illumination.source is a condenser",
                "describe an LED array (source: led_array), or use method: tie with two or more foci",
            )
        patterns = lit_leds(experiment, light)
        sines, na = light.array.sines(), experiment.optics.numerical_aperture
        used = np.unique(np.concatenate(patterns))
        _refuse_without_overlap(sines[used], na)
        if not any((np.hypot(*sines[leds].T) <= na * (1 + _EDGE)).any() for leds in patterns):
            raise ExperimentError(
                f"method fpm needs a brightfield frame, but no LED in use lies within NA {na:g}",
                "add the LEDs near the axis to sequence.channels",
            )
        if settings.refine_positions and any(len(leds) > 1 for leds in patterns):
            raise ExperimentError(
                "reconstruction.settings.refine_positions needs one LED a frame, and a pattern has several",
                "remove refine_positions, or take single LEDs (illumination.one_by_one)",
            )
        return Measurement(
            tuple(range(experiment.plan().frames_per_slot)),
            outputs=("phase", "amplitude"),
            upsampling=settings.upsampling or needed_upsampling(sines[used], experiment),
            accepts_aliasing=True,
        )

    def load(
        self,
        experiment: Experiment,
        calibration: Calibration,
        device: str,
        weights: Path | None,  # noqa: ARG002 - the contract's; a physical model has none
    ) -> Reconstructor:
        """Windows and pupils of this geometry; `weights` are not used.

        Raises
        ------
        ExperimentError
            As `measurement` does.
        """
        from pipeline.methods.fpm.reconstructor import FpmReconstructor  # noqa: PLC0415 - torch

        settings = read_settings(FpmSettings, experiment)
        upsampling = self.measurement(experiment).upsampling
        return FpmReconstructor(experiment, calibration, settings, upsampling, device)


def lit_leds(experiment: Experiment, light: LedIllumination) -> list[NDArray[np.int64]]:
    """LEDs of each channel that is taken."""
    na = experiment.optics.numerical_aperture
    return [light.leds(light.channels[c].pattern or "", na) for c in experiment.channel_names]


def needed_upsampling(sines: NDArray[np.float64], experiment: Experiment) -> int:
    """Phase pixels per camera pixel that hold the synthetic NA of LEDs at `sines` ``[N, 2]``, at Nyquist's rate.

    A little more than that: pupils' windows have a border, and tiles beside the axis see LEDs from further outside.
    """
    optics = experiment.optics
    reach = (np.abs(sines).max() + optics.numerical_aperture) / optics.wavelength_um
    return max(1, math.ceil(2 * experiment.pixel_um * float(reach) * 1.03))


def _refuse_without_overlap(sines: NDArray[np.float64], na: float) -> None:
    """Every LED must have another one near, and all must hang together."""
    if len(sines) < 2:
        raise ExperimentError(
            "method fpm needs several LEDs, and the sequence has one",
            "add LEDs to sequence.channels (illumination.one_by_one lists them all)",
        )
    apart = np.linalg.norm(sines[:, None] - sines[None], axis=-1)
    linked = apart <= _FARTHEST_APART * na
    reached = np.zeros(len(sines), bool)
    reached[np.hypot(*sines.T).argmin()] = True
    while True:
        further = linked[reached].any(0) | reached
        if (further == reached).all():
            break
        reached = further
    if not reached.all():
        np.fill_diagonal(apart, np.inf)
        raise ExperimentError(
            f"method fpm: {int((~reached).sum())} LEDs lie too far from the others for their pupils to overlap "
            f"(neighbours are {np.median(apart.min(0)):.3f} NA apart, the objective has NA {na:g})",
            "put the array farther away, or leave those LEDs out",
        )
