"""How well frames under LED patterns agree with a geometry, by the linear model of a thin specimen.

At each spatial frequency K frames have two unknowns, phase and absorption (`pipeline.methods.dpc.transfer`). Whatever
of the frames no specimen can explain is the misfit of the geometry, found without an iteration.

A symmetry limits what any such fit can tell: the conjugate specimen (phase −φ) under the light turned by 180° at the
opposite defocus gives the same frames, exactly and not only in this linear model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.experiment import Optics
from pipeline.methods.dpc.reconstructor import inverse_filters
from pipeline.methods.dpc.transfer import Pupil, sampled_transfer

Array = NDArray[np.float64]
Single = NDArray[np.float32]
Spectrum = NDArray[np.complex64]
Waves = Sequence[tuple[Array, Array]]
"""Of each pattern: array direction sines ``[S, 2]`` and relative intensities ``[S]`` of its LEDs."""

# Below so many periods a field, shading and what lies beyond the edge outweigh the specimen.
_LEAST_PERIODS = 2.5
# Of the passband's edge 2NA/λ, where transfer ends.
_MOST_PASSBAND = 0.97
_RINGS = 16
GROUPS = 10
"""Independent parts of the frequencies, by which differences of misfit are judged."""
# Against a mean squared transfer of at most 4: frequencies that are hardly transferred explain nothing.
_REGULARISATION = 1e-3
# An LED whose nominal direction lies on the pupil's edge counts as inside, whatever the rounding.
_EDGE = 1 + 1e-6


@dataclass(frozen=True)
class Geometry:
    """`turn` (2, 2) takes array x and y to the camera's; `z_um` ``[Z]`` is the true focus of each plane."""

    turn: Array
    z_um: Array


class WeakFit:
    """The frames' spectra at some thousand frequencies, ready to be held against geometries.

    Parameters
    ----------
    contrast
        ``[K, Z, Y, X]``: intensity over background − 1 under each pattern at each focus.
    waves
        The patterns' LEDs.
    pixel_um
        Camera pixel at the specimen.
    samples
        How many frequencies are looked at.
    """

    def __init__(
        self,
        contrast: NDArray[np.floating],
        waves: Waves,
        optics: Optics,
        pixel_um: float,
        samples: int = 2400,
    ) -> None:
        self._optics = optics
        self._sines, self._weights = _patterns_by_led(waves, optics)
        height, width = contrast.shape[-2:]
        window = _hann(height)[:, None] * _hann(width)
        centred = contrast - contrast.mean(axis=(-2, -1), keepdims=True)
        spectra = np.fft.rfft2(centred * window) / np.sqrt(np.square(window).sum())
        fy = np.fft.fftfreq(height, pixel_um)[:, None]
        fx = np.fft.rfftfreq(width, pixel_um)
        f = np.hypot(fy, fx)
        lowest = _LEAST_PERIODS / (min(height, width) * pixel_um)
        highest = min(2 * optics.cutoff_per_um * _MOST_PASSBAND, 0.5 / pixel_um)
        usable = np.flatnonzero((f > lowest) & (f < highest) & (fx > 0))
        if len(usable) < _RINGS * GROUPS:
            raise ValueError(f"a field of {height} x {width} pixels has too few frequencies")
        chance = np.random.default_rng(0)
        if len(usable) > samples:
            # Alike in each octave: most frequencies are high ones, where there is mostly noise.
            share = 1 / f.flat[usable] ** 1.5
            usable = chance.choice(usable, samples, replace=False, p=share / share.sum())
        self._fy, self._fx = (
            np.broadcast_to(g, f.shape).flat[usable].astype(np.float32) for g in (fy, fx)
        )
        self._data = spectra.reshape(-1, f.size)[:, usable].astype(np.complex64)
        edges = np.quantile(f.flat[usable], np.linspace(0, 1, _RINGS + 1)[1:-1])
        self._ring = np.digitize(f.flat[usable], edges)
        self._group = chance.permutation(len(usable)) % GROUPS

    def misfit(self, geometry: Geometry) -> Array:
        """Misfit of each of the `GROUPS`: mean logarithm of what no specimen explains, each ring by its own scale.

        The difference of two geometries' means is the logarithm of the ratio of their residual energies. A ring
        of frequencies counts by its number, not by its energy: coarse detail has orders of magnitude more, and more
        of what the linear model leaves out.
        """
        residual = self._residual(geometry)
        cell = self._group * _RINGS + self._ring
        energy = np.bincount(cell, residual, GROUPS * _RINGS)
        number = np.bincount(cell, minlength=GROUPS * _RINGS)
        floor = np.finfo(np.float64).tiny
        logs = number * np.log(np.maximum(energy, floor) / np.maximum(number, 1))
        return np.asarray(
            logs.reshape(GROUPS, _RINGS).sum(1) / number.reshape(GROUPS, _RINGS).sum(1)
        )

    def unexplained(self, geometry: Geometry) -> float:
        """Share of the frames' energy at these frequencies that no specimen explains."""
        return float(self._residual(geometry).sum() / np.square(np.abs(self._data)).sum())

    def _residual(self, geometry: Geometry) -> Array:
        """``[N]`` energy that is left at each frequency after the best specimen."""
        phase, absorption = self._transfer(geometry)
        frames = len(phase)
        a = np.square(np.abs(phase)).sum(0) + _REGULARISATION * frames
        d = np.square(np.abs(absorption)).sum(0) + _REGULARISATION * frames
        b = (np.conj(phase) * absorption).sum(0)
        p = (np.conj(phase) * self._data).sum(0)
        q = (np.conj(absorption) * self._data).sum(0)
        determinant = a * d - np.square(np.abs(b))
        phi, mu = (d * p - b * q) / determinant, (a * q - np.conj(b) * p) / determinant
        left = self._data - phase * phi - absorption * mu
        return np.asarray(np.square(np.abs(left)).sum(0))

    def _transfer(self, geometry: Geometry) -> tuple[Spectrum, Spectrum]:
        """``[K·Z, N]`` of phase and of absorption."""
        waves = -(self._sines @ geometry.turn.T) / self._optics.wavelength_um
        sx, sy = waves[:, 0, None].astype(np.float32), waves[:, 1, None].astype(np.float32)
        phase, absorption = [], []
        for z_um in geometry.z_um:
            direct = self._pupil(sx, sy, z_um)[:, 0]
            weights = self._weights * np.conj(direct)
            one = weights @ self._pupil(self._fx + sx, self._fy + sy, z_um)
            other = np.conj(weights @ self._pupil(sx - self._fx, sy - self._fy, z_um))
            phase.append(1j * (one - other))
            absorption.append(-(one + other))
        frames = (len(self._weights) * len(geometry.z_um), -1)
        return np.stack(phase, 1).reshape(frames), np.stack(absorption, 1).reshape(frames)

    def _pupil(self, fx: Single, fy: Single, z_um: float) -> Spectrum:
        """As `pipeline.methods.dpc.transfer.Pupil` without aberration, in single precision: it is most of the work."""
        squared = np.square(fx) + np.square(fy)
        inside = squared <= np.float32((self._optics.cutoff_per_um * _EDGE) ** 2)
        if z_um == 0:
            return inside.astype(np.complex64)
        k = self._optics.refractive_index / self._optics.wavelength_um
        # √(k² − f²) − k without the difference of two large numbers.
        axial = -squared / (np.sqrt(np.maximum(np.float32(k**2) - squared, 0)) + np.float32(k))
        angle = np.float32(2 * np.pi * z_um) * axial
        out = np.empty(angle.shape, np.complex64)
        out.real, out.imag = np.cos(angle) * inside, np.sin(angle) * inside
        return out


