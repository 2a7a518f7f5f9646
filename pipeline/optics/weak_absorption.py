"""What a little absorption adds to a defocused frame: to be told from a phase that is wrong."""

from __future__ import annotations

import math

import torch

from pipeline.experiment import Optics
from pipeline.optics.propagation import frequency_grid
from pipeline.optics.sensor import bin_pixels


def absorption_transfer(
    frame_shape: tuple[int, int],
    pixel_um: float,
    optics: Optics,
    z_um: float,
    coherence: float,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Contrast per unit of a when a specimen exp(iφ) becomes exp(iφ - aφ), to first order in aφ, by frequency.

    One material absorbs in proportion to its thickness, as it delays. The weak-object transfer of the
    amplitude, -2·cos(πλzf²/n), blurred by the condenser's disc, on the camera's grid: aliasing is left out.

    Parameters
    ----------
    frame_shape
        ``(Y, X)`` camera pixels.
    pixel_um
        Camera pixel at the sample.
    coherence
        S = NA of the condenser / NA of the objective.

    Returns
    -------
    ``[Y, X//2 + 1]`` float32 per radian, for `absorption_contrast`.
    """
    fy, fx = frequency_grid(frame_shape, pixel_um, device)
    frequency = torch.hypot(fy, fx)[:, : frame_shape[1] // 2 + 1]
    wavelength_um = optics.wavelength_um / optics.refractive_index
    transfer = -2 * torch.cos(math.pi * wavelength_um * z_um * frequency**2)
    # Each plane wave's image is moved by z times its slope: a disc of this radius.
    radius_um = abs(z_um) * coherence * optics.numerical_aperture / optics.refractive_index
    return transfer * _disc(2 * math.pi * radius_um * frequency)


def absorption_contrast(phase: torch.Tensor, transfer: torch.Tensor, samples: int) -> torch.Tensor:
    """``[Y, X]`` of ``[s·Y, s·X]`` radians, s = `samples` per camera pixel; see `absorption_transfer`."""
    coarse = bin_pixels(phase, samples)
    filtered: torch.Tensor = torch.fft.irfft2(
        torch.fft.rfft2(coarse) * transfer, s=coarse.shape[-2:]
    )
    return filtered


def _disc(argument: torch.Tensor) -> torch.Tensor:
    """Fourier transform of a disc of area one, over 2π·radius·frequency."""
    argument = argument.clamp_min(1e-6)
    bessel: torch.Tensor = torch.special.bessel_j1(argument)
    return 2 * bessel / argument
