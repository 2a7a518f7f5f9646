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
    u = cells.traits
    flat = (1 - cells.roundness).astype(np.float32)[:, None]
    radius = cells.radius_um.astype(np.float32)[:, None]
    low, high = style.aspect
    aspect = 1 + flat * (low - 1 + (high - low) * u[:, 26:27] ** 2)
    turn = 2 * np.pi * u[:, 27:28] + 0.5 * np.sin(cells.time_h / 3 + 6.28 * u[:, 28:29]).astype(np.float32)
    c, s = np.cos(_THETA - turn), np.sin(_THETA - turn)
    ellipse = radius / np.sqrt(c**2 / aspect + s**2 * aspect)

    wobble = np.zeros_like(ellipse)
    for k, size, period in ((1, 0.10, 5.0), (2, 0.09, 4.0), (3, 0.09, 3.0), (4, 0.06, 2.2), (5, 0.045, 1.7), (7, 0.03, 1.2), (11, 0.014, 0.7), (17, 0.008, 0.5)):
        pulse = _pulse(cells, k, period)
        wobble += size * pulse[:, :1] * np.cos(k * _THETA) + size * pulse[:, 1:] * np.sin(k * _THETA)
    body = ellipse * np.exp(style.irregularity * flat * wobble)

    reach = np.zeros_like(ellipse)
    for j in range(4):
        a, b, d = u[:, 30 + 3 * j, None], u[:, 31 + 3 * j, None], u[:, 32 + 3 * j, None]
        where = 2 * np.pi * a + np.float32(0.6 * np.sin(cells.time_h / 2.5 + 6.28 * 1.0)) * (b - 0.5)
        beat = (0.65 + 0.35 * np.sin(2 * np.pi * (cells.time_h / (1.5 + 3 * d) + b))).astype(np.float32)
        width = 5 + 40 * d**2
        reach += beat * (0.75 * b**1.5) * np.exp(width * (np.cos(_THETA - where) - 1))
    free = body * (1 + style.protrusions * flat * reach)

    limit = _limits(borders, len(cells))
    edge = _both(free, limit)
    middle = _both(body * (0.90 + 0.08 * (1 - flat)), limit * np.float32(0.97))

    long = 1 + 0.35 * u[:, 42:43]
    c, s = np.cos(_THETA - turn - 0.6 * (u[:, 43:44] - 0.5)), np.sin(_THETA - turn - 0.6 * (u[:, 43:44] - 0.5))
    own = radius * np.float32(style.nucleus) * (0.9 + 0.2 * u[:, 44:45]) / np.sqrt(c**2 / long + s**2 * long)
    own = own * (1 + 0.05 * u[:, 45:46] * np.cos(2 * _THETA + 6.28 * u[:, 46:47]) + 0.04 * np.cos(3 * _THETA + 6.28 * u[:, 47:48]))
    nucleus = _both(own, 1 / middle * np.float32(1 / 0.82))
    slope = (np.roll(edge, -1, 1) - np.roll(edge, 1, 1)) * np.float32(ANGLES / (4 * np.pi)) / edge
    return Outlines(
        edge.astype(np.float32),
        (1 / np.sqrt(1 + slope**2)).astype(np.float32),
        middle.astype(np.float32),
        nucleus.astype(np.float32),
    )


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
