"""The objective's pupil: a disc of radius NA/λ with aberrations and defocus as phases.

Aberrations are Zernike polynomials normalised to 1 rad rms over the disc (Noll 1976), so a
coefficient is its root-mean-square wavefront error in radians.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from pipeline.errors import ExperimentError
from pipeline.experiment import Optics, nearest
from pipeline.optics.propagation import EDGE, axial_frequency
from pipeline.optics.zernike import ZERNIKE


def check_aberrations(names: Mapping[str, object]) -> None:
    """Refuse names that no polynomial has; `ExperimentError` names the nearest."""
    for name in names:
        if name not in ZERNIKE:
            raise ExperimentError(f"unknown aberration '{name}'", nearest(name, ZERNIKE))


def aberration_phase(
    fy: torch.Tensor,
    fx: torch.Tensor,
    optics: Optics,
    coefficients: Mapping[str, float | torch.Tensor],
) -> torch.Tensor:
    """Wavefront in radians at frequencies (cycles/µm), of coefficients in rad rms.

    Raises
    ------
    ExperimentError
        For an aberration that is not known, with the nearest known one.
    """
    check_aberrations(coefficients)
    x, y = fx / optics.cutoff_per_um, fy / optics.cutoff_per_um
    phase = torch.zeros_like(x * y)
    for name, coefficient in coefficients.items():
        phase = phase + coefficient * ZERNIKE[name](x, y)
    return phase


def pupil(
    fy: torch.Tensor,
    fx: torch.Tensor,
    optics: Optics,
    z_um: float | torch.Tensor = 0.0,
    aberration: Mapping[str, float | torch.Tensor] | None = None,
) -> torch.Tensor:
    """Amplitude transfer of the objective focused `z_um` downstream of the specimen.

    Parameters
    ----------
    fy, fx
        Frequencies in cycles/µm, any shapes that broadcast: the pupil can be evaluated anywhere,
        also between the points of an FFT grid.
    z_um
        Defocus, broadcast against the frequencies. The on-axis phase is left out.
    aberration
        Name → rad rms, as in `Imperfections.aberration_rad`.

    Returns
    -------
    complex64 (complex128 for float64 frequencies), 0 outside NA/λ.
    """
    f_squared = fy**2 + fx**2
    path = axial_frequency(f_squared, optics.wavelength_um, optics.refractive_index)
    phase = 2 * math.pi * z_um * path
    if aberration:
        phase = phase + aberration_phase(fy, fx, optics, aberration)
    inside = (f_squared <= (optics.cutoff_per_um * (1 + EDGE)) ** 2).to(phase.dtype)
    return torch.polar(inside.expand_as(phase), phase)
