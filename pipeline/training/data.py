"""Training pairs made from an experiment's own optics: specimens, and what its camera would see.

The paper's chain (phase, propagation, binning, noise), with two differences: the intensity is
sampled as finely as it needs before binning, and the noise is drawn afresh for every patch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.experiment import Optics
from pipeline.methods.dl_srqpi.record import UPSAMPLING, OpticsRecord
from pipeline.optics.forward import (
    diffraction_spread_um,
    spectrum_camera_intensity,
    thin_specimen,
)
from pipeline.optics.illumination import condenser_source
from pipeline.optics.sensor import bin_pixels

# Of the amplitude, in the densest places of a living cell.
_MOST_ABSORPTION = 0.05
# Organelles, which absorb more than the water around them, are smaller than this.
_GRAIN_UM = 2.0

# (seed, (y, x) in pixels, pixel in µm) → phase in radians, background zero.
MakePhase = Callable[[int, tuple[int, int], float], NDArray[np.float32]]


@dataclass(frozen=True)
class Fields:
    """Specimens and their frames without noise.

    Parameters
    ----------
    phases
        ``[N, 4Y, 4X]`` float32, radians.
    frames
        ``[N, Y, X]`` float32, each divided by its mean, which is nearly the background.
    """

    phases: torch.Tensor
    frames: torch.Tensor


def make_fields(
    make_phase: MakePhase,
    seeds: list[int],
    field_px: int,
    lens: Optics,
    optics: OpticsRecord,
    oversampling: int,
) -> Fields:
    """Draw specimens and image each once; see `image_specimen`."""
    phases, frames = [], []
    for seed in seeds:
        phase, seen = image_specimen(
            make_phase, seed, field_px, lens, optics, oversampling, (optics.z_um,)
        )
        phases.append(phase)
        frames.append(seen[0])
    return Fields(torch.stack(phases), torch.stack(frames))


def image_specimen(
    make_phase: MakePhase,
    seed: int,
    field_px: int,
    lens: Optics,
    optics: OpticsRecord,
    oversampling: int,
    foci_um: tuple[float, ...],
) -> tuple[torch.Tensor, torch.Tensor]:
    """One specimen, and what the camera sees of it without noise.

    Parameters
    ----------
    field_px
        Edge of a frame in camera pixels.
    oversampling
        Samples of the specimen per phase pixel along each axis; the true phase is their mean.

    Returns
    -------
    phase, frames
        ``[4Y, 4X]`` radians, and ``[K, Y, X]`` for K foci, each frame divided by its mean.
    """
    # The forward model takes the field as periodic, a camera sees what lies beyond its edge: a margin
    # is drawn, imaged and cut off.
    spread = max(diffraction_spread_um(lens, z) for z in foci_um)
    margin = ceil(spread / optics.pixel_um)
    side = field_px + 2 * margin
    samples = UPSAMPLING * oversampling
    pixel_um = optics.pixel_um / samples
    phase = torch.from_numpy(make_phase(seed, (side * samples, side * samples), pixel_um))
    absorption = _absorption(phase, pixel_um, np.random.default_rng([seed, side]))
    spectrum = torch.fft.fft2(thin_specimen(phase, absorption))
    source = condenser_source(lens, (optics.coherence_min + optics.coherence_max) / 2)
    inner = slice(margin, margin + field_px)
    frames = []
    for z in foci_um:
        frame = spectrum_camera_intensity(
            spectrum, pixel_um, lens, source, z, frame_shape=(side, side)
        )[inner, inner]
        frames.append(frame / frame.mean())
    fine = slice(margin * UPSAMPLING, (margin + field_px) * UPSAMPLING)
    return bin_pixels(phase, oversampling)[fine, fine].clone(), torch.stack(frames)


def _absorption(phase: torch.Tensor, pixel_um: float, rng: np.random.Generator) -> torch.Tensor:
    """Amplitude that a specimen takes from the light: none in half of them, else where it is dense.

    A network that has only met transparent specimens takes a per cent of absorption for phase.
    """
    most = float(rng.uniform(0, _MOST_ABSORPTION)) if rng.random() < 0.5 else 0.0
    height = float(phase.max())
    if most == 0 or height == 0:
        return torch.zeros_like(phase)
    smooth = torch.from_numpy(ndimage.gaussian_filter(phase.numpy(), _GRAIN_UM / pixel_um))
    dense = 0.3 * phase + 2.0 * (phase - smooth).clamp_min(0)
    return most * (dense / height).clamp(0, 1)
