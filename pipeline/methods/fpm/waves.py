"""Which part of the object's spectrum each plane wave brings into the pupil, on the camera's frequency grid.

A wave of frequency f_s sends o(r)·exp(i2πf_s·r) into the pupil: the image's field has the spectrum
O(f - f_s)·P(f). On a grid the whole samples of f_s move a window over O; the rest of a sample moves the
pupil against the window, where it is known as a function. So no LED has to lie on the grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipeline.experiment import Optics
from pipeline.optics.forward import Aberration, intensity_samples
from pipeline.optics.illumination import Source, background_intensity
from pipeline.optics.propagation import EDGE
from pipeline.optics.pupil import pupil


@dataclass(frozen=True)
class Waves:
    """All plane waves of a measurement, and where each one's window lies in the object's spectrum.

    Parameters
    ----------
    shape
        ``(Y, X)`` of the camera's frames.
    grid
        ``(H, W)`` of the object: whole multiples of `shape`.
    radius
        Half of a window's edge in samples, per axis; its edge is ``2·radius + 1``.
    frequencies
        ``[N, 2]`` (fx, fy) of each wave, cycles/µm, float64.
    corner
        ``[N, 2]`` int64 first row and column of each wave's window in the centred spectrum (`fftshift`).
    pupils
        ``[N, h, w]`` complex64: the known pupil (disc, defocus, aberration) under each window, and the way from
        the object's first sample to the first of the image.
    weights
        ``[N]`` share of each wave in its frame.
    first
        ``[K + 1]`` frame k is lit by the waves ``first[k]`` to ``first[k + 1]``.
    samples
        Of the intensity per camera pixel, along each axis.
    """

    shape: tuple[int, int]
    grid: tuple[int, int]
    radius: tuple[int, int]
    frequencies: torch.Tensor
    corner: torch.Tensor
    pupils: torch.Tensor
    weights: torch.Tensor
    first: tuple[int, ...]
    samples: int

    @property
    def window(self) -> tuple[int, int]:
        """``(h, w)`` of a window."""
        return 2 * self.radius[0] + 1, 2 * self.radius[1] + 1


def make_waves(
    sources: Sequence[Source],
    optics: Optics,
    pixel_um: float,
    shape: tuple[int, int],
    upsampling: int,
    z_um: Sequence[float],
    aberration: Aberration | None = None,
    device: torch.device | str = "cpu",
) -> Waves:
    """Windows and pupils of frames.

    Parameters
    ----------
    sources, z_um
        Light and defocus of each frame.
    pixel_um
        Camera pixel at the specimen.

    Raises
    ------
    ValueError
        If a window leaves the object's spectrum: the upsampling is too small.
    """
    steps = [1 / (n * pixel_um) for n in shape]
    samples = intensity_samples(pixel_um, optics)
    # One sample more: the pupil moves against the window by up to half a one.
    radius = tuple(math.ceil(optics.cutoff_per_um * (1 + EDGE) / step + 0.5) for step in steps)
    if any(2 * r + 1 > samples * n for r, n in zip(radius, shape, strict=True)):
        raise ValueError(f"frames of {shape} pixels are too small for the pupil")
    grid = (shape[0] * upsampling, shape[1] * upsampling)
    # Squares of different size that begin at the field's corner have their middles elsewhere.
    offset_um = pixel_um * (1 / samples - 1 / upsampling) / 2
    way = [
        torch.arange(-r, r + 1) * (step * offset_um) for r, step in zip(radius, steps, strict=True)
    ]
    ramp = torch.exp(2j * math.pi * (way[0][:, None] + way[1]).double())
    corners, pupils, weights, first = [], [], [], [0]
    for source, z in zip(sources, z_um, strict=True):
        centre, offsets = [], []
        for axis, step, r, n in zip((1, 0), steps, radius, grid, strict=True):
            place = source.frequencies[:, axis] / step
            whole = torch.round(place)
            # O(f - f_s): the window lies around minus the wave.
            centre.append(n // 2 - whole.long() - r)
            k = torch.arange(-r, r + 1, dtype=torch.float64)
            offsets.append((k + (place - whole)[:, None]) * step)
        corners.append(torch.stack(centre, 1))
        fy, fx = offsets
        known = pupil(fy[:, :, None], fx[:, None, :], optics, z, aberration) * ramp
        pupils.append(known.to(torch.complex64))
        weights.append(source.weights / (background_intensity(source, optics) or 1.0))
        first.append(first[-1] + len(source.weights))
    corner = torch.cat(corners)
    last = torch.tensor([g - 2 * r - 1 for g, r in zip(grid, radius, strict=True)])
    if bool(((corner < 0) | (corner > last)).any()):
        raise ValueError(f"an object of {grid} samples does not hold the light's farthest waves")
    return Waves(
        shape=shape,
        grid=grid,
        radius=(radius[0], radius[1]),
        frequencies=torch.cat([s.frequencies for s in sources]),
        corner=corner.to(device),
        pupils=torch.cat(pupils).to(device),
        weights=torch.cat(weights).float().to(device),
        first=tuple(first),
        samples=samples,
    )
