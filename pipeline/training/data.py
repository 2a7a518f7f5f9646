"""Training pairs made from an experiment's own optics: specimens, and what its camera would see.

The paper's chain (phase, propagation, superposition over the condenser, binning, noise), with two
differences: the intensity is sampled as finely as it needs before binning, and the noise is drawn
afresh for every batch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.experiment import Optics
from pipeline.methods.dl_srqpi.conditions import Conditions
from pipeline.methods.dl_srqpi.record import OpticsRecord
from pipeline.optics.forward import (
    intensity_samples,
    spectrum_camera_intensity,
    thin_specimen,
)
from pipeline.optics.illumination import condenser_source
from pipeline.optics.sensor import bin_pixels
from pipeline.optics.spread import diffraction_spread_um
from pipeline.training.ranges import Ranges

# Of the samples that an intensity needs, taken along each axis under many plane waves: a hundredth of the contrast
# is lost, less than noise, for half of the time.
_SAMPLES = 0.75
# Two rings of plane waves leave half a per cent of the contrast up to this blur, z·S in µm at NA 0.4.
_LITTLE_BLUR_UM = 0.7

# Real microscopes: this share of the fields is seen through a slightly aberrated objective, and absorbs a little.
# More would teach the network to mistrust what a frame tells of the phase.
_FLAWED = 0.3
# Of the amplitude, in the densest places of an unstained living cell.
_MOST_ABSORPTION = 0.01
# Organelles, which absorb more than the water around them, are smaller than this.
_GRAIN_UM = 2.0
# Rms radians of each aberration.
_ABERRATION_RAD = 0.06
_ABERRATIONS = ("astigmatism_0", "astigmatism_45", "coma_x", "coma_y", "spherical")

# (seed, (y, x) in pixels, pixel in µm) → phase in radians, background zero.
MakePhase = Callable[[int, tuple[int, int], float], NDArray[np.float32]]


@dataclass(frozen=True)
class Fields:
    """Specimens and their frames.

    Parameters
    ----------
    phases
        ``[N, u·Y, u·X]`` float16, radians.
    frames
        ``[N, K, Y, X]`` float32, each divided by its mean, which is nearly the background.
    conditions
        N tuples of K.
    noisy
        Whether the frames hold a camera's noise: none is added then.
    """

    phases: torch.Tensor
    frames: torch.Tensor
    conditions: tuple[tuple[Conditions, ...], ...]
    noisy: bool = False

    def __len__(self) -> int:
        return len(self.phases)

    @property
    def upsampling(self) -> int:
        """Phase pixels per camera pixel."""
        return int(self.phases.shape[-1] // self.frames.shape[-1])

    def fingerprint(self) -> str:
        """sha256 of all of it: what a training that goes on must find again."""
        digest = hashlib.sha256(repr((self.conditions, self.noisy)).encode())
        for tensor in (self.phases, self.frames):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Imaging:
    """How specimens become frames.

    Parameters
    ----------
    field_px
        Edge of a frame in camera pixels.
    oversampling
        Samples of the specimen per phase pixel along each axis; the true phase is their mean.
    images
        Frames of each specimen, each under conditions of its own.
    imperfect
        Whether some of the fields are seen through a slightly aberrated objective, and absorb a little.
    """

    optics: OpticsRecord
    upsampling: int
    field_px: int
    oversampling: int = 2
    images: int = 3
    imperfect: bool = True

    @property
    def field_bytes(self) -> int:
        """Size of one specimen with its frames in `Fields`."""
        half, single = 2, 4
        return self.field_px**2 * (half * self.upsampling**2 + single * self.images)

    @property
    def lens(self) -> Optics:
        """The objective; its magnification is in the pixel already."""
        o = self.optics
        return Optics(
            wavelength_um=o.wavelength_um,
            numerical_aperture=o.numerical_aperture,
            magnification=1.0,
            refractive_index=o.refractive_index,
        )

    def __call__(
        self, make_phase: MakePhase, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[Conditions, ...]]:
        """One specimen under `images` random conditions: phase, frames and conditions as in `Fields`."""
        rng = np.random.default_rng([seed, 5])
        ranges = Ranges(self.optics)
        conditions = tuple(ranges.draw(rng) for _ in range(self.images))
        return *self.under(conditions, make_phase, seed), conditions

    def under(
        self, conditions: Sequence[Conditions], make_phase: MakePhase, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One specimen under given conditions: ``[u·Y, u·X]`` radians, ``[K, Y, X]``, no noise."""
        rng = np.random.default_rng([seed, 6])
        lens, pixel_um = self.lens, self.optics.pixel_um
        # The forward model takes the field as periodic, a camera sees what lies beyond its edge: a margin
        # is drawn, imaged and cut off.
        spread = max(diffraction_spread_um(lens, c.z_um) for c in conditions)
        margin = math.ceil(spread / pixel_um)
        side = self.field_px + 2 * margin
        samples = self.upsampling * self.oversampling
        fine_um = pixel_um / samples
        phase = torch.from_numpy(make_phase(seed, (side * samples, side * samples), fine_um))
        flawed = self.imperfect and rng.random() < _FLAWED
        absorption = _absorption(phase, fine_um, rng) if flawed else torch.zeros_like(phase)
        aberration = {n: float(rng.normal(0, _ABERRATION_RAD)) for n in _ABERRATIONS if flawed}
        spectrum = torch.fft.fft2(thin_specimen(phase, absorption))
        inner = slice(margin, margin + self.field_px)
        frames = []
        fewer = math.ceil(_SAMPLES * intensity_samples(pixel_um, lens))
        for c in conditions:
            blurred = c.z_um * c.coherence * lens.numerical_aperture > _LITTLE_BLUR_UM
            frame = spectrum_camera_intensity(
                spectrum,
                fine_um,
                lens,
                condenser_source(
                    lens,
                    c.coherence,
                    rings=3 if blurred else 2,
                    turn_rad=float(rng.uniform(0, np.pi)),
                ),
                c.z_um,
                frame_shape=(side, side),
                aberration=aberration,
                samples=fewer if c.coherence else None,
            )[inner, inner]
            frames.append(frame / frame.mean())
        fine = slice(margin * self.upsampling, (margin + self.field_px) * self.upsampling)
        return bin_pixels(phase, self.oversampling)[fine, fine].clone(), torch.stack(frames)


def _absorption(phase: torch.Tensor, pixel_um: float, rng: np.random.Generator) -> torch.Tensor:
    """Amplitude that a specimen takes from the light where it is dense.

    A network that has only met transparent specimens takes a per cent of absorption for phase.
    """
    most = float(rng.uniform(0, _MOST_ABSORPTION))
    height = float(phase.max())
    if height == 0:
        return torch.zeros_like(phase)
    smooth = torch.from_numpy(ndimage.gaussian_filter(phase.numpy(), _GRAIN_UM / pixel_um))
    dense = 0.3 * phase + 2.0 * (phase - smooth).clamp_min(0)
    return most * (dense / height).clamp(0, 1)
