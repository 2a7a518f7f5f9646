"""From a specimen to the camera's frame, written a second time: what no training's simulator shares.

`pipeline.optics` computes in torch, moves the pupil under a wave that comes from the side, sums
samples under a pixel, and puts 37 waves on hexagonal rings. Here, in numpy and scipy.fft alone:

- The wave from the side tilts the *specimen's* field; the pupil stays. Waves lie on the field's
  own frequency grid (on which a tilted field is still periodic), so that a tilt is a shift of the
  spectrum by whole samples: exact, and free. The grid's step, 1 over the field's extent, is a
  hundredth of the condenser's disc.
- Waves are laid over the condenser's disc as a sunflower: golden angle, equal areas.
- Only the frequencies that the pupil passes go into the inverse FFT, at its beginning instead of
  around zero: that multiplies the image's field by a wave of modulus 1, which its intensity drops.
- A pixel's area is integrated in Fourier space: the intensity's spectrum times sinc, folded onto
  the camera's frequencies. That is exact, aliasing included, as the intensity is sampled λ/4NA apart.

The specimen is drawn larger than the frame, by more than light spreads, and cut after imaging.

Fields are exp(+iφ); +z brings the plane in focus downstream of the specimen; a plane propagates
by exp(+i2πz√((n/λ)² − f²)); lengths in µm, frequencies in cycles/µm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, factorial, sqrt

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from pipeline.experiment import Optics

Floats = NDArray[np.float32]
Complexes = NDArray[np.complex64]

# Radial order n and azimuthal order m of what an objective or a cover slip commonly has wrong.
# Negative m is the sine of |m| times the azimuth.
_ABERRATIONS: Mapping[str, tuple[int, int]] = {
    "defocus": (2, 0),
    "astigmatism_0": (2, 2),
    "astigmatism_45": (2, -2),
    "coma_x": (3, 1),
    "coma_y": (3, -1),
    "spherical": (4, 0),
}
# Waves per unit of coherence: 61 at S = 0.4. Cells at z = 4 µm are then within 0.7 % of their
# contrast of what ten times as many give, a tenth of the paper's noise.
_WAVES_PER_COHERENCE = 150
_LEAST_WAVES = 13
_GOLDEN_ANGLE = np.pi * (3 - sqrt(5))


@dataclass(frozen=True)
class Conditions:
    """How one frame is taken.

    Parameters
    ----------
    z_um
        Defocus; positive focuses downstream of the specimen.
    coherence
        S = NA_cond / NA_obj of a uniform disc; 0 is one plane wave.
    tilt
        (x, y) direction sines towards which the middle of the light travels.
    leds
        (x, y) direction sines towards which the light of each of several LEDs travels, all equally bright; in place of
        a disc, and also beyond the objective's NA. Each is moved to the field's frequency grid.
    aberration_rad
        Zernike name (defocus, astigmatism_0, astigmatism_45, coma_x, coma_y, spherical) → rad rms.
    """

    z_um: float
    coherence: float = 0.0
    tilt: tuple[float, float] = (0.0, 0.0)
    leds: tuple[tuple[float, float], ...] = ()
    aberration_rad: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = set(self.aberration_rad) - set(_ABERRATIONS)
        if unknown:
            raise ValueError(
                f"no aberration is called {sorted(unknown)}: choose from {sorted(_ABERRATIONS)}"
            )


def image(
    phase: Floats,
    sample_um: float,
    optics: Optics,
    camera_pixel_um: float,
    frame_shape: tuple[int, int],
    conditions: Sequence[Conditions],
    *,
    absorption: Floats | None = None,
    workers: int = 1,
) -> Floats:
    """What the camera sees of one specimen without noise, under each of several conditions.

    Parameters
    ----------
    phase
        ``[V, U]`` radians, over a field that is larger than the frame by whole camera pixels, the
        same on opposite sides: `margin_px` says by how many.
    sample_um
        Its sampling; half the finest period that passes the pupil, λ/(2NA(1 + S)), or finer.
    frame_shape
        (y, x) camera pixels.
    absorption
        Share of the amplitude that is lost, the phase's shape; none where None.
    workers
        Threads of the FFTs.

    Returns
    -------
    ``[K, y, x]`` float32, the background without a specimen being 1; of LEDs, what each of them alone gives
    within the objective's NA, over their number.

    Raises
    ------
    ValueError
        If the field isn't larger than the frame by whole pixels, if its sampling is too coarse, or
        if no light of a condition passes the pupil.
    """
    whole = _camera_grid(phase.shape, sample_um, camera_pixel_um, frame_shape)
    finest = max(c.coherence for c in conditions) if conditions else 0.0
    if 2 * sample_um * optics.cutoff_per_um * (1 + finest) > 1:
        raise ValueError(
            f"samples of {sample_um} µm don't hold what NA {optics.numerical_aperture} passes: "
            f"draw at {1 / (2 * optics.cutoff_per_um * (1 + finest)):.3f} µm or finer"
        )
    transmission = np.empty(phase.shape, np.complex64)
    transmission.real, transmission.imag = np.cos(phase), np.sin(phase)
    if absorption is not None:
        transmission *= 1 - absorption
    spectrum = scipy.fft.fft2(transmission, norm="forward", workers=workers, overwrite_x=True)
    spectrum = scipy.fft.fftshift(spectrum)
    extent = (phase.shape[0] * sample_um, phase.shape[1] * sample_um)
    top, left = ((n - m) // 2 for n, m in zip(whole, frame_shape, strict=True))
    frames = np.empty((len(conditions), *frame_shape), np.float32)
    for k, condition in enumerate(conditions):
        intensity = _intensity(spectrum, extent, optics, condition, workers)
        frame = _pixels(intensity, extent, sample_um, whole, workers)
        frames[k] = frame[top : top + frame_shape[0], left : left + frame_shape[1]]
    return frames


def margin_px(optics: Optics, camera_pixel_um: float, z_um: float) -> int:
    """Camera pixels beyond each edge of a frame that send light into it at defocus z.

    The pupil's cone, and ten times the period λ/NA: the seam beyond it changes a crowded field's
    frame by less than half a per cent of its contrast.
    """
    sine = min(optics.numerical_aperture / optics.refractive_index, 0.98)
    cone = abs(z_um) * sine / sqrt(1 - sine**2)
    return ceil((cone + 10 / optics.cutoff_per_um) / camera_pixel_um)


def _camera_grid(
    drawn: tuple[int, ...], sample_um: float, pixel_um: float, frame: tuple[int, int]
) -> tuple[int, int]:
    """Camera pixels over the whole drawn field."""
    pixels = [n * sample_um / pixel_um for n in drawn]
    whole = (round(pixels[0]), round(pixels[1]))
    fits = all(abs(p - w) < 1e-6 * w for p, w in zip(pixels, whole, strict=True))
    if not fits or any(w < f or (w - f) % 2 for w, f in zip(whole, frame, strict=True)):
        raise ValueError(
            f"a drawing of {drawn} samples of {sample_um} µm doesn't surround a frame of {frame} pixels "
            f"of {pixel_um} µm by the same whole number of pixels on opposite sides"
        )
    return whole


def _waves(optics: Optics, condition: Conditions, extent: tuple[float, float]) -> NDArray[np.int64]:
    """``[W, 2]`` (y, x) frequencies of the light in steps of the field's frequency grid, inside the pupil."""
    if condition.leds:
        lit = np.asarray(condition.leds) / optics.wavelength_um
        return np.rint(lit[:, ::-1] * extent).astype(np.int64)
    count = 1
    if condition.coherence > 0:
        count = max(_LEAST_WAVES, ceil(_WAVES_PER_COHERENCE * condition.coherence))
    order = np.arange(count)
    radius = np.sqrt((order + 0.5) / count) * condition.coherence * optics.cutoff_per_um
    azimuth = order * _GOLDEN_ANGLE
    tilt_x, tilt_y = (s / optics.wavelength_um for s in condition.tilt)
    fy = radius * np.sin(azimuth) + tilt_y
    fx = radius * np.cos(azimuth) + tilt_x
    steps = np.rint(np.column_stack([fy * extent[0], fx * extent[1]])).astype(np.int64)
    passing = np.hypot(*(steps / extent).T) <= optics.cutoff_per_um
    if not passing.any():
        raise ValueError(
            "no light of these conditions passes the pupil: tilt less, or image a darkfield elsewhere"
        )
    return np.asarray(steps[passing])


