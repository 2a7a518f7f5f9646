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

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.experiment import Optics
from pipeline.optics.zernike import ZERNIKE, Aberration

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
    aberration_rad: Mapping[Aberration, float] = field(default_factory=dict)

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
            phase = phase + coefficient * ZERNIKE[name](x, y)
        out = np.empty(phase.shape, np.complex128)
        # Much faster than exp(1j * phase).
        out.real, out.imag = np.cos(phase), np.sin(phase)
        out *= inside
        return out


def weak_transfer(
    pupil: Pupil,
    frequencies: Array,
    weights: Array,
    step: tuple[float, float],
    reach: tuple[int, int],
) -> NDArray[np.complex128]:
    """Transfer functions of phase and absorption on a grid of frequencies.

    Parameters
    ----------
    frequencies, weights
        ``[S, 2]`` (fx, fy) of the plane waves at the specimen, cycles/µm, and their intensities
        ``[S]``. Waves outside the pupil (darkfield) have no first-order effect.
    step, reach
        The grid's spacing in cycles/µm and the number of steps from its centre to its edge,
        each along (y, x).

    Returns
    -------
    numpy.ndarray
        ``[2, 2m_y + 1, 2m_x + 1]`` with frequency 0 in the middle.

    Raises
    ------
    ValueError
        If every wave is darkfield.
    """
    direct = pupil(frequencies[:, 0], frequencies[:, 1])
    background = float((weights * np.abs(direct) ** 2).sum())
    if background == 0:
        raise ValueError("no plane wave passes the pupil")
    sideband = np.zeros((2 * reach[0] + 1, 2 * reach[1] + 1), np.complex128)
    radius = pupil.optics.cutoff_per_um * _EDGE
    for (sx, sy), weight, through in zip(frequencies, weights, direct, strict=True):
        if not through:
            continue
        # The pupil, moved by the LED, covers only a part of the grid.
        rows, fy = _covered(-sy, radius, step[0], reach[0])
        columns, fx = _covered(-sx, radius, step[1], reach[1])
        moved = pupil(fx[None, :] + sx, fy[:, None] + sy)
        moved *= weight / background * np.conj(through)
        sideband[rows, columns] += moved
    mirrored = np.conj(sideband[::-1, ::-1])
    return np.stack([1j * (sideband - mirrored), -(sideband + mirrored)])


def _covered(centre: float, radius: float, step: float, reach: int) -> tuple[slice, Array]:
    """The part of an axis within `radius` of `centre`, as a slice and as frequencies."""
    first = max(math.ceil((centre - radius) / step), -reach)
    last = max(min(math.floor((centre + radius) / step), reach), first - 1)
    frequencies = step * np.arange(first, last + 1, dtype=np.float64)
    return slice(first + reach, last + reach + 1), np.asarray(frequencies, np.float64)


def sampled_transfer(
    pupil: Pupil, frequencies: Array, weights: Array, shape: tuple[int, int], pixel_um: float
) -> tuple[NDArray[np.complex128], Array]:
    """Transfer to a camera whose pixels integrate the light that falls on them.

    Parameters
    ----------
    frequencies, weights
        As for `weak_transfer`.
    shape, pixel_um
        ``(Y, X)`` of the camera and the edge of its pixel at the sample.

    Returns
    -------
    transfer, aliased
        As `numpy.fft.rfft2` orders them: ``[2, Y, X//2 + 1]`` of phase and absorption, and
        ``[Y, X//2 + 1]`` the squared transfer of both that folds back onto each frequency from
        beyond the camera's Nyquist frequency (zero where it samples finely enough).
    """
    cutoff = pupil.optics.cutoff_per_um * _EDGE
    # Waves beyond the pupil, which darkfield LEDs of a mixed pattern give, pass nothing.
    passed = min(float(np.abs(frequencies).max(initial=0.0)), cutoff) + cutoff
    rows, columns = shape
    step = (1 / (rows * pixel_um), 1 / (columns * pixel_um))
    reach = (math.ceil(passed / step[0]), math.ceil(passed / step[1]))
    both = weak_transfer(pupil, frequencies, weights, step, reach)
    for axis, (m, n) in enumerate(zip(reach, shape, strict=True), start=1):
        blur = np.sinc(np.arange(-m, m + 1) / n)
        both *= blur[:, None] if axis == 1 else blur
    y, x = (np.arange(-m, m + 1) for m in reach)
    # On an even grid the Nyquist frequency stands for both its signs, and determines neither.
    known_y, known_x = (
        np.flatnonzero(2 * np.abs(y) < rows),
        np.flatnonzero((2 * x < columns) & (x >= 0)),
    )
    transfer = np.zeros((2, rows, columns // 2 + 1), np.complex128)
    transfer[:, (y[known_y] % rows)[:, None], x[known_x]] = both[:, known_y[:, None], known_x]
    aliased = np.zeros((rows, columns // 2 + 1))
    if all(2 * m < n for m, n in zip(reach, shape, strict=True)):
        return transfer, aliased
    power = (np.abs(both) ** 2).sum(0)
    power[known_y[:, None], np.flatnonzero(2 * np.abs(x) < columns)] = 0
    folded_y = np.zeros((rows, power.shape[1]))
    np.add.at(folded_y, y % rows, power)
    folded = np.zeros((columns, rows))
    np.add.at(folded, x % columns, folded_y.T)
    return transfer, np.ascontiguousarray(folded.T[:, : columns // 2 + 1])


def phase_information(phase: NDArray[np.complex128], absorption: NDArray[np.complex128]) -> Array:
    """How well each frequency's phase is known once absorption is fitted too: the normal equations' Schur complement.

    Parameters
    ----------
    phase, absorption
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
    return np.asarray(np.maximum(pp - mixed, 0))
