"""What a network has to beat: the same specimen's phase by methods without one, on the same grid."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.calibration import Calibration
from pipeline.experiment import Experiment
from pipeline.methods.tie import Tie
from pipeline.quality import nyquist_oracle

Image = NDArray[np.float32]


class Baselines:
    """Phases ``[s·Y, s·X]`` from frames ``[Y, X]`` of one specimen.

    - ``nyquist_oracle``: the truth, low-passed at the camera's Nyquist frequency. Not a method: what beats it
      resolves beyond the pixels.
    - ``tie_fft``: FFT-TIE from two frames, at -z and +z (one more than the network gets), on the camera's grid,
      interpolated.
    - ``bicubic``: FFT-TIE from the network's own frame, the one in focus taken as even, interpolated.

    Parameters
    ----------
    experiment
        Its condenser and optics.
    z_um, field_px, upsampling
        Defocus, edge of a frame, and phase pixels per camera pixel.
    """

    def __init__(self, experiment: Experiment, z_um: float, field_px: int, upsampling: int) -> None:
        self._upsampling = upsampling
        self._two_foci = _load_tie(experiment, (-z_um, z_um), field_px, upsampling)
        self._one_focus = _load_tie(experiment, (0.0, z_um), field_px, upsampling)

    def __call__(
        self, truth: Image, before: torch.Tensor, behind: torch.Tensor
    ) -> dict[str, Image]:
        """From frames at -z and +z. Not aligned to the truth."""
        even = torch.ones_like(behind)
        return {
            "nyquist_oracle": nyquist_oracle(truth, self._upsampling).astype(np.float32),
            "tie_fft": self._two_foci(before, behind),
            "bicubic": self._one_focus(even, behind),
        }


class _InterpolatedTie:
    def __init__(self, experiment: Experiment, upsampling: int) -> None:
        self._upsampling = upsampling
        self._tie = Tie().load(experiment, Calibration(), "cpu", None)

    def __call__(self, *frames: torch.Tensor) -> Image:
        stack = torch.stack(frames)[None]
        phase = self._tie(stack, torch.ones_like(stack, dtype=torch.bool)).images
        fine = torch.nn.functional.interpolate(
            phase, scale_factor=self._upsampling, mode="bicubic", align_corners=False
        )
        return np.asarray(fine[0, 0].numpy(), np.float32)


def _load_tie(
    experiment: Experiment, foci_um: tuple[float, ...], side: int, upsampling: int
) -> _InterpolatedTie:
    camera = experiment.microscope.camera.model_copy(update={"shape_px": (side, side)})
    microscope = experiment.microscope.model_copy(update={"camera": camera})
    sequence = experiment.sequence.model_copy(update={"foci_um": foci_um})
    reconstruction = experiment.reconstruction.model_copy(update={"method": "tie", "settings": {}})
    return _InterpolatedTie(
        experiment.model_copy(
            update={
                "microscope": microscope,
                "sequence": sequence,
                "reconstruction": reconstruction,
            }
        ),
        upsampling,
    )
