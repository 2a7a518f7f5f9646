"""What lies under the microscope: the contract, and how an experiment's section becomes one."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.experiment import CellSpecimen, TargetSpecimen
from pipeline.samples.culture import LivingCells
from pipeline.samples.targets import PhaseTarget


class Specimen(Protocol):
    """A thin specimen, a pure function of its indices: the field behind it is ``(1 - absorption) exp(iφ)``."""

    def render(
        self, timepoint: float, position: int, shape: tuple[int, int], pixel_um: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Pixel means on a grid whose middle is the position's middle.

        Parameters
        ----------
        timepoint, position
            Any order, any process: the same indices give the same bits. A specimen that is looked at between two
            timepoints has a fraction.
        shape
            (y, x) in pixels.
        pixel_um
            Edge of a pixel at the sample.

        Returns
        -------
        phase_rad
            ``[Y, X]`` float32, 0 in the background, positive where the optical path is longer.
        absorption
            ``[Y, X]`` float32, relative loss of amplitude.

        Raises
        ------
        ValueError
            If an index is negative or the grid is impossible.
        """
        ...


def specimen_for(
    spec: CellSpecimen | TargetSpecimen, *, seed: int, wavelength_um: float
) -> Specimen:
    """The specimen that an experiment describes.

    Parameters
    ----------
    spec
        Of `microscope.specimen`.
    seed
        Of the simulated microscope.
    wavelength_um
        At which the phase is given.
    """
    if isinstance(spec, TargetSpecimen):
        return PhaseTarget(spec, seed=seed)
    return LivingCells(spec, seed=seed, wavelength_um=wavelength_um)
