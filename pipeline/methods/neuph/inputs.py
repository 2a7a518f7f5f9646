"""What the encoders see: frames and their DPC phase, each brought to a usual size."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.calibration import Calibration
from pipeline.experiment import Experiment
from pipeline.methods.background import background_level
from pipeline.methods.dpc.reconstructor import load_dpc
from pipeline.methods.dpc.settings import DpcSettings
from pipeline.methods.fill import fill_invalid
from pipeline.methods.neuph.record import InputScale, NeuPhNetwork

# Two half circles tell nothing of the phase along the line between them: more of this, less noise there.
_DPC = DpcSettings(regularisation_phase=3e-3)


class NeuPhInputs:
    """Calibrated frames ``[B, K, Y, X]`` to the encoders' images ``[B, K + 1, Y, X]``, before scaling.

    Brightfield frames as contrast, 0 the background. Darkfield frames as amplitudes: they span decades, and the
    noise of a root is even. Last the phase that a linear inverse finds in the brightfield frames, with the transfer
    functions of the array's own LEDs.

    Parameters
    ----------
    frames
        Their indices along the slot's K axis, brightfield first.
    brightfield
        How many of them are.
    """

    def __init__(
        self,
        experiment: Experiment,
        calibration: Calibration,
        frames: Sequence[int],
        brightfield: int,
        device: str,
    ) -> None:
        names, foci = experiment.channel_names, len(experiment.sequence.foci_um)
        self._brightfield = brightfield
        used = [(names[k // foci], k % foci) for k in frames[:brightfield]]
        self._dpc = load_dpc(experiment, calibration, _DPC, used, device)

    def __call__(self, frames: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """See the class."""
        frames = fill_invalid(frames, valid)
        bright, dark = frames[:, : self._brightfield], frames[:, self._brightfield :]
        bright = bright / background_level(bright)[..., None, None]
        dpc = self._dpc(bright, torch.ones_like(bright, dtype=torch.bool)).images[:, :1]
        return torch.cat([bright - 1, dark.clamp_min(0).sqrt(), dpc], 1)


def measured_scale(inputs: Sequence[torch.Tensor]) -> InputScale:
    """Mean and deviation of each image over many ``[B, K + 1, Y, X]``."""
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
