"""What is inside cells: excursion sets and zero level sets of random fields.

Amplitudes are those of a cell in light of 550 nm: a phase is 11.4 rad per µm of path and per unit
of refractive index. Granules and vesicles of 0.5-1.5 µm with 0.02-0.08 more index than the
cytoplasm reach 0.1-0.6 rad and are rare; mitochondria and filament bundles, 0.3-0.5 µm thick with
0.02-0.04 more, 0.05-0.2 rad; the density of the cytoplasm varies by a few per cent over 2-5 µm.
"""

from __future__ import annotations

import numpy as np

from pipeline.evaluation.specimens.canvas import Canvas, Floats, Points, step_up, turned


def grains(rng: np.random.Generator, canvas: Canvas, size_um: float, rarity: float) -> Floats:
    """Isolated bumps of 0.2-0.8: what rises above a level in a random field."""
    field = canvas.noise(rng, size_um)
    np.subtract(field, np.float32(rarity), out=field)
    np.maximum(field, 0, out=field)
    # Grains differ less in size than a Gaussian's tail does.
    return np.asarray(field / (1 + np.float32(0.5) * field))


def threads(rng: np.random.Generator, canvas: Canvas, mesh_um: float, width_um: float) -> Floats:
    """Thin curved threads of height 1 around the zero level set of a random field."""
    field = canvas.noise(rng, mesh_um)
    gy, gx = np.gradient(field, canvas.pixel_um)
    slope = np.sqrt(gx * gx + gy * gy + np.float32((0.3 / mesh_um) ** 2))
    return np.asarray(np.exp(-0.5 * (field / (slope * np.float32(width_um))) ** 2))


def interior(
    rng: np.random.Generator, canvas: Canvas, thick: Floats, richness: float = 1.0
) -> Floats:
    """Phase of the inside of cells, radians.

    Parameters
    ----------
    thick
        ``[Y, X]`` phase of the cells without it.
    richness
        1 is an ordinary cell.
    """
    depth = np.sqrt(np.clip(thick, 0, 1))
    # Granules gather in some places, as around a nucleus, and are missing in others.
    crowding = np.clip(0.6 + 0.6 * canvas.noise(rng, 12.0), 0, None)
    inside = (0.44 * rng.uniform(0.6, 1.4)) * grains(rng, canvas, 0.9, 1.9)
    inside += (0.34 * rng.uniform(0.6, 1.4)) * grains(rng, canvas, 1.6, 1.9)
    inside *= crowding
    inside -= 0.13 * grains(rng, canvas, 1.8, 1.8)
    inside += 0.09 * rng.uniform(0.6, 1.4) * threads(rng, canvas, 5.0, 0.32)
    inside += 0.025 * canvas.noise(rng, 1.1)
    inside += 0.050 * canvas.noise(rng, 3.0)
    inside *= depth * np.float32(richness)
    return np.asarray(inside, np.float32)


def nuclei(rng: np.random.Generator, canvas: Canvas, places: Points, radius_um: float) -> Floats:
    """Flat-topped super-ellipses of height 1 with one to three nucleoli of 0.5-0.9 more."""
    n = len(places)
    radius = radius_um * rng.uniform(0.8, 1.2, n)
    angle, long = rng.uniform(0, np.pi, n), np.sqrt(rng.uniform(1, 1.8, n))
    count = rng.integers(1, 4, n)
    spot = rng.uniform(-0.45, 0.45, (n, 3, 2)) * radius[:, None, None]
    size = rng.uniform(0.7, 1.5, (n, 3))
    dense = rng.uniform(0.5, 0.9, (n, 3)) * (np.arange(3) < count[:, None])

    def shape(dx: Floats, dy: Floats, k: np.ndarray) -> Floats:
        along, across = turned(dx, dy, angle[k])
        stretch = long[k].astype(np.float32)
        u, v = along / stretch, across * stretch
        rho = np.sqrt(np.sqrt(u**4 + v**4))
        disc = step_up(radius[k].astype(np.float32) - rho, 1.2)
        inside = np.ones_like(disc)
        for j in range(3):
            s = size[k, j].astype(np.float32)
            r2 = ((along - spot[k, j, 0]) ** 2 + (across - spot[k, j, 1]) ** 2) / s**2
            inside += dense[k, j] * np.exp(-(r2.astype(np.float32) ** 2))
        return np.asarray(disc * inside, np.float32)

    field = canvas.zeros()
    canvas.lay(field, places, 1.35 * radius, shape)
    return field
