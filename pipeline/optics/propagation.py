"""Free-space propagation by the angular spectrum (Goodman, Introduction to Fourier Optics, 3.10).

Fields are exp(+iφ), φ > 0 where the optical path is longer; +z brings the plane in focus
downstream of the specimen. Frequencies are unshifted (fftfreq order), in cycles/µm.
"""

from __future__ import annotations

import math

import torch

# Frequencies within this relative distance of a hard edge count as inside it: on-grid LEDs at
# exactly NA/λ must not fall out of the pupil by single-precision rounding.
EDGE = 1e-6


def frequency_grid(
    shape: tuple[int, int],
    pixel_um: float,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``(fy [Y, 1], fx [1, X])`` in cycles/µm, fftfreq order; they broadcast to ``[Y, X]``."""
    fy, fx = (torch.fft.fftfreq(n, pixel_um, dtype=dtype, device=device) for n in shape)
    return fy[:, None], fx[None, :]


def axial_frequency(
    f_squared: torch.Tensor, wavelength_um: float, refractive_index: float
) -> torch.Tensor:
    """√((n/λ)² − f²) − n/λ in cycles/µm, NaN-free; meaningless (clamped) where evanescent.

    The on-axis part n/λ is left out: it is a constant phase, and without it single precision
    suffices for millimetres of defocus.
    """
    k = refractive_index / wavelength_um
    return -f_squared / ((k**2 - f_squared).clamp_min(0).sqrt() + k)


def angular_spectrum(
    shape: tuple[int, int],
    pixel_um: float,
    wavelength_um: float,
    refractive_index: float,
    z_um: float | torch.Tensor,
    *,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Transfer function of free space, exp(i2πz√((n/λ)² − f²)), evanescent waves cut.

    Parameters
    ----------
    z_um
        Distance along the light's way; a tensor ``[...]`` gives ``[..., Y, X]``, with gradients.

    Returns
    -------
    ``[Y, X]`` complex64, fftfreq order: multiply the field's `torch.fft.fft2` with it.
    """
    fy, fx = frequency_grid(shape, pixel_um, device, torch.float64)
    f_squared = fy**2 + fx**2
    k = refractive_index / wavelength_um
    z = torch.as_tensor(z_um, dtype=torch.float64, device=f_squared.device)[..., None, None]
    phase = 2 * math.pi * z * (axial_frequency(f_squared, wavelength_um, refractive_index) + k)
    travels = (f_squared <= k**2 * (1 + EDGE)).to(torch.float64)
    return torch.polar(travels.expand_as(phase), phase).to(torch.complex64)
