"""Held-out fields under the patterns: true phase, and noisy frames of every pattern that any contender needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.forward import Conditions, image, margin_px
from pipeline.evaluation.specimens import draw
from pipeline.evaluation.specimens.bars import bar_target
from pipeline.evaluation.specimens.leaves import dead_leaves
from pipeline.experiment import Optics

Floats = NDArray[np.float32]

LEAVES, BARS, EMPTY = "dead leaves", "bars", "empty"
# λ over 0.1, 0.15, 0.2 (all that brightfield shows at NA 0.1), 0.25, 0.3, 0.4 and 0.51 at 630 nm.
PERIODS_UM = (6.3, 4.2, 3.15, 2.52, 2.1, 1.575, 1.235)
_READ_NOISE_E = 1.8
# Samples of the specimen per phase pixel along each axis.
_OVERSAMPLING = 2


@dataclass(frozen=True)
class Light:
    """One frame's.

    Parameters
    ----------
    sines
        ``[N, 2]`` direction sines (x, y) of its LEDs.
    electrons
        Of the camera, for a background of 1.
    """

    sines: NDArray[np.float64]
    electrons: float


@dataclass(frozen=True)
class Reality:
    """How a microscope is not the one that methods believe in.

    Parameters
    ----------
    moved
        (x, y) direction sines by which the whole array is elsewhere.
    turned_deg
        The array about the axis.
    defocus_um
        Beside the defocus that is known.
    aberration_rad
        As of `Conditions`.
    """

    moved: tuple[float, float] = (0.0, 0.0)
    turned_deg: float = 0.0
    defocus_um: float = 0.0
    aberration_rad: Mapping[str, float] = field(default_factory=dict)

    def lit(self, sines: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where LEDs are that are believed to be at `sines` ``[N, 2]``."""
        turn = np.deg2rad(self.turned_deg)
        turned = sines @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        return np.asarray(turned + np.asarray(self.moved))


AS_BELIEVED = Reality()


@dataclass(frozen=True)
class PatternField:
    """One specimen.

    Parameters
    ----------
    truth
        ``[u·Y, u·X]`` radians: the phase of the field low-passed at the synthetic NA.
    frames
        ``[K, Y, X]`` noisy, 1 the background of a brightfield frame.
    """

    truth: Floats
    frames: Floats


def pattern_field(
    kind: str,
    seed: int,
    lights: Sequence[Light],
    optics: Optics,
    pixel_um: float,
    synthetic_na: float,
    *,
    field_px: int,
    upsampling: int,
    z_um: float = 0.0,
    reality: Reality = AS_BELIEVED,
) -> PatternField:
    """Draw, image and add noise.

    Parameters
    ----------
    kind
        A held-out family, `LEAVES`, `BARS` or `EMPTY`.
    synthetic_na
        What the truth is low-passed at.
    z_um
        Defocus that is known.
    """
    z_um += reality.defocus_um
    margin = margin_px(optics, pixel_um, z_um)
    samples = (field_px + 2 * margin) * upsampling * _OVERSAMPLING
    sample_um = pixel_um / (upsampling * _OVERSAMPLING)
    shape = (samples, samples)
    phase = _drawn(kind, seed, shape, sample_um)
    # LEDs send light towards the axis: it travels the other way than they lie.
    conditions = [
        Conditions(
            z_um,
            leds=tuple((-float(x), -float(y)) for x, y in reality.lit(light.sines)),
            aberration_rad=reality.aberration_rad,
        )
        for light in lights
    ]
    clean = image(phase, sample_um, optics, pixel_um, (field_px, field_px), conditions)
    rng = np.random.default_rng([8_142, seed, len(kind)])
    frames = np.empty_like(clean)
    for k, light in enumerate(lights):
        inside = np.hypot(*light.sines.T) <= optics.numerical_aperture * (1 + 1e-6)
        frame = clean[k] / (inside.mean() or 1.0)
        electrons = rng.poisson(np.maximum(frame, 0).astype(np.float64) * light.electrons)
        frames[k] = (electrons + rng.normal(0, _READ_NOISE_E, frame.shape)) / light.electrons
    edge, side = margin * upsampling, field_px * upsampling
    truth = _shown(phase, sample_um, synthetic_na / optics.wavelength_um)
    return PatternField(truth[edge : edge + side, edge : edge + side], frames)


def _drawn(kind: str, seed: int, shape: tuple[int, int], sample_um: float) -> Floats:
    if kind == EMPTY:
        return np.zeros(shape, np.float32)
    if kind == BARS:
        return bar_target(PERIODS_UM, shape, sample_um)
    if kind == LEAVES:
        return dead_leaves(seed, shape, sample_um)
    return draw(kind, seed, shape, sample_um)


def _shown(phase: Floats, sample_um: float, cutoff_per_um: float) -> Floats:
    """Phase of the field low-passed, on the phase pixels' grid: every second sample's means."""
    field = np.fft.fft2(np.exp(1j * phase.astype(np.float64)))
    fy, fx = (np.fft.fftfreq(n, sample_um) for n in phase.shape)
    field *= fy[:, None] ** 2 + fx**2 <= cutoff_per_um**2
    # The mean over a phase pixel's samples, as fields add.
    n = _OVERSAMPLING
    shown = np.fft.ifft2(field).reshape(len(fy) // n, n, len(fx) // n, n).mean((1, 3))
    whole = phase.reshape(len(fy) // n, n, len(fx) // n, n).mean((1, 3))
    turns = np.rint((whole - np.angle(shown)) / (2 * np.pi))
    return np.asarray(np.angle(shown) + 2 * np.pi * turns, np.float32)
