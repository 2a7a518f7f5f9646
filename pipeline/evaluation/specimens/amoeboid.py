"""Cells that spread with lobes: level sets of sums of Gaussian blobs (metaballs)."""

from __future__ import annotations

import numpy as np

from pipeline.evaluation.specimens.canvas import Canvas, Floats, step_up
from pipeline.evaluation.specimens.interior import interior, nuclei


def amoeboid(rng: np.random.Generator, canvas: Canvas) -> Floats:
    """Bodies of 1-2.5 rad with lobes, a thin skirt around them, touching here and there."""
    height, size = rng.uniform(0.9, 1.8), rng.uniform(8, 12)
    places = canvas.scatter(rng, 2.0 * size, rng.uniform(0.8, 3.0), 200.0)
    lobes = rng.integers(4, 8, len(places))
    owner = np.repeat(np.arange(len(places)), lobes)
    far, turn = size * rng.uniform(0, 1.15, len(owner)), rng.uniform(0, 2 * np.pi, len(owner))
    blobs = places[owner] + np.column_stack([far * np.cos(turn), far * np.sin(turn)])
    radius = (size * rng.uniform(0.35, 0.75, len(owner))).astype(np.float32)
    # Sums of Gaussians are smooth: coarse samples hold them, the level set's edge is cut finely.
    coarse = canvas.coarse(1.0)
    level = coarse.zeros()
    coarse.lay(
        level,
        blobs,
        3 * radius,
        lambda dx, dy, k: np.exp(-(dx * dx + dy * dy) / radius[k] ** 2),
        add=True,
    )
    level = canvas.refine(level, coarse)
    level *= 1 + 0.12 * canvas.noise(rng, 3.0)
    body = np.clip(level - 0.28, 0, None)
    thick = 1.4 * body / (0.7 + body) + 0.10 * step_up(level - 0.10, 0.06)
    thick += 0.16 * nuclei(rng, canvas, places, 0.45 * size) * np.clip(3 * body, 0, 1)
    thick *= np.float32(height)
    return np.asarray(thick + interior(rng, canvas, thick, rng.uniform(1.0, 1.7)))
