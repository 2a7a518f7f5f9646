"""The transport-of-intensity equation by cosine transforms, iterated for uneven intensity.

With I in focus and k = 2πn/λ it is k ∂I/∂z = -∇·(I ∇φ), no phase flowing through the field's edge
(Neumann). Where I is even, one Poisson equation, which cosine transforms solve without the periodic
continuation of an FFT (Zuo et al., "Boundary-artifact-free phase retrieval with the transport of intensity
equation II", Opt. Express 22, 18310, 2014). Where it isn't, the equation is solved with the greatest
intensity in place of I, and again for what that leaves over, which converges for any I > 0 (Zhang et al.,
"A universal solution to the transport-of-intensity equation", Opt. Lett. 45, 6923, 2020).
"""

from __future__ import annotations

import math

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from pipeline.experiment import Optics

Floats = NDArray[np.float64]

# Darker places scatter rather than absorb.
_DARKEST = 0.1
_MOST_ITERATIONS = 20
# Of the phase's norm: what a further iteration would still change.
_CONVERGED = 1e-3


class TieDct:
    """Frames ``[Y, X]`` at two foci → phase ``[Y, X]`` in radians at focus 0, of zero mean.

    Parameters
    ----------
    foci_um
        Of the two frames: on both sides of 0, or 0 and another.
    regularisation
        A frequency f keeps f⁴ / (f⁴ + r²·(NA/λ)⁴) of the phase.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        pixel_um: float,
        optics: Optics,
        foci_um: tuple[float, float],
        regularisation: float,
    ) -> None:
        self._foci = foci_um
        self._k = 2 * math.pi * optics.refractive_index / optics.wavelength_um
        y, x = (math.pi * np.arange(n) / (n * pixel_um) for n in shape)
        self._waves = (y[:, None], x)
        square = y[:, None] ** 2 + x**2
        turnover = regularisation * (2 * math.pi * optics.cutoff_per_um) ** 2
        square[0, 0] = 1.0
        self._kept = square**2 / (square**2 + turnover**2)
        self._inverse = -1 / square
        # The mean is not in the data.
        self._inverse[0, 0] = 0.0

    def __call__(self, first: NDArray[np.floating], second: NDArray[np.floating]) -> Floats:
        """Both frames are divided by their means."""
        a, b = (f / f.mean(dtype=np.float64) for f in (first, second))
        za, zb = self._foci
        derivative = (b - a) / (zb - za)
        intensity = np.maximum(a - za * derivative, _DARKEST)
        transport = scipy.fft.dctn(-self._k * derivative) * self._kept
        greatest = intensity.max()
        phase = np.zeros_like(transport)
        left = transport
        for _ in range(_MOST_ITERATIONS):
            step = left * self._inverse / greatest
            phase = phase + step
            if np.linalg.norm(step) <= _CONVERGED * np.linalg.norm(phase):
                break
            left = transport - self._flow(phase, intensity)
        return np.asarray(scipy.fft.idctn(phase))

    def _flow(self, phase: Floats, intensity: Floats) -> Floats:
        """Cosine transform of ∇·(I ∇φ), of a phase given by its cosine transform."""
        divergence = np.zeros_like(phase)
        for axis in (0, 1):
            # d/dx cos(κx) = -κ sin(κx): sine transforms begin at the first frequency, cosines at zero.
            slope = _moved(-phase * self._waves[axis], -1, axis)
            other = 1 - axis
            slope = scipy.fft.idct(scipy.fft.idst(slope, axis=axis), axis=other)
            flux = intensity * slope
            waves = scipy.fft.dct(scipy.fft.dst(flux, axis=axis), axis=other)
            divergence += _moved(waves, 1, axis) * self._waves[axis]
        return divergence


def _moved(values: Floats, steps: int, axis: int) -> Floats:
    """By one index along an axis, with a zero at the end that comes free."""
    moved = np.roll(values, steps, axis)
    edge = [slice(None), slice(None)]
    edge[axis] = slice(0, 1) if steps > 0 else slice(-1, None)
    moved[tuple(edge)] = 0
    return moved
