"""How much of trust is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Camera(NamedTuple):
    """Electrons of the background and of the read noise."""

    background_e: float
    read_noise_e: float


# The paper's noise of 0.01 before binning 4 x 4 is no shot noise: a camera of as much light as
# none has, with that read noise.
CAMERAS = {
    "0.01_before_binning": Camera(1e8, 0.0025e8),
    "10000_electrons": Camera(1e4, 1.8),
}


@dataclass(frozen=True)
class TrustPlan:
    """How much is computed. `FULL` is what a statement rests on, `QUICK` shows that it works.

    Parameters
    ----------
    fields, field_px
        Of the evaluation set, and their edge in camera pixels: the full frame that an alarm is about.
    cameras
        Names from `CAMERAS`.
    z_errors, wavelength_errors
        Relative errors of z and of λ that are tried, of both signs; a z that is less than -100 % off lies on the
        wrong side of the specimen.
    z_sigmas
        Relative standard uncertainties of z for the scale's coverage, each drawn so many times a field.
    coherence
        S of the light, or the nearest to it that the weights were trained for; one plane wave is the quickest to
        image.
    """

    fields: int = 12
    field_px: int = 256
    cameras: tuple[str, ...] = tuple(CAMERAS)
    z_errors: tuple[float, ...] = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
    wavelength_errors: tuple[float, ...] = (0.1, 0.2, 0.4)
    z_sigmas: tuple[float, ...] = (0.02, 0.05)
    draws: int = 3
    coherence: float = 0.0


FULL_TRUST = TrustPlan()
QUICK_TRUST = TrustPlan(
    fields=3,
    field_px=64,
    cameras=("10000_electrons",),
    z_errors=(0.5, 1.0),
    wavelength_errors=(0.4,),
    z_sigmas=(0.05,),
    draws=1,
)
