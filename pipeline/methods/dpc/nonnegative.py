"""The phase that explains frames under LED patterns and is nowhere below the background: see `optics.nonnegative`.

Of two half circles at NA 0.1 (4 of an array's LEDs each) and specimens that no training has seen, the error at periods
of 40 to 80 µm: 0.13 to 0.16 rad, where the linear inverse, which finds nothing there, errs by all of it, 0.20 to 0.24.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pipeline.calibration import Calibration
from pipeline.experiment import Experiment
from pipeline.methods.dpc.margin import FadedMargin
from pipeline.methods.dpc.patterns import PatternTransfer, pattern_transfer
from pipeline.methods.dpc.settings import DpcSettings
from pipeline.optics.nonnegative import nonnegative, usual_power

# Of contrast, per pixel.
_NOISE = 0.015
# Share of the contrast's power that the linear model gets wrong; aliases count in full.
_NOT_LINEAR = 0.05
# The prior's power over the usual specimen's, and absorption's.
_WIDE, _ABSORBED = 30.0, 0.02
# Pull of the constraint against the misfit: less of it finds wide cells in fewer rounds, and noise with them.
_PULL = 1e-4
_ROUNDS = 10


class NonnegativeDpc:
    """Frames ``[B, K, Y, X]``, background 1, to phase ``[B, Y, X]`` ≥ 0 in radians."""

    def __init__(self, transfer: PatternTransfer, device: str) -> None:
        self._margin = FadedMargin(transfer.shape, transfer.padded, device)
        height, width = transfer.padded
        f = np.hypot(
            np.fft.fftfreq(height, transfer.pixel_um)[:, None],
            np.fft.rfftfreq(width, transfer.pixel_um),
        )
        power = usual_power(f, transfer.pixel_um)
        phase, absorption = transfer.both
        misjudged = (_NOT_LINEAR * (np.abs(phase) ** 2).mean(0) + transfer.aliased) * power
        noise = _NOISE**2 + misjudged
        # Absorption is fitted too, and left out: what it explains as well tells nothing of the phase.
        known = (np.abs(absorption) ** 2).sum(0) + noise / (_ABSORBED * power)
        mixed = (np.conj(absorption) * phase).sum(0) / known
        heard = (np.conj(phase) - np.conj(mixed) * np.conj(absorption)) / noise
        told = ((np.abs(phase) ** 2).sum(0) - np.abs(mixed) ** 2 * known) / noise
        pull = _PULL / _NOISE**2
        curvature = told + 1 / (_WIDE * power) + pull
        self._heard = torch.from_numpy((heard / curvature).astype(np.complex64)).to(device)
        self._share = torch.from_numpy((pull / curvature).astype(np.float32)).to(device)

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """See the class."""
        anchor = (_transform(self._margin(frames - 1)) * self._heard).sum(1)
        phase = nonnegative(anchor, self._share, _transform, self._image, _ROUNDS)
        y, x = self._margin.shape
        return phase[..., :y, :x]

    def _image(self, spectrum: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = torch.fft.irfft2(spectrum, s=self._margin.padded, norm="forward")
        return image


def load_nonnegative(
    experiment: Experiment,
    calibration: Calibration,
    frames: Sequence[tuple[str, int]],
    device: str,
) -> NonnegativeDpc:
    """Of `frames` (channel name, focus index)."""
    return NonnegativeDpc(pattern_transfer(experiment, calibration, DpcSettings(), frames), device)


def _transform(images: torch.Tensor) -> torch.Tensor:
    # Forward only: torch 2.13's scaled inverse is wrong for one large complex image on CPUs with AVX-512.
    spectrum: torch.Tensor = torch.fft.rfft2(images, norm="forward")
    return spectrum
