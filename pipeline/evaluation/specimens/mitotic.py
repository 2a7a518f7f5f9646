"""A dividing culture: signed distances to smoothly joined ellipses, turned into heights."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipeline.evaluation.specimens.canvas import Canvas, Floats, step_up, turned
from pipeline.evaluation.specimens.interior import interior, nuclei


def mitotic(rng: np.random.Generator, canvas: Canvas) -> Floats:
    """Flat cells of 0.8-1.5 rad, and round ones of 3-4 rad from metaphase to the last bridge; some blebbing."""
    size = rng.uniform(12, 17)
    places = canvas.scatter(rng, 1.35 * size, rng.uniform(0.6, 2.5), 180.0)
    kind = rng.random(len(places))
    share = rng.uniform(0.1, 0.25)
    resting = places[kind > share]
    flat = _flat_cells(rng, canvas, resting, size) * np.float32(rng.uniform(0.7, 1.2))
    flat += 0.3 * nuclei(rng, canvas, resting, 0.4 * size) * np.clip(4 * flat, 0, 1)
    flat += interior(rng, canvas, flat, rng.uniform(1.0, 1.6))
    round_ones, plates = _round_cells(rng, canvas, places[kind <= 0.85 * share])
    dead = _blebbing(rng, canvas, places[(kind > 0.85 * share) & (kind <= share)])
    tall = np.maximum(round_ones * np.float32(rng.uniform(2.4, 3.1)), 1.8 * dead)
    tall += plates * np.clip(tall, 0, 1)
    tall += 0.8 * interior(rng, canvas, tall)
    phase = np.maximum(flat, tall)
    return np.asarray(ndimage.gaussian_filter(phase, 0.2 / canvas.pixel_um))


def _flat_cells(
    rng: np.random.Generator, canvas: Canvas, places: np.ndarray, size: float
) -> Floats:
    """Spread cells: height grows with the distance to the outline, which a random field roughens."""
    n = len(places)
    angle, pull = rng.uniform(0, np.pi, n), rng.uniform(0.15, 0.5, n) * size
    a = (size * rng.uniform(0.6, 1.0, n)).astype(np.float32)
    b = (size * rng.uniform(0.45, 0.8, n)).astype(np.float32)
    coarse = canvas.coarse(0.8)

    def inward(dx: Floats, dy: Floats, k: np.ndarray) -> Floats:
        along, across = turned(dx, dy, angle[k])
        off = pull[k].astype(np.float32)
        one = a[k] - np.hypot(along - off, across * 1.2)
        two = b[k] - np.hypot(along + off, across)
        # Smooth union of the two (after I. Quilez): h is the blend's half width.
        h = np.float32(0.4 * size)
        blend = np.clip(h - np.abs(one - two), 0, None) / h
        inside = np.maximum(one, two) + blend * blend * h / 4
        return np.asarray(np.clip(inside + 4, 0, None))

    distance = coarse.zeros()
    coarse.lay(distance, places, 2.2 * size, inward)
    inside = canvas.refine(distance, coarse) - 4 + 0.9 * canvas.noise(rng, 5.0)
    inside *= step_up(inside, 0.4)
    return np.asarray(1 - np.exp(inside * np.float32(-1 / (0.3 * size))))


def _round_cells(
    rng: np.random.Generator, canvas: Canvas, places: np.ndarray
) -> tuple[Floats, Floats]:
    """Balls that a cleavage furrow divides, height 1, and the chromosomes in them, rad."""
    n = len(places)
    angle = rng.uniform(0, np.pi, n)
    radius = rng.uniform(7.5, 9.5, n).astype(np.float32)
    # Progress: 0-0.4 a plate in the middle, then two plates that part, then two cells.
    progress = rng.random(n)
    part = np.clip((progress - 0.4) / 0.6, 0, 1)
    apart = (np.clip(part - 0.3, 0, None) * 1.1 * radius).astype(np.float32)
    each = (radius * (1 - 0.22 * np.clip(part * 2 - 0.6, 0, 1))).astype(np.float32)
    gone = (part * 0.75 * radius).astype(np.float32)
    thick = rng.uniform(0.9, 1.5, n).astype(np.float32)
    dense = rng.uniform(0.35, 0.8, n).astype(np.float32)

    def body(dx: Floats, dy: Floats, k: np.ndarray) -> Floats:
        along, across = turned(dx, dy, angle[k])
        q = ((np.abs(along) - apart[k]) ** 2 + across**2) / each[k] ** 2
        between = (along**2 + (across / 0.75) ** 2) / each[k] ** 2
        ball = np.sqrt(np.clip(1 - q, 0, None))
        return np.asarray(
            np.maximum(ball, 0.8 * np.sqrt(np.clip(1 - between, 0, None)) * (apart[k] < 0.5))
        )

    def plate(dx: Floats, dy: Floats, k: np.ndarray) -> Floats:
        along, across = turned(dx, dy, angle[k])
        wide = 0.62 * each[k] * (1 - 0.3 * (gone[k] > 0))
        bow = (np.abs(along) - gone[k] + 0.04 * across**2 * (gone[k] > 0) / 2) / thick[k]
        return np.asarray(dense[k] * np.exp(-(bow**2) - (across / wide) ** 6))

    bodies, plates = canvas.zeros(), canvas.zeros()
    canvas.lay(bodies, places, each + apart, body)
    canvas.lay(plates, places, 1.1 * radius, plate)
    plates *= 1 + 0.35 * canvas.noise(rng, 1.2)
    return bodies, plates


def _blebbing(rng: np.random.Generator, canvas: Canvas, places: np.ndarray) -> Floats:
    """Dying cells: heaps of small balls, height 1."""
    owner = np.repeat(np.arange(len(places)), 9)
    far = 5 * np.sqrt(rng.random(len(owner)))
    turn = rng.uniform(0, 2 * np.pi, len(owner))
    balls = places[owner] + np.column_stack([far * np.cos(turn), far * np.sin(turn)])
    size = rng.uniform(1.0, 3.2, len(owner)).astype(np.float32)
    field = canvas.zeros()
    canvas.lay(
        field,
        balls.reshape(-1, 2),
        size,
        lambda dx, dy, k: (
            size[k] / 3.2 * np.sqrt(np.clip(1 - (dx * dx + dy * dy) / size[k] ** 2, 0, None))
        ),
    )
    return field
