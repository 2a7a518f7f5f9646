"""The transfer functions of an experiment's own frames, on the padded grid that their inverses work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from pipeline.calibration import Calibration
from pipeline.experiment import Experiment
from pipeline.methods.dpc.settings import DpcSettings
from pipeline.methods.dpc.transfer import Pupil, sampled_transfer
from pipeline.optics.illumination import calibrated_source


@dataclass(frozen=True, eq=False)
class PatternTransfer:
    """What phase and absorption make of K frames.

    Parameters
    ----------
    both
        ``[2, K, H, W//2 + 1]`` of phase and absorption.
    aliased
        ``[H, W//2 + 1]`` squared transfer that folds back from beyond the camera's Nyquist frequency, mean over frames.
    shape, padded
        ``(Y, X)`` of the frames and ``(H, W)`` of the grid they are padded to.
    pixel_um
        Camera pixel at the sample.
    """

    both: NDArray[np.complex128]
    aliased: NDArray[np.float64]
    shape: tuple[int, int]
    padded: tuple[int, int]
    pixel_um: float


def pattern_transfer(
    experiment: Experiment,
    calibration: Calibration,
    settings: DpcSettings,
    frames: Sequence[tuple[str, int]],
) -> PatternTransfer:
    """Of `frames` (channel name, focus index), under the calibrated light."""
    pixel_um = calibration.pixel_um or experiment.pixel_um
    shape = experiment.microscope.camera.shape_px
    height, width = (_padded(n, settings.padding_px) for n in shape)
    both = np.empty((2, len(frames), height, width // 2 + 1), np.complex128)
    aliased = np.zeros(both.shape[2:])
    for k, (channel, focus) in enumerate(frames):
        source = calibrated_source(experiment, channel, calibration)
        pupil = Pupil(
            experiment.optics,
            calibration.true_focus_um(experiment.sequence.foci_um[focus]),
            settings.aberration_rad,
        )
        both[:, k], folded = sampled_transfer(
            pupil, source.frequencies.numpy(), source.weights.numpy(), (height, width), pixel_um
        )
        aliased += folded / len(frames)
    return PatternTransfer(both, aliased, shape, (height, width), pixel_um)


def _padded(length: int, margin: int) -> int:
    return int(next_fast_len(length + margin, real=True)) if margin else length
