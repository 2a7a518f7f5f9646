"""Training pairs for neuph: specimens, their phase as the LEDs can show it, and the frames under the patterns.

The truth is the phase of the field low-passed at the synthetic NA: what single-LED Fourier ptychography with the same
LEDs finds without noise. Microscopes are not perfect: some fields are aberrated, out of focus, absorb, or are lit
by LEDs that aren't quite where they should be, as far off the axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.experiment import Optics
from pipeline.methods.fpm.imaging import Imaging, object_spectrum
from pipeline.methods.fpm.waves import make_waves
from pipeline.methods.neuph.record import LightRecord
from pipeline.optics.illumination import Source
from pipeline.optics.propagation import frequency_grid
from pipeline.samples import training_field
from pipeline.samples.families import fine_field, natural_field
from pipeline.samples.smears import stained_field
from pipeline.training.field_making import in_processes

_REPORT_EVERY = 50
# Share of the fields that are seen by an imperfect microscope.
_FLAWED = 0.6
_ABERRATION_RAD = 0.12
_ABERRATIONS = ("astigmatism_0", "astigmatism_45", "coma_x", "coma_y", "spherical")
# Of the depth of field nλ/NA².
_DEFOCUS = 0.05
# Of the objective's NA: a misplaced array, or a place beside the axis; and each LED by itself.
_ARRAY_OFF, _LED_OFF, _LED_INTENSITY = 0.03, 0.005, 0.05
# Widths λ/NA of light around a field: the forward model takes it as periodic.
_MARGIN = 3.0
# Of the amplitude: stained cells take more light than living ones.
_STAINED, _MOST_ABSORPTION = 0.3, 0.3
# Of a stained specimen's darkfield frames, in units of the brightfield background: a floor, and how much brighter.
_STRAY, _HALO = (3e-4, 1e-2), 1.5


@dataclass(frozen=True)
class NeuPhFields:
    """Specimens and their frames.

    Parameters
    ----------
    phases
        ``[N, u·Y, u·X]`` float16, radians.
    frames
        ``[N, K, Y, X]`` float32 in the light's order; 1 is the background of a brightfield frame.
    noisy
        Whether the frames hold a camera's noise: none is added then.
    """

    phases: torch.Tensor
    frames: torch.Tensor
    noisy: bool = False

    def __len__(self) -> int:
        return len(self.phases)

    def first(self, frames: int) -> NeuPhFields:
        """The same specimens, their first frames only."""
        return replace(self, frames=self.frames[:, :frames])

    @property
    def upsampling(self) -> int:
        """Phase pixels per camera pixel."""
        return int(self.phases.shape[-1] // self.frames.shape[-1])


@dataclass(frozen=True)
class PatternImaging:
    """How specimens become frames under patterns.

    Parameters
    ----------
    field_px
        Edge of a frame in camera pixels.
    leaves_share, fine_share
        Of the specimens, those like natural images, and charts of fine periods.
    imperfect
        Whether some are seen by an imperfect microscope.
    """

    light: LightRecord
    upsampling: int
    field_px: int
    leaves_share: float = 0.25
    fine_share: float = 0.0
    imperfect: bool = True

    @property
    def lens(self) -> Optics:
        """The objective; its magnification is in the pixel already."""
        light = self.light
        return Optics(
            wavelength_um=light.wavelength_um,
            numerical_aperture=light.numerical_aperture,
            magnification=1.0,
            refractive_index=light.refractive_index,
        )

    def specimen(self, seed: int, shape: tuple[int, int], pixel_um: float) -> NDArray[np.float32]:
        """Phase ``shape`` of one of the kinds."""
        at = float(np.random.default_rng([seed, 11]).random())
        if at < self.leaves_share:
            return natural_field(seed, shape, pixel_um)
        fine = at < self.leaves_share + self.fine_share
        return (fine_field if fine else training_field)(seed, shape, pixel_um)

    def __call__(self, seed: int) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
        """Phase ``[u·Y, u·X]`` and frames ``[K, Y, X]`` of one specimen."""
        rng = np.random.default_rng([seed, 12])
        lens, pixel_um, u = self.lens, self.light.pixel_um, self.upsampling
        margin = math.ceil(_MARGIN * lens.wavelength_um / lens.numerical_aperture / pixel_um)
        side = self.field_px + 2 * margin
        phase, absorption = self._drawn(seed, (side * u, side * u), pixel_um / u, rng)
        field = torch.polar(1 - absorption, phase)
        frames = self._frames(field, side, rng)
        truth = shown_phase(field, phase, pixel_um / u, self.light)
        inner, fine = (slice(margin * n, (margin + self.field_px) * n) for n in (1, u))
        return (
            truth[fine, fine].to(torch.float16).numpy(),
            frames[:, inner, inner].contiguous().numpy(),
        )

    def _drawn(
        self, seed: int, shape: tuple[int, int], pixel_um: float, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Phase, and the share of the amplitude that is lost."""
        phase = torch.from_numpy(self.specimen(seed, shape, pixel_um))
        if rng.random() < _STAINED and self.imperfect:
            most = float(rng.uniform(0, _MOST_ABSORPTION))
            return phase, most * phase / max(float(phase.max()), 1.0)
        return phase, torch.zeros_like(phase)

    def _frames(self, field: torch.Tensor, side: int, rng: np.random.Generator) -> torch.Tensor:
        flawed = self.imperfect and rng.random() < _FLAWED
        lens, light = self.lens, self.light
        aberration = {n: float(rng.normal(0, _ABERRATION_RAD)) for n in _ABERRATIONS if flawed}
        depth = lens.refractive_index * lens.wavelength_um / lens.numerical_aperture**2
        z_um = light.z_um + (float(rng.normal(0, _DEFOCUS * depth)) if flawed else 0.0)
        sources = self._sources(rng, flawed)
        waves = make_waves(
            sources,
            lens,
            light.pixel_um,
            (side, side),
            self.upsampling,
            [z_um] * len(sources),
            aberration,
        )
        return Imaging(waves).frames(
            object_spectrum(field),
            torch.ones(waves.window, dtype=torch.complex64),
            torch.ones(len(sources)),
        )

    def _sources(self, rng: np.random.Generator, flawed: bool) -> list[Source]:
        """The patterns' light; of a misplaced array where flawed."""
        light, na = self.light, self.light.numerical_aperture
        shift = rng.normal(0, _ARRAY_OFF * na, 2)
        sources = []
        for pattern in light.patterns:
            sines = np.asarray(pattern.sines)
            off = shift + rng.normal(0, _LED_OFF * na, sines.shape)
            intensity = 1 + rng.normal(0, _LED_INTENSITY, len(sines)).clip(-0.2, 0.2)
            if flawed:
                sines = sines + off
            else:
                intensity = np.ones(len(sines))
            weights = torch.from_numpy(intensity / intensity.sum())
            sources.append(Source(torch.from_numpy(-sines / light.wavelength_um), weights))
        return sources


