"""Spindles along bent spines, with fibres that run along them."""

from __future__ import annotations

from functools import partial

import numpy as np

from pipeline.evaluation.specimens.canvas import Canvas, Floats, Shape, turned
from pipeline.evaluation.specimens.interior import interior, nuclei

# Directions for which fibres are drawn; a spindle takes the nearest.
_DIRECTIONS = 5


def fibroblasts(rng: np.random.Generator, canvas: Canvas) -> Floats:
    """Spindles of 1-2.5 rad at the nucleus that thin to tails of a micrometre."""
    height, size = rng.uniform(1.0, 2.0), rng.uniform(24, 36)
    places = canvas.scatter(rng, 0.62 * size, rng.uniform(0.8, 2.5), 250.0)
    n = len(places)
    common, spread = rng.uniform(0, np.pi), rng.uniform(0.15, 0.7)
    angle = common + rng.normal(0, spread, n)
    bend = rng.uniform(-0.35, 0.35, n).astype(np.float32) / np.float32(size)
    half = (size * rng.uniform(1.0, 1.7, n)).astype(np.float32)
    belly = (size * rng.uniform(0.2, 0.34, n)).astype(np.float32)
    bank = np.rint((angle - common) / spread).astype(np.int64) + _DIRECTIONS // 2
    bank = bank.clip(0, _DIRECTIONS - 1)

    def spindle(dx: Floats, dy: Floats, k: np.ndarray) -> Floats:
        along, across = turned(dx, dy, angle[k])
        across = across - bend[k] * along**2
        taper = np.clip(1 - (along / half[k]) ** 2, 0, None)
        width = belly[k] * taper**1.3 + 0.9 * taper + np.float32(1e-3)
        profile = np.clip(1 - (across / width) ** 2, 0, None)
        hump = 0.28 + 0.8 * np.exp(-((along / (0.35 * np.float32(size))) ** 2))
        return np.asarray(profile * hump * np.clip(width / 1.5, 0, 1))

    # Thickness changes over more than a micrometre: drawn at 0.5 µm, and interpolated.
    coarse = canvas.coarse(0.5)
    thick = coarse.zeros()
    coarse.lay(thick, places, 1.12 * half, spindle)
    thick = canvas.refine(thick, coarse)
    np.maximum(thick, 0, out=thick)
    fibres = canvas.zeros()
    rough = canvas.coarse(1.0)
    for direction in range(_DIRECTIONS):
        own = np.flatnonzero(bank == direction)
        bodies = rough.zeros()
        rough.lay(bodies, places[own], 1.12 * half[own], partial(_some, spindle, own))
        lines = canvas.noise(rng, 0.9, 14.0, common + (direction - _DIRECTIONS // 2) * spread)
        fibres += np.clip(lines - 0.6, 0, 2) * np.clip(canvas.refine(bodies, rough), 0, 0.5)
    thick += 0.16 * nuclei(rng, canvas, places, 0.17 * size) * np.clip(3 * thick, 0, 1)
    thick *= np.float32(height)
    return np.asarray(thick + 0.22 * fibres + interior(rng, canvas, thick, rng.uniform(0.8, 1.5)))


def _some(shape: Shape, which: np.ndarray, dx: Floats, dy: Floats, k: np.ndarray) -> Floats:
    """A shape for some of its bodies, counted anew."""
    return shape(dx, dy, which[k])
