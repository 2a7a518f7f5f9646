"""Outlines as tables over the angle: of a cell, of its thick middle, and of its nucleus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.samples.packing import Borders
from pipeline.samples.population import Population
from pipeline.samples.style import CultureStyle

Floats = NDArray[np.float32]

ANGLES = 256
_SHARPNESS = 6
_TAU = np.float32(2 * np.pi)
_HARMONICS = (
    (1, 0.10, 5.0),
    (2, 0.09, 4.0),
    (3, 0.09, 3.0),
    (4, 0.06, 2.2),
    (5, 0.045, 1.7),
    (7, 0.03, 1.2),
    (11, 0.014, 0.7),
    (17, 0.008, 0.5),
)
"""(order, amplitude relative to the radius, period in hours) of the outline's Fourier series."""
_THETA = (2 * np.pi / ANGLES * np.arange(ANGLES)).astype(np.float32)


@dataclass(frozen=True)
class Outlines:
    """Radii in µm, ``[N, ANGLES]``, from each cell's middle."""

    edge: Floats
    steepness: Floats
    """Cosine between the radius and the outline's normal: turns radial into true distance to the edge."""
    middle: Floats
    """Of the thick part, without lamellae and protrusions."""
    nucleus: Floats

    def area_um2(self) -> Floats:
        """``[N]`` inside the edge."""
        return np.asarray((self.edge**2).sum(1) * np.float32(np.pi / ANGLES))


def outlines_of(cells: Population, borders: Borders, style: CultureStyle) -> Outlines:
    """Smooth, irregular, slowly changing outlines that stop at the neighbours' borders."""
    flat = (1 - cells.roundness).astype(np.float32)[:, None]
    turn = 2 * np.pi * cells.traits[:, 27:28] + 0.5 * _swing(cells, 3.0, cells.traits[:, 28:29])
    wobble = style.irregularity * flat * _wobble(cells)
    body = _ellipse(cells, turn, flat, style) * np.exp(wobble)
    reach = style.protrusions * flat * _protrusions(cells)
    limit = _limits(borders, len(cells))
    edge = _both(body * (1 + reach), limit)
    middle = _both(body * (0.98 - 0.08 * flat + 0.4 * reach), limit)
    nucleus = _both(
        _nucleus(cells, turn, style), np.reciprocal(np.float32(0.82) * middle, dtype=np.float32)
    )
    slope = (np.roll(edge, -1, 1) - np.roll(edge, 1, 1)) * np.float32(ANGLES / (4 * np.pi)) / edge
    return Outlines(edge, 1 / np.sqrt(1 + slope**2), middle, nucleus)


def _ellipse(cells: Population, turn: Floats, flat: Floats, style: CultureStyle) -> Floats:
    low, high = style.aspect
    aspect = 1 + flat * (low - 1 + (high - low) * cells.traits[:, 26:27] ** 2)
    c, s = np.cos(_THETA - turn), np.sin(_THETA - turn)
    radius = cells.radius_um.astype(np.float32)[:, None]
    return np.asarray(radius / np.sqrt(c**2 / aspect + s**2 * aspect))


def _wobble(cells: Population) -> Floats:
    """Sum of the outline's harmonics, relative to the radius."""
    total = np.zeros((len(cells), ANGLES), np.float32)
    for order, size, period_h in _HARMONICS:
        pulse = size * _pulse(cells, order, period_h)
        total += pulse[:, :1] * np.cos(order * _THETA) + pulse[:, 1:] * np.sin(order * _THETA)
    return total


def _protrusions(cells: Population) -> Floats:
    """Four lobes or spikes that come and go, relative to the radius."""
    total = np.zeros((len(cells), ANGLES), np.float32)
    for j in range(4):
        place, length, width = (cells.traits[:, 30 + 3 * j + i, None] for i in range(3))
        toward = 2 * np.pi * place + 0.6 * (length - 0.5) * _swing(cells, 2.5, place)
        beat = 0.65 + 0.35 * _swing(cells, 0.25 + 0.5 * width, length)
        sharpness = 8 + 60 * width**2
        lobe = np.exp(sharpness * (np.cos(_THETA - toward) - 1))
        total += 0.75 * length**1.5 * beat * lobe
    return total


def _nucleus(cells: Population, turn: Floats, style: CultureStyle) -> Floats:
    u = cells.traits
    long = 1 + 0.35 * u[:, 42:43]
    own = _THETA - turn - 0.6 * (u[:, 43:44] - 0.5)
    radius = np.float32(style.nucleus) * cells.radius_um.astype(np.float32)[:, None]
    ellipse = (
        (0.9 + 0.2 * u[:, 44:45])
        * radius
        / np.sqrt(np.cos(own) ** 2 / long + np.sin(own) ** 2 * long)
    )
    dent = 0.05 * u[:, 45:46] * np.cos(2 * _THETA + _TAU * u[:, 46:47])
    return np.asarray(ellipse * (1 + dent + 0.04 * np.cos(3 * _THETA + _TAU * u[:, 47:48])))


def _swing(cells: Population, tempo_h: float | Floats, phase: Floats) -> Floats:
    """A sine in time: one radian takes `tempo_h` hours; a full turn of phase is 1."""
    return np.asarray(np.sin(cells.time_h / tempo_h + _TAU * phase), np.float32)


def _pulse(cells: Population, k: int, period_h: float) -> Floats:
    """``[N, 2]`` slowly turning amplitudes, mostly within ±1."""
    a, b = cells.seeds[:, 2 * k, None], cells.seeds[:, 2 * k + 1, None]
    phase = 2 * np.pi * (cells.time_h / (period_h * (0.7 + 0.6 * a)) + b)
    still = cells.seeds[:, 40 + 2 * k : 42 + 2 * k] * 2 - 1
    return (still + 0.5 * np.concatenate([np.cos(phase), np.sin(phase)], 1)).astype(np.float32)


def _limits(borders: Borders, count: int) -> Floats:
    """``[N, ANGLES]`` one over the distance to the neighbours' borders, softened."""
    total = np.zeros((count, ANGLES), np.float32)
    if len(borders.of):
        toward = np.cos(_THETA - borders.angle_rad.astype(np.float32)[:, None])
        toward = np.clip(toward, 0, None) / borders.distance_um.astype(np.float32)[:, None]
        power = toward * toward
        power = power * power * power * borders.weight.astype(np.float32)[:, None]
        first = np.flatnonzero(np.diff(borders.of, prepend=-1))
        total[borders.of[first]] = np.add.reduceat(power, first, axis=0)
    return np.asarray(total ** np.float32(1 / _SHARPNESS))


def _both(radius: Floats, inverse: Floats) -> Floats:
    """Soft minimum of a radius and of the inverse of another."""
    p = (radius * inverse) ** 2
    return np.asarray(radius * (1 + p * p * p) ** np.float32(-1 / _SHARPNESS))
