"""How far defocused light spreads. No torch."""

from __future__ import annotations

import math

from pipeline.experiment import Optics


def diffraction_spread_um(optics: Optics, z_um: float) -> float:
    """How far detail spreads at defocus z: the light's cone and eight times the pupil's λ/NA."""
    sine = optics.numerical_aperture / optics.refractive_index
    # NA = n collects grazing light: the cone is cut at 80°, beyond which hardly any passes.
    cone = math.tan(min(math.asin(sine), math.radians(80)))
    return abs(z_um) * cone + 8 * optics.wavelength_um / optics.numerical_aperture
