"""Dead leaves: overlapping discs of all sizes, whose spectrum is like that of natural scenes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.samples.grid import Grid


def dead_leaves(
    rng: np.random.Generator, grid: Grid, *, leaves: int, height_rad: float
) -> NDArray[np.float32]:
    """Discs with sizes of density r⁻³, each hiding what it covers, in a window that fades to zero.

    Parameters
    ----------
    leaves
        How many discs.
    height_rad
        Of the highest leaf.

    Returns
    -------
    ``[Y, X]`` radians, zero at the field's rim.

    References
    ----------
    A. B. Lee, D. Mumford, J. Huang, Occlusion models for natural images, IJCV 41 (2001).
    """
    field = np.zeros(grid.shape, np.float32)
    x, y = grid.x(), grid.y()
    half_y, half_x = grid.half_um
    smallest, largest = 0.8, 0.3 * 2 * min(half_x, half_y)
    u = rng.random((leaves, 5))
    radius = 1 / np.sqrt(u[:, 0] / smallest**2 + (1 - u[:, 0]) / max(largest, 2 * smallest) ** 2)
    for r, a, b, level, squash in zip(radius, *u[:, 1:].T, strict=True):
        cx, cy = (2 * a - 1) * half_x, (2 * b - 1) * half_y
        columns = slice(*np.searchsorted(x, (cx - r, cx + r)))
        rows = slice(*np.searchsorted(y, (cy - r, cy + r)))
        ratio = 0.5 + 0.5 * squash
        inside = (x[columns] - cx) ** 2 + ((y[rows, None] - cy) / ratio) ** 2 < r * r
        field[rows, columns][inside] = level * height_rad
    # The edges of leaves are sharp; light through an objective never sees them so.
    field = ndimage.gaussian_filter(field, max(0.25 / grid.pixel_um, 0.4))
    rim = 0.12
    window = [np.clip((1 - np.abs(c) / h) / rim, 0, 1) for c, h in ((y, half_y), (x, half_x))]
    soft = [w * w * (3 - 2 * w) for w in window]
    return np.asarray(field * soft[0][:, None] * soft[1], np.float32)
