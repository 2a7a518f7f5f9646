"""From a specimen to what the camera sees: Abbe summation over the source's plane waves.

Under a plane wave of frequency f_s a thin specimen o sends exp(i2πf_s·r)·o(r) into the pupil.
Its image's intensity is |F⁻¹{O(f)·P(f + f_s)}|²: the tilt drops out of the modulus when the
pupil is evaluated at f + f_s instead of the field being tilted. That is exact for a periodic
field whether or not f_s lies on the FFT grid, where a tilt that isn't periodic in the field
would make a seam at its border. On the grid both are the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from pipeline.calibration import Calibration
from pipeline.experiment import Experiment, Optics
from pipeline.optics.illumination import Source, background_intensity, calibrated_source
from pipeline.optics.propagation import EDGE, frequency_grid
from pipeline.optics.pupil import pupil
from pipeline.optics.sensor import bin_pixels

# Plane waves are imaged in batches that need about this much memory.
_CHUNK_BYTES = {"cpu": 64 << 20, "cuda": 1 << 30}
# What one pixel of one wave takes on the way: spectrum, field, intensity, and what FFTs copy.
_BYTES_PER_PIXEL = 32

Aberration = Mapping[str, float | torch.Tensor]


def thin_specimen(phase: torch.Tensor, absorption: torch.Tensor | None = None) -> torch.Tensor:
    """Field behind a thin specimen, (1 − absorption)·exp(iφ), complex64; φ in radians."""
    amplitude = torch.ones_like(phase) if absorption is None else 1 - absorption
    return torch.polar(amplitude, phase)


def intensity_samples(pixel_um: float, optics: Optics) -> int:
    """Samples per pixel along each axis that an image's intensity needs, λ/4NA apart or closer.

    An intensity holds twice the frequencies of its field. Averaging coarser samples over a
    camera pixel is not what a pixel does: for cells at 10x/0.4 with 2.6 µm pixels, four samples
    a pixel leave an error of a fifth of the contrast.
    """
    return max(1, math.ceil(pixel_um * 4 * optics.cutoff_per_um * (1 - EDGE)))


def image_intensity(
    field: torch.Tensor,
    pixel_um: float,
    optics: Optics,
    source: Source,
    z_um: float | torch.Tensor = 0.0,
    *,
    aberration: Aberration | None = None,
    shape: tuple[int, int] | None = None,
) -> torch.Tensor:
    """Image of a field under partially coherent light.

    Parameters
    ----------
    field
        ``[..., Y, X]`` complex64 behind the specimen under unit light on the axis, periodic.
    pixel_um
        Its sampling at the specimen.
    z_um
        Defocus: a number, or a tensor that broadcasts against the leading ``[...]``.
    aberration
        Zernike name → rad rms.
    shape
        Samples of the image over the same extent, ``(y, x)``; the field's own grid where None.
        `intensity_samples` says how many represent it fully.

    Returns
    -------
    ``[..., Y, X]`` float32, 1 where there is no specimen in brightfield.
    """
    return spectrum_intensity(
        torch.fft.fft2(field),
        pixel_um,
        optics,
        source,
        z_um,
        aberration=aberration,
        shape=shape,
    )


def spectrum_intensity(
    spectrum: torch.Tensor,
    pixel_um: float,
    optics: Optics,
    source: Source,
    z_um: float | torch.Tensor = 0.0,
    *,
    aberration: Aberration | None = None,
    shape: tuple[int, int] | None = None,
) -> torch.Tensor:
    """`image_intensity` of a field given by its FFT: for many images of one specimen.

    Raises
    ------
    ValueError
        If `shape` is coarser than the field's grid and can't hold the pupil.
    """
    grid = (int(spectrum.shape[-2]), int(spectrum.shape[-1]))
    out = grid if shape is None else shape
    steps = [1 / (n * pixel_um) for n in grid]
    # The spectrum's samples that can matter: all of them, or those that an image grid coarser than
    # the specimen's holds.
    kept = (min(grid[0], out[0]), min(grid[1], out[1]))
    moves = kept != grid
    if moves and any(
        n * step < 2 * optics.cutoff_per_um * (1 - EDGE) for n, step in zip(out, steps, strict=True)
    ):
        raise ValueError(f"an image of {out} samples does not hold the pupil: sample at λ/2NA")
    total = torch.zeros((), dtype=spectrum.real.dtype, device=spectrum.device)
    z = torch.as_tensor(z_um, dtype=total.dtype, device=total.device)
    batch = np.broadcast_shapes(spectrum.shape[:-2], z.shape)
    z = z[..., None, None, None]
    per_wave = max(1, math.prod(batch)) * math.prod(out) * _BYTES_PER_PIXEL
    chunk = max(1, _CHUNK_BYTES.get(spectrum.device.type, 1 << 30) // per_wave)
    # The inverse FFT is left unscaled and its factor goes into the weights: cheaper, and torch 2.13's scaled one
    # returns garbage for one complex64 square of 2048 on CPUs with AVX-512 and more than one thread.
    scale = 1 / math.prod(grid)
    for start in range(0, len(source.weights), chunk):
        waves = source.frequencies[start : start + chunk]
        # A coarser grid must hold the pupil's disc: the spectrum is moved by whole samples to
        # where the disc is, and the fraction of a sample that remains is left to the pupil.
        whole = [
            torch.round(waves[:, axis] / step).to(torch.int64) * moves
            for axis, step in ((1, steps[0]), (0, steps[1]))
        ]
        picked = _pick(spectrum, whole, kept) if moves else spectrum[..., None, :, :]
        fy, fx = (
            _frequencies(n, step, waves[:, axis], shift, spectrum)
            for n, step, axis, shift in zip(kept, steps, (1, 0), whole, strict=True)
        )
        passed = picked * pupil(fy[:, :, None], fx[:, None, :], optics, z, aberration)
        weights = (source.weights[start : start + chunk] * scale**2).to(total)
        image = torch.fft.ifft2(
            _zero_pad(_zero_pad(passed, out[0], -2), out[1], -1), norm="forward"
        )
        intensity = image.real.square() + image.imag.square()
        total = total + (weights @ intensity.flatten(-2)).unflatten(-1, out)
    return total


def _indices(samples: int, device: torch.device) -> torch.Tensor:
    """0, 1, …, -2, -1: the integer frequencies of an FFT of that many samples."""
    n = torch.arange(samples, device=device)
    return torch.where(n < (samples + 1) // 2, n, n - samples)


def _frequencies(
    samples: int, step: float, wave: torch.Tensor, shift: torch.Tensor, like: torch.Tensor
) -> torch.Tensor:
    """``[S, samples]`` f + f_s of a grid moved by `shift` samples: where the pupil is evaluated."""
    rest = (wave - shift * step).to(like.device)
    f = rest[:, None] + _indices(samples, like.device) * step
    return f.to(like.real.dtype)


def _pick(
    spectrum: torch.Tensor, shifts: Sequence[torch.Tensor], kept: tuple[int, int]
) -> torch.Tensor:
    """``[..., S, *kept]``: the spectrum around minus each shift, zero where it has no samples."""
    index, inside = [], []
    for samples, have, shift in zip(kept, spectrum.shape[-2:], shifts, strict=True):
        source = _indices(samples, spectrum.device) - shift.to(spectrum.device)[:, None]
        inside.append((source >= -(have // 2)) & (source < (have + 1) // 2))
        index.append(source % have)
    picked = spectrum[..., index[0][:, :, None], index[1][:, None, :]]
    return picked * (inside[0][:, :, None] & inside[1][:, None, :])


def _zero_pad(spectrum: torch.Tensor, samples: int, axis: int) -> torch.Tensor:
    """Zeros between the positive and the negative frequencies of one axis."""
    have = spectrum.shape[axis]
    if have == samples:
        return spectrum
    shape = list(spectrum.shape)
    shape[axis] = samples - have
    positive = spectrum.narrow(axis, 0, (have + 1) // 2)
    negative = spectrum.narrow(axis, (have + 1) // 2, have // 2)
    return torch.cat([positive, spectrum.new_zeros(shape), negative], axis)


def camera_intensity(
    field: torch.Tensor,
    pixel_um: float,
    optics: Optics,
    source: Source,
    z_um: float | torch.Tensor = 0.0,
    *,
    frame_shape: tuple[int, int],
    aberration: Aberration | None = None,
) -> torch.Tensor:
    """What a camera of `frame_shape` pixels over the field's extent sees: the mean over each pixel.

    As `image_intensity`, but ``[..., y, x]`` of the camera. The field's samples are taken as the
    middles of their squares, so that the blocks of samples under each pixel lie exactly there.
    """
    return spectrum_camera_intensity(
        torch.fft.fft2(field),
        pixel_um,
        optics,
        source,
        z_um,
        frame_shape=frame_shape,
        aberration=aberration,
    )


def spectrum_camera_intensity(
    spectrum: torch.Tensor,
    pixel_um: float,
    optics: Optics,
    source: Source,
    z_um: float | torch.Tensor = 0.0,
    *,
    frame_shape: tuple[int, int],
    aberration: Aberration | None = None,
    samples: int | None = None,
) -> torch.Tensor:
    """`camera_intensity` of a field given by its FFT.

    Parameters
    ----------
    samples
        Of the intensity per camera pixel along each axis; `intensity_samples` where None, which is exact.
    """
    grid = (int(spectrum.shape[-2]), int(spectrum.shape[-1]))
    camera_pixel_um = pixel_um * grid[1] / frame_shape[1]
    n = samples or intensity_samples(camera_pixel_um, optics)
    # FFT grids begin at the same place; squares of different size that begin there have their
    # middles elsewhere. A phase ramp on the spectrum moves the image's samples by the difference.
    offset = (camera_pixel_um / n - pixel_um) / 2
    if offset:
        fy, fx = frequency_grid(grid, pixel_um, spectrum.device)
        for f in (fy, fx):
            spectrum = spectrum * torch.polar(torch.ones_like(f), 2 * math.pi * offset * f)
    intensity = spectrum_intensity(
        spectrum,
        pixel_um,
        optics,
        source,
        z_um,
        aberration=aberration,
        shape=(n * frame_shape[0], n * frame_shape[1]),
    )
    return _fill_pixel(bin_pixels(intensity, n), n)


def _fill_pixel(means: torch.Tensor, n: int) -> torch.Tensor:
    """From the mean of a pixel's n x n samples to the mean over its area.

    A sum of n samples passes a frequency f by sin(πf)/(n·sin(πf/n)), f in cycles/pixel, the area by
    sin(πf)/πf: the ratio is sinc(f/n). Exact but for aliased frequencies, which pixels hardly pass.
    """
    y, x = means.shape[-2:]
    fy = torch.fft.fftfreq(y, device=means.device)[:, None]
    fx = torch.fft.rfftfreq(x, device=means.device)
    spectrum = torch.fft.rfft2(means) * (torch.sinc(fy / n) * torch.sinc(fx / n))
    filled: torch.Tensor = torch.fft.irfft2(spectrum, s=(y, x))
    return filled


def predict_frames(
    phase: torch.Tensor,
    absorption: torch.Tensor | None,
    experiment: Experiment,
    calibration: Calibration | None = None,
    frames: Sequence[int] | None = None,
    *,
    aberration: Aberration | None = None,
) -> torch.Tensor:
    """What the experiment's camera should see of a specimen, in units of the background.

    Parameters
    ----------
    phase, absorption
        ``[..., s·Y, s·X]`` float32 over the camera's field, s a whole number: radians, and the
        share of the amplitude that is lost. The field is taken as periodic: its border, as wide
        as `diffraction_spread_um`, sees what is not there.
    calibration
        Pixel size, LED orientation, LED intensities and z scale, where known; nominal otherwise.
    frames
        Indices ``channel * n_foci + focus`` of the slot's frames; all of them where None.

    Returns
    -------
    ``[..., K, Y, X]`` float32: 1 is the background of a brightfield channel; a darkfield channel
    is in units of what its LEDs would give in brightfield.

    Raises
    ------
    ValueError
        If the phase's grid is not a whole number of samples per camera pixel.
    """
    known = calibration or Calibration()
    plan = experiment.plan()
    y, x = plan.frame_shape
    samples, rest = divmod(phase.shape[-1], x)
    if rest or samples < 1 or phase.shape[-2] != samples * y:
        raise ValueError(f"a phase of {tuple(phase.shape[-2:])} does not divide into {y, x} pixels")
    pixel_um = (known.pixel_um or experiment.pixel_um) / samples
    spectrum = torch.fft.fft2(thin_specimen(phase, absorption))
    out = []
    for k in range(plan.frames_per_slot) if frames is None else frames:
        channel, focus = divmod(k, len(plan.foci_um))
        source = calibrated_source(experiment, plan.channels[channel].name, known)
        image = spectrum_camera_intensity(
            spectrum,
            pixel_um,
            experiment.optics,
            source,
            known.true_focus_um(plan.foci_um[focus]),
            frame_shape=plan.frame_shape,
            aberration=aberration,
        )
        out.append(image / (background_intensity(source, experiment.optics) or 1.0))
    return torch.stack(out, dim=-3)