@dataclass(frozen=True)
class StainedImaging(PatternImaging):
    """As `PatternImaging`, of stained specimens, which scatter so much that some of the light goes astray.

    Real darkfield frames of a smear have a floor, and LEDs just outside the pupil give more than their share: light
    that was scattered twice, or in the lens.
    """

    def _drawn(
        self,
        seed: int,
        shape: tuple[int, int],
        pixel_um: float,
        rng: np.random.Generator,  # noqa: ARG002 - the specimen has its own
    ) -> tuple[torch.Tensor, torch.Tensor]:
        phase, absorption = stained_field(seed, shape, pixel_um)
        return torch.from_numpy(phase), torch.from_numpy(absorption)

    def _frames(self, field: torch.Tensor, side: int, rng: np.random.Generator) -> torch.Tensor:
        frames = super()._frames(field, side, rng)
        stray = float(np.exp(rng.uniform(*np.log(_STRAY))))
        even = float(rng.uniform())
        for k, pattern in enumerate(self.light.patterns):
            if not pattern.brightfield:
                # A part of it is the same everywhere, the other is brightest where the specimen is.
                frames[k] = frames[k] * (1 + float(rng.uniform(0, _HALO))) + stray * even
        return frames


def shown_phase(
    field: torch.Tensor, phase: torch.Tensor, pixel_um: float, light: LightRecord
) -> torch.Tensor:
    """``[Y, X]`` phase of a field low-passed at the synthetic NA: what the light can show.

    Parameters
    ----------
    phase
        The specimen's own, which says how many whole turns there are.
    """
    fy, fx = frequency_grid((field.shape[-2], field.shape[-1]), pixel_um)
    passed = fy**2 + fx**2 <= (light.synthetic_na / light.wavelength_um) ** 2
    shown = torch.fft.ifft2(torch.fft.fft2(field) * passed).angle()
    unwrapped: torch.Tensor = shown + 2 * math.pi * torch.round((phase - shown) / (2 * math.pi))
    return unwrapped


def make_pattern_fields(
    imaging: PatternImaging, seeds: Sequence[int], workers: int, report: Callable[[int], None]
) -> NeuPhFields:
    """Draw specimens and image them; the same from any number of processes.

    Parameters
    ----------
    report
        Called with the number of fields made, now and then.
    """
    phases, frames = [], []
    for phase, seen in in_processes(partial(_make, imaging), seeds, workers):
        phases.append(torch.from_numpy(phase))
        frames.append(torch.from_numpy(seen))
        if len(phases) % _REPORT_EVERY == 0:
            report(len(phases))
    return NeuPhFields(torch.stack(phases), torch.stack(frames))


def _make(imaging: PatternImaging, seed: int) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    return imaging(seed)
