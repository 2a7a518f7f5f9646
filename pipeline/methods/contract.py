"""The small contract that every reconstruction method follows, ours and yours.

A method comes in two parts, so that an experiment can be checked without
importing torch (which costs a process seconds):

- `Method`: a light class, named in the entry-point group ``livephase.methods``.
  It says which frames it needs (or refuses the experiment), and loads
- `Reconstructor`: pure tensors in, pure tensors out. It knows nothing of
  processes, files or Zarr and keeps no state from one call to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pipeline.calibration import Calibration
from pipeline.experiment import Experiment
from pipeline.frames import Measurement, Region

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Reconstruction:
    """What a method gives back.

    Parameters
    ----------
    images
        ``[B, C, s·Y, s·X]`` float32, C in the order of `Measurement.outputs`. The first is the unwrapped phase in
        radians, zero in the background.
    predicted
        ``[B, K, Y, X]`` float32: the measured frames as the method's own model of the instrument makes them of
        the images, where that knows more of it than the experiment and calibration say (a pupil that it found);
        None: the residual predicts them from the images.
    """

    images: torch.Tensor
    predicted: torch.Tensor | None = None


@dataclass(frozen=True)
class Part:
    """How far a reconstruction that is made part by part has come.

    Parameters
    ----------
    done, of
        Parts.
    region_done
        Whether what was to be done first is done.
    images
        Gives ``[C, s·Y, s·X]`` of the parts so far, zero elsewhere; costs a moment.
    """

    done: int
    of: int
    region_done: bool
    images: Callable[[], torch.Tensor]


@runtime_checkable
class PartByPart(Protocol):
    """What a `Reconstructor` may also be: it stops after each part, to be gone on with, or not."""

    def parts(
        self, frames: torch.Tensor, valid: torch.Tensor, first: Region | None
    ) -> Generator[Part, None, Reconstruction]:
        """Reconstruct one measurement, ``[K, Y, X]`` each, as `Reconstructor` does; the same in the end.

        Parameters
        ----------
        first
            What somebody waits for; the method's own choice where None.
        """
        ...


@runtime_checkable
class Continuous(Protocol):
    """What a `Reconstructor` may also be: it gives phase on any grid, out of a latent that can be kept."""

    finest_um: float
    """Half of the finest period that the light shows: a finer grid interpolates."""

    def latent(self, frames: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Of one measurement ``[K, Y, X]``, all of its field: ``[Y, X, …]`` float32."""
        ...

    def query(self, latent: torch.Tensor, region: Region, density: float) -> torch.Tensor:
        """Phase ``[height·density, width·density]`` in radians, the whole field's background at zero.

        Parameters
        ----------
        density
            Points per camera pixel along each axis.
        """
        ...


@runtime_checkable
class Reconstructor(Protocol):
    """A loaded method, ready for frames."""

    def __call__(self, frames: torch.Tensor, valid: torch.Tensor) -> Reconstruction:
        """Reconstruct a batch of measurements.

        Parameters
        ----------
        frames
            ``[B, K, Y, X]`` float32, corrected: dark subtracted, divided by the flat; 1 is the background in
            brightfield. K in the order of `Measurement.frames`.
        valid
            ``[B, K, Y, X]`` bool, False where a pixel is missing, bad or saturated.

        Raises
        ------
        SlotError
            Nothing can be made of these frames (no light, say); the slot is skipped with a warning,
            as it is where an image has NaN or infinite pixels.
        """
        ...


@runtime_checkable
class Method(Protocol):
    """What an entry point of the group ``livephase.methods`` names: a class without arguments."""

    name: str

    def measurement(self, experiment: Experiment) -> Measurement:
        """Choose the frames this method needs. Must not import torch.

        Raises
        ------
        ExperimentError
            If the sequence does not deliver them, the optics rule it out, or
            `experiment.reconstruction.settings` has an unknown key; with the fix.
        """
        ...

    def load(
        self, experiment: Experiment, calibration: Calibration, device: str, weights: Path | None
    ) -> Reconstructor:
        """Prepare everything that does not depend on the frames: transfer functions, networks.

        Raises
        ------
        MethodError
            If the weights are missing, unreadable or of other optics; with the fix.
        """
        ...
