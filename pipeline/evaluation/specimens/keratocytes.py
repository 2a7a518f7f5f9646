"""Crawling cells: a wide thin lamella with ruffles before a thick body, retraction fibres behind."""

from __future__ import annotations

import numpy as np

from pipeline.evaluation.specimens.canvas import Canvas, Floats, step_up, turned
from pipeline.evaluation.specimens.interior import interior, nuclei


def keratocytes(rng: np.random.Generator, canvas: Canvas) -> Floats:
    """Lamellae of 0.25-0.45 rad with rims and ruffles, bodies of 1.5-3 rad."""
    size = rng.uniform(17, 25)
    places = canvas.scatter(rng, 1.25 * size, rng.uniform(0.7, 3.0), 200.0)
    n = len(places)
    angle = rng.uniform(0, 2 * np.pi, n)
    reach = (size * rng.uniform(0.85, 1.2, n)).astype(np.float32)
    open_ = rng.uniform(0.75, 1.25, n).astype(np.float32)
    wave, shift = rng.uniform(4, 8, n).astype(np.float32), rng.uniform(0, 6, n).astype(np.float32)
    tall = rng.uniform(0.75, 1.2, n).astype(np.float32)
    base = np.float32(rng.uniform(0.28, 0.45))
    coarse = canvas.coarse(0.5)

    def lamella(dx: Floats, dy: Floats, k: np.ndarray) -> Floats:
        u, v = turned(dx, dy, angle[k])
        u = u + 0.35 * reach[k]
        r, bearing = np.hypot(u, v), np.arctan2(v, u)
        edge = reach[k] * (1 + 0.04 * np.sin(wave[k] * bearing + shift[k]))
        inward = np.minimum(edge - r, 6 * (open_[k] + 0.35 - np.abs(bearing)))
        rim = 0.35 * np.exp(-0.5 * ((edge - r - 1.0) / 0.55) ** 2)
        ruffle = (
            0.22 * np.cos(2 * np.pi * (edge - r) / 2.7 + 2 * np.sin(2 * bearing + shift[k])) ** 8
        )
        ruffle = ruffle * np.exp(-(edge - r) / 7) * (edge > r)
        return np.asarray(step_up(inward, 1.3) * (1 + rim + ruffle), np.float32)

    def body(dx: Floats, dy: Floats, k: np.ndarray) -> Floats:
        u, v = turned(dx, dy, angle[k])
        q = (u / (0.25 * reach[k])) ** 2 + (v / (0.45 * reach[k])) ** 2
        return np.asarray(tall[k] * np.clip(1.1 - q, 0, None) ** np.float32(0.8))

    def fibres(dx: Floats, dy: Floats, k: np.ndarray) -> Floats:
        u, v = turned(dx, dy, angle[k])
        fan = v / (1 + np.clip(-u, 0, None) / reach[k])
        lines = np.cos(np.pi * fan / 2.4 + shift[k]) ** 30
        back = step_up(-u, 2.0) * np.clip(1 + u / (0.9 * reach[k]), 0, 1)
        return np.asarray(lines * back * (np.abs(fan) < 0.5 * reach[k]), np.float32)

    thin, thick, behind = coarse.zeros(), coarse.zeros(), coarse.zeros()
    coarse.lay(thin, places, 1.4 * reach, lamella)
    coarse.lay(thick, places, 0.65 * reach, body)
    coarse.lay(behind, places, reach, fibres)
    thick = np.maximum(canvas.refine(thick, coarse), 0)
    thick *= 1 + 0.06 * canvas.noise(rng, 2.5)
    thick *= np.float32(rng.uniform(1.3, 2.2))
    thick += 0.2 * nuclei(rng, canvas, places, 0.22 * size) * np.clip(3 * thick, 0, 1)
    phase = base * canvas.refine(np.maximum(thin, 0.35 * behind), coarse)
    phase = np.maximum(phase, 0) + thick
    return np.asarray(phase + interior(rng, canvas, phase))
