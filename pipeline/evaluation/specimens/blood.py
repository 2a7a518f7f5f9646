"""Blood: biconcave discs, flat, tilted and on edge, balls, and a few white cells among them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipeline.evaluation.specimens.canvas import Canvas, Floats, turned
from pipeline.evaluation.specimens.interior import interior


def blood(rng: np.random.Generator, canvas: Canvas) -> Floats:
    """Red cells after Evans and Fung (1972), 1-2 rad, with echinocytes, and white cells of 2-3.5 rad."""
    height = rng.uniform(1.0, 1.8)
    gap = rng.uniform(6.0, 8.0)
    places = canvas.scatter(rng, gap, rng.uniform(0.2, 0.5), 250.0, 6.0)
    n = len(places)
    radius = rng.uniform(3.4, 4.2, n).astype(np.float32)
    angle = rng.uniform(0, np.pi, n)
    # Most lie flat, some lean; a disc that leans is narrower and its path longer.
    lean = np.clip(1 - np.abs(rng.normal(0, 0.14, n)), 0.45, 1).astype(np.float32)
    own = rng.uniform(0.85, 1.15, n).astype(np.float32) / lean
    ball = rng.random(n) < 0.08
    spikes = np.where(rng.random(n) < 0.1, 0.07, 0.0).astype(np.float32)

    def disc(dx: Floats, dy: Floats, k: np.ndarray) -> Floats:
        u, v = turned(dx, dy, angle[k])
        v = v / lean[k]
        rim = radius[k] * (1 + spikes[k] * np.cos(11 * np.arctan2(v, u)))
        q = (u * u + v * v) / rim**2
        inside = np.sqrt(np.clip(1 - q, 0, None))
        dimpled = (0.81 + 7.83 * q - 4.39 * q * q) / 2.4
        return np.asarray(own[k] * inside * np.where(ball[k], 1.5, dimpled), np.float32)

    phase = canvas.zeros()
    canvas.lay(phase, places, 1.08 * radius, disc)
    phase *= np.float32(height)
    white = canvas.scatter(rng, 9.0, 0.02)
    size = rng.uniform(4.5, 6.5, len(white)).astype(np.float32)

    def round_cell(dx: Floats, dy: Floats, k: np.ndarray) -> Floats:
        return np.asarray(np.sqrt(np.clip(1 - (dx * dx + dy * dy) / size[k] ** 2, 0, None)))

    whites = canvas.zeros()
    canvas.lay(whites, white, size, round_cell)
    whites *= np.float32(rng.uniform(1.6, 2.6))
    whites += 2.0 * interior(rng, canvas, whites)
    phase = np.maximum(phase, whites)
    # A membrane is not steeper than light can tell: 0.2 µm, less than half the finest period.
    return np.asarray(ndimage.gaussian_filter(phase, 0.2 / canvas.pixel_um))
