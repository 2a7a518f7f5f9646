"""Weak-object transfer functions of an objective under a set of plane waves.

Each LED is a plane wave of frequency f_s. With G the pupil, defocus and aberration included, a thin
object exp(-μ + iφ) with small μ and φ gives, to first order,

    I/I0 - 1  =  H_abs·μ + H_phase·φ                          (in the Fourier domain)
    A(f)      =  Σ_s w_s G*(f_s) G(f + f_s)  /  Σ_s w_s |G(f_s)|²
    H_abs(f)  =  -[A(f) + A*(-f)],    H_phase(f)  =  i [A(f) - A*(-f)]

after Hamilton & Sheppard (J. Microsc. 133, 1984) and Tian & Waller (Opt. Express 23, 2015), with the sum
over the LEDs themselves instead of an integral over a half disc. numpy only: the experiment is checked with it
before torch is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.experiment import Optics

Array = NDArray[np.float64]

# An LED whose nominal direction lies on the pupil's edge counts as inside, whatever the rounding.
_EDGE = 1 + 1e-6


@dataclass(frozen=True)
class Pupil:
    """An objective focused `z_um` downstream of the specimen.

    Parameters
    ----------
    z_um
        Defocus in the medium.
    aberration_rad
        Zernike coefficients by name, rms radians over the pupil, added to the phase of the pupil.
    """

    optics: Optics
    z_um: float = 0.0
    aberration_rad: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, fx: Array, fy: Array) -> NDArray[np.complex128]:
        """Complex transmission at frequencies (cycles/µm) that broadcast against each other."""
        square = fx**2 + fy**2
        inside = square <= (self.optics.cutoff_per_um * _EDGE) ** 2
        aberration = {name: a for name, a in self.aberration_rad.items() if a}
        if not self.z_um and not aberration:
            return inside.astype(np.complex128)
        k = self.optics.refractive_index / self.optics.wavelength_um
        # Without the phase of the axis, which no intensity depends on and which costs precision.
        phase = 2 * np.pi * self.z_um * (np.sqrt(np.maximum(k**2 - square, 0)) - k)
        x, y = fx / self.optics.cutoff_per_um, fy / self.optics.cutoff_per_um
        for name, coefficient in aberration.items():
            phase = phase + coefficient * _zernike(name, x, y)
        return np.where(inside, np.exp(1j * phase), 0)


def _zernike(name: str, x: Array, y: Array) -> Array:
    """Zernike polynomials of rms 1 over the unit disc (Noll's normalisation)."""
    r2 = x**2 + y**2
    polynomials = {
        "defocus": lambda: np.sqrt(3) * (2 * r2 - 1),
        "astigmatism_0": lambda: np.sqrt(6) * (x**2 - y**2),
        "astigmatism_45": lambda: np.sqrt(6) * 2 * x * y,
        "coma_x": lambda: np.sqrt(8) * (3 * r2 - 2) * x,
        "coma_y": lambda: np.sqrt(8) * (3 * r2 - 2) * y,
        "spherical": lambda: np.sqrt(5) * (6 * r2**2 - 6 * r2 + 1),
    }
    return np.asarray(polynomials[name](), dtype=np.float64)


def weak_transfer(
    pupil: Pupil, frequencies: Array, weights: Array, fx: Array, fy: Array
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Transfer functions of absorption and phase on a grid of frequencies.

    Parameters
    ----------
    frequencies, weights
        ``[S, 2]`` (fx, fy) of the plane waves at the specimen, cycles/µm, and their intensities ``[S]``. Waves
        outside the pupil (darkfield) have no first-order effect.
    fx, fy
        The grid's axes ``[X]`` and ``[Y]`` as `numpy.fft.fftfreq` gives them.

    Returns
    -------
    absorption, phase
        Both ``[Y, X]``, Hermitian: real images stay real.

    Raises
    ------
    ValueError
        If every wave is darkfield.
    """
    direct = pupil(frequencies[:, 0], frequencies[:, 1])
    background = float((weights * np.abs(direct) ** 2).sum())
    if background == 0:
        raise ValueError("no plane wave passes the pupil")
    sideband = np.zeros((len(fy), len(fx)), np.complex128)
    reach = pupil.optics.cutoff_per_um * _EDGE
    for (sx, sy), weight, through in zip(frequencies, weights, direct, strict=True):
        if not through:
            continue
        # The pupil, moved by the LED, covers only a part of the grid.
        rows, columns = (
            np.flatnonzero(np.abs(fy + sy) <= reach),
            np.flatnonzero(np.abs(fx + sx) <= reach),
        )
        moved = pupil(fx[columns][None, :] + sx, fy[rows][:, None] + sy)
        sideband[np.ix_(rows, columns)] += (weight / background * np.conj(through)) * moved
    # A*(-f): index i of a grid of N holds minus the frequency of index -i modulo N.
    mirrored = np.conj(np.roll(sideband[::-1, ::-1], (1, 1), (0, 1)))
    return -(sideband + mirrored), 1j * (sideband - mirrored)


def phase_information(absorption: NDArray[np.complex128], phase: NDArray[np.complex128]) -> Array:
    """How well each frequency's phase is known once absorption is fitted too: the normal equations' Schur complement.

    Parameters
    ----------
    absorption, phase
        ``[K, Y, X]`` transfer functions of the frames.

    Returns
    -------
    numpy.ndarray
        ``[Y, X]``, mean over the frames; 0 where phase can't be told from absorption, at most 4.
    """
    aa = (np.abs(absorption) ** 2).mean(0)
    pp = (np.abs(phase) ** 2).mean(0)
    ap = (np.conj(absorption) * phase).mean(0)
    mixed = np.divide(np.abs(ap) ** 2, aa, out=np.zeros_like(aa), where=aa > 0)
    return np.maximum(pp - mixed, 0)
