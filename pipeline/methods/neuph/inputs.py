"""What the encoders see: frames and the phase that their DPC finds, each brought to a usual size."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.calibration import Calibration
from pipeline.experiment import Experiment
from pipeline.methods.background import background_level
from pipeline.methods.dpc.nonnegative import load_nonnegative
from pipeline.methods.dpc.reconstructor import load_dpc
from pipeline.methods.dpc.settings import DpcSettings
from pipeline.methods.fill import fill_invalid
from pipeline.methods.neuph.record import InputScale, NeuPhNetwork

# Two half circles tell nothing of the phase along the line between them: more of this, less noise there.
_DPC = DpcSettings(regularisation_phase=3e-3)


class NeuPhInputs:
    """Calibrated frames ``[B, K, Y, X]`` to the encoders' images ``[B, K + E, Y, X]``, before scaling.

    Brightfield frames as contrast, 0 the background. Darkfield frames as amplitudes: they span decades, and the
    noise of a root is even. Last the E phases that the brightfield frames give by the transfer functions of the
    array's own LEDs: the linear inverse, and, if E is 2, the one that is nowhere below the background, which finds what
    half circles don't tell of wide cells.

    Parameters
    ----------
    frames
        Their indices along the slot's K axis, brightfield first.
    network
        What it takes.
    """

    def __init__(
        self,
        experiment: Experiment,
        calibration: Calibration,
        frames: Sequence[int],
        network: NeuPhNetwork,
        device: str,
    ) -> None:
        names, foci = experiment.channel_names, len(experiment.sequence.foci_um)
        self._brightfield = network.brightfield
        used = [(names[k // foci], k % foci) for k in frames[: network.brightfield]]
        self._dpc = load_dpc(experiment, calibration, _DPC, used, device)
        self._nonnegative = (
            load_nonnegative(experiment, calibration, used, device)
            if network.estimates > 1
            else None
        )

    def __call__(self, frames: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """See the class."""
        frames = fill_invalid(frames, valid)
        bright, dark = frames[:, : self._brightfield], frames[:, self._brightfield :]
        bright = bright / background_level(bright)[..., None, None]
        phases = [self._dpc(bright, torch.ones_like(bright, dtype=torch.bool)).images[:, :1]]
        if self._nonnegative is not None:
            phases.append(self._nonnegative(bright)[:, None])
        return torch.cat([bright - 1, dark.clamp_min(0).sqrt(), *phases], 1)


def measured_scale(inputs: Sequence[torch.Tensor]) -> InputScale:
    """Mean and deviation of each image over many ``[B, K + E, Y, X]``."""
    pixels = torch.cat([i.transpose(0, 1).flatten(1) for i in inputs], 1).double()
    return InputScale(
        mean=tuple(float(m) for m in pixels.mean(1)),
        deviation=tuple(float(d) for d in pixels.std(1)),
    )


def scaled(inputs: torch.Tensor, scale: InputScale) -> torch.Tensor:
    """Images of zero mean and unit variance over the training data."""
    mean = inputs.new_tensor(scale.mean)[:, None, None]
    return (inputs - mean) / inputs.new_tensor(scale.deviation)[:, None, None]


def images_of(network: NeuPhNetwork) -> int:
    """How many images the encoders take together."""
    return sum(network.encoders)
