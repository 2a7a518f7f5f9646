"""Under what conditions a frame was taken, and the six numbers that tell a network. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUMBERS = 6

# Of 10x/0.4, 550 nm, 2.6 µm pixels at z = 4 µm: conditions are told relative to these.
_USUAL_DEFOCUS = 4.0 * 0.55 / 2.6**2


@dataclass(frozen=True)
class Conditions:
    """What decides how a phase becomes a frame, as far as it is known.

    Parameters
    ----------
    pixel_um
        Camera pixel (after binning) at the sample.
    z_um
        True defocus in the medium.
    coherence
        S = NA of the condenser / NA of the objective.
    """

    wavelength_um: float
    numerical_aperture: float
    refractive_index: float
    pixel_um: float
    z_um: float
    coherence: float

    def numbers(self) -> NDArray[np.float32]:
        """``[NUMBERS]``, each about one: defocus in units of pixels²/λ, coherence, blur in pixels.

        Without units, so that weights for other optics can begin with those of these.
        """
        defocus = self.z_um * self.wavelength_um / self.pixel_um**2 / self.refractive_index
        steps = math.log(defocus / _USUAL_DEFOCUS)
        blur = self.coherence * self.numerical_aperture * self.z_um / self.pixel_um
        return np.array(
            [
                steps,
                steps**2,
                defocus / _USUAL_DEFOCUS / 2 - 0.5,
                4 * self.coherence - 0.5,
                6 * self.coherence**2,
                4 * blur,
            ],
            np.float32,
        )