def _patterns_by_led(waves: Waves, optics: Optics) -> tuple[Array, Single]:
    """Directions ``[S, 2]`` of all LEDs in the pupil, each once, and their share ``[K, S]`` in each pattern."""
    all_sines = np.concatenate([sines for sines, _ in waves])
    sines, where = np.unique(all_sines, axis=0, return_inverse=True)
    weights = np.zeros((len(waves), len(sines)), np.float32)
    row = np.repeat(np.arange(len(waves)), [len(s) for s, _ in waves])
    weights[row, where.ravel()] = np.concatenate([intensity for _, intensity in waves])
    inside = np.hypot(*sines.T) <= optics.numerical_aperture * _EDGE
    weights = weights[:, inside]
    return sines[inside], weights / weights.sum(1, keepdims=True)


def specimen_maps(
    contrast: NDArray[np.floating],
    waves: Waves,
    optics: Optics,
    pixel_um: float,
    geometry: Geometry,
) -> tuple[Array, Array]:
    """Phase (rad) and absorption ``[Y, X]`` that explain the frames best, as far as they are transferred."""
    height, width = contrast.shape[-2:]
    transfer = []
    for sines, intensity in waves:
        frequencies = -(sines @ geometry.turn.T) / optics.wavelength_um
        for z_um in geometry.z_um:
            pupil = Pupil(optics, float(z_um))
            transfer.append(
                sampled_transfer(pupil, frequencies, intensity, (height, width), pixel_um)[0]
            )
    filters = inverse_filters(np.stack(transfer, axis=1), (1e-3, 5e-3))
    # Faded at the border only: the maps are looked at, and the middle counts in full.
    window = np.minimum(1, 4 * _hann(height)[:, None] * _hann(width))
    spectra = np.fft.rfft2(contrast.reshape(-1, height, width) * window)
    phase, absorption = np.fft.irfft2((spectra * filters).sum(1), s=(height, width))
    return phase, absorption


def _hann(samples: int) -> Array:
    return np.hanning(samples + 2)[1:-1]