def _intensity(
    spectrum: Complexes,
    extent: tuple[float, float],
    optics: Optics,
    condition: Conditions,
    workers: int,
) -> Floats:
    """Intensity over the whole drawn field, sampled λ/4NA apart or closer.

    `spectrum` is shifted (zero frequency in the middle), and normalised: its sum of waves is the field.
    """
    reach = [int(optics.cutoff_per_um * e) for e in extent]
    pupil = _pupil(reach, extent, optics, condition)
    samples = [scipy.fft.next_fast_len(4 * r + 4) for r in reach]
    middle = [n // 2 for n in spectrum.shape]
    total = np.zeros(samples, np.float32)
    waves = _waves(optics, condition, extent)
    for wave in waves:
        # O(f − f_s) for f inside the pupil's square.
        rows, columns = (
            slice(m - int(s) - r, m - int(s) + r + 1)
            for m, s, r in zip(middle, wave, reach, strict=True)
        )
        passed = spectrum[rows, columns] * pupil
        seen = scipy.fft.ifft(passed, samples[0], axis=0, norm="forward", workers=workers)
        seen = scipy.fft.ifft(seen, samples[1], axis=1, norm="forward", workers=workers)
        total += np.square(seen.real)
        total += np.square(seen.imag)
    return np.asarray(total / np.float32(len(waves)))


def _pupil(
    reach: Sequence[int], extent: tuple[float, float], optics: Optics, condition: Conditions
) -> Complexes:
    """The objective's transfer over its square of frequencies, zero in the middle: defocus, aberrations, edge."""
    fy, fx = (np.arange(-r, r + 1) / e for r, e in zip(reach, extent, strict=True))
    square = fy[:, None] ** 2 + fx[None, :] ** 2
    k = optics.refractive_index / optics.wavelength_um
    wavefront = 2 * np.pi * condition.z_um * (np.sqrt(np.maximum(k**2 - square, 0)) - k)
    radius = np.sqrt(square) / optics.cutoff_per_um
    azimuth = np.arctan2(fy[:, None], fx[None, :])
    for name, coefficient in condition.aberration_rad.items():
        wavefront += coefficient * zernike(*_ABERRATIONS[name], radius, azimuth)
    inside = radius <= 1 + 1e-6
    return np.asarray(inside * np.exp(1j * wavefront), np.complex64)


def zernike(
    n: int, m: int, radius: NDArray[np.float64], azimuth: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Zernike polynomial of rms 1 over the unit disc (Born and Wolf, 9.2.1), m < 0 the sine."""
    order = abs(m)
    radial = np.zeros_like(radius)
    for j in range((n - order) // 2 + 1):
        weight = (-1) ** j * factorial(n - j)
        weight /= factorial(j) * factorial((n + order) // 2 - j) * factorial((n - order) // 2 - j)
        radial += weight * radius ** (n - 2 * j)
    norm = sqrt((n + 1) * (1 if m == 0 else 2))
    angular = np.cos(order * azimuth) if m >= 0 else np.sin(order * azimuth)
    return np.asarray(norm * radial * angular)


def _pixels(
    intensity: Floats,
    extent: tuple[float, float],
    sample_um: float,
    whole: tuple[int, int],
    workers: int,
) -> Floats:
    """Mean of the intensity over each camera pixel's area, over the whole drawn field."""
    spectrum = scipy.fft.fft2(intensity, norm="forward", workers=workers)
    for axis, (e, pixels) in enumerate(zip(extent, whole, strict=True)):
        f = scipy.fft.fftfreq(intensity.shape[axis], e / intensity.shape[axis])
        pixel_um = e / pixels
        # Samples begin in the middle of the drawing's first sample, pixels at its edge.
        moved = np.sinc(f * pixel_um) * np.exp(1j * np.pi * f * (pixel_um - sample_um))
        spectrum *= moved.astype(np.complex64)[:, None] if axis == 0 else moved.astype(np.complex64)
        spectrum = _folded(spectrum, pixels, axis)
    return np.asarray(scipy.fft.ifft2(spectrum, norm="forward", workers=workers).real, np.float32)


def _folded(spectrum: Complexes, samples: int, axis: int) -> Complexes:
    """Frequencies added up modulo a coarser grid's: what sampling there does, aliasing included."""
    spectrum = np.moveaxis(spectrum, axis, 0)
    n = len(spectrum)
    positive = (n + 1) // 2
    folded = np.zeros((samples, spectrum.shape[1]), np.complex64)
    for start in range(0, positive, samples):
        part = spectrum[start : min(start + samples, positive)]
        folded[: len(part)] += part
    for end in range(n, positive, -samples):
        part = spectrum[max(end - samples, positive) : end]
        folded[samples - len(part) :] += part
    return np.moveaxis(folded, 0, axis)
