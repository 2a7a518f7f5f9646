"""How a condenser and a defocused objective pass the phase of a weak object.

With G the pupil, defocus included, plane waves of frequency f_s and weight w_s from the condenser's
disc, and a thin object exp(iφ) with small φ, to first order (Hamilton & Sheppard, J. Microsc. 133, 1984)

    I/I0 - 1 = H·φ,    H(f) = i [A(f) - A*(-f)],    A(f) = Σ_s w_s G*(f_s) G(f + f_s)

in the Fourier domain. The disc is even, so H is real and depends on |f| alone. numpy only: an experiment
is looked at before torch is there.

Not shared with `pipeline.methods.dpc.transfer`, which sums the same over LEDs that lie anywhere, with
aberrations and absorption: it needs a whole plane on an even grid, and the part of it that each LED's pupil covers.
Here any radii can be asked for, and 256 of them make a table. A test holds the two to each other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Hexagonal rings of plane waves over the disc: enough for a blur of several pixels.
_RINGS = 6
_EDGE = 1 + 1e-6


def condenser_phase_transfer(
    frequencies: Array,
    *,
    wavelength_um: float,
    numerical_aperture: float,
    refractive_index: float,
    z_um: float,
    coherence: float,
) -> Array:
    """Contrast per radian at spatial frequencies.

    Parameters
    ----------
    frequencies
        ``[N]`` cycles/µm, from 0 up.
    z_um
        Defocus in the medium; positive where the plane in focus lies downstream of the specimen.
    coherence
        S = NA of the condenser / NA of the objective; 0 is one plane wave.

    Returns
    -------
    ``[N]``: 2·sin(π·λ·z·f²/n) for a plane wave and f well inside the pupil.
    """
    cutoff = numerical_aperture / wavelength_um
    k = refractive_index / wavelength_um

    def pupil(square: Array) -> NDArray[np.complex128]:
        # Without the phase of the axis, which no intensity depends on and which costs precision.
        path = -square / (np.sqrt(np.maximum(k**2 - square, 0)) + k)
        inside = square <= (cutoff * _EDGE) ** 2
        return np.asarray(np.exp(2j * np.pi * z_um * path) * inside)

    waves = _disc(coherence * cutoff)
    direct = pupil((waves**2).sum(1))
    f = frequencies[:, None]
    sideband = np.conj(direct) * pupil((f + waves[:, 0]) ** 2 + waves[:, 1] ** 2)
    mirrored = np.conj(direct) * pupil((f - waves[:, 0]) ** 2 + waves[:, 1] ** 2)
    transfer = 1j * (sideband - np.conj(mirrored)).sum(1) / (np.abs(direct) ** 2).sum()
    return np.asarray(transfer.real)


def _disc(radius: float) -> Array:
    """``[S, 2]`` plane waves that fill a disc evenly; the axis alone for radius 0."""
    points = [np.zeros((1, 2))]
    rings = np.arange(1, _RINGS + 1)
    # Equal areas, and the disc's mean square radius, which is the blur.
    step = np.sqrt(0.5 * (1 + (6 * rings).sum()) / (6 * rings**3).sum())
    for ring in rings if radius else ():
        angle = 2 * np.pi * (np.arange(6 * ring) + 0.5 * (ring % 2)) / (6 * ring)
        across = ring * step * radius
        points.append(across * np.stack([np.cos(angle), np.sin(angle)], axis=1))
    return np.concatenate(points)
