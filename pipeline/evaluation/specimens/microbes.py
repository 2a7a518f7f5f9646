"""Budding yeast in crowds, with rods (bacteria) between them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipeline.evaluation.specimens.canvas import Canvas, Floats, turned


def microbes(rng: np.random.Generator, canvas: Canvas) -> Floats:
    """Yeast of 4-6 µm and 1.5-2.5 rad with buds and vacuoles; rods 1 µm across with 0.4-0.7 rad."""
    gap = rng.uniform(4.8, 5.6)
    places = canvas.scatter(rng, gap, rng.uniform(1.5, 2.5), 110.0, 18.0)
    n = len(places)
    angle = rng.uniform(0, 2 * np.pi, n)
    a = rng.uniform(2.5, 3.5, n).astype(np.float32)
    b = (a * rng.uniform(0.78, 1.0, n)).astype(np.float32)
    bud = np.where(rng.random(n) < 0.45, rng.uniform(0.8, 1.9, n), 0).astype(np.float32)
    vacuole = (a * rng.uniform(0.25, 0.55, n)).astype(np.float32)
    place = rng.uniform(-0.35, 0.35, (2, n)).astype(np.float32) * a
    spot = rng.uniform(-0.6, 0.6, (2, n)).astype(np.float32) * a

    def yeast(dx: Floats, dy: Floats, k: np.ndarray) -> Floats:
        u, v = turned(dx, dy, angle[k])
        body = a[k] * np.sqrt(np.clip(1 - (u / a[k]) ** 2 - (v / b[k]) ** 2, 0, None))
        small = bud[k] ** 2 - (u - a[k] - 0.8 * bud[k]) ** 2 - v * v
        hole = vacuole[k] ** 2 - (u - place[0][k]) ** 2 - (v - place[1][k]) ** 2
        lipid = 0.45 * np.exp(-((u - spot[0][k]) ** 2 + (v - spot[1][k]) ** 2) / 0.2)
        inside = body - 0.45 * np.sqrt(np.clip(hole, 0, None)) + lipid * np.clip(body, 0, 1)
        return np.asarray(np.maximum(inside, np.sqrt(np.clip(small, 0, None))))

    phase = canvas.zeros()
    canvas.lay(phase, places, a + 1.8 * bud + 0.1, yeast)
    phase *= np.float32(rng.uniform(0.6, 0.85))
    rods = canvas.scatter(rng, 2.2, rng.uniform(0.05, 0.15), 90.0, 10.0)
    m = len(rods)
    turn = rng.uniform(0, np.pi, m)
    half = rng.uniform(0.6, 1.9, m).astype(np.float32)
    girth = rng.uniform(0.42, 0.6, m).astype(np.float32)

    def rod(dx: Floats, dy: Floats, k: np.ndarray) -> Floats:
        u, v = turned(dx, dy, turn[k])
        distance2 = np.clip(np.abs(u) - half[k], 0, None) ** 2 + v * v
        return np.asarray(np.sqrt(np.clip(girth[k] ** 2 - distance2, 0, None)))

    bacteria = canvas.zeros()
    canvas.lay(bacteria, rods, half + girth, rod)
    phase = np.maximum(phase, np.float32(rng.uniform(0.8, 1.2)) * bacteria)
    phase *= 1 + 0.03 * canvas.noise(rng, 1.2)
    return np.asarray(ndimage.gaussian_filter(phase, 0.2 / canvas.pixel_um))
