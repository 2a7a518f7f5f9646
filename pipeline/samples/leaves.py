"""Dead leaves: overlapping discs of all sizes, whose spectrum is like that of natural scenes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.samples.grid import Grid

_SMALLEST_UM = 1.2
_BLUR_UM = 0.25
_RIM = 0.12


def dead_leaves(
    rng: np.random.Generator, grid: Grid, *, cover: float, height_rad: float
) -> NDArray[np.float32]:
    """Ellipses with sizes of density r⁻³, each hiding what it covers, in a window that fades to zero.

    Parameters
    ----------
    cover
        Summed area of the leaves over the field's: at 1, a third of the ground is still bare.
    height_rad
        Of the highest leaf.

    Returns
    -------
    ``[Y, X]`` radians, zero at the field's rim.

    References
    ----------
    A. B. Lee, D. Mumford, J. Huang, Occlusion models for natural images, IJCV 41 (2001).
    """
    half_y, half_x = grid.half_um
    smallest, largest = _SMALLEST_UM, max(0.5 * min(half_x, half_y), 2 * _SMALLEST_UM)
    density = 1 / smallest**2 - 1 / largest**2
    mean_area = np.pi * 2 * np.log(largest / smallest) / density
    u = rng.random((int(cover * 4 * half_x * half_y / mean_area) + 1, 6))
    radius = 1 / np.sqrt(1 / largest**2 + u[:, 0] * density)
    x, y = grid.x(), grid.y()
    field = np.zeros(grid.shape, np.float32)
    for r, a, b, level, squash, turn in zip(radius, *u[:, 1:].T, strict=True):
        long = np.sqrt(1 + 1.5 * squash)
        reach = r * long
        center_x, center_y = (2 * a - 1) * half_x, (2 * b - 1) * half_y
        columns = slice(*np.searchsorted(x, (center_x - reach, center_x + reach)))
        rows = slice(*np.searchsorted(y, (center_y - reach, center_y + reach)))
        c, s = np.cos(np.pi * turn), np.sin(np.pi * turn)
        dx, dy = x[columns] - center_x, y[rows, None] - center_y
        inside = ((dx * c + dy * s) / long) ** 2 + ((dy * c - dx * s) * long) ** 2 < r * r
        field[rows, columns][inside] = level * height_rad
    # The edges of leaves are sharp; light through an objective never sees them so.
    field = ndimage.gaussian_filter(field, max(_BLUR_UM / grid.pixel_um, 0.4))
    window = [np.clip((1 - np.abs(v) / h) / _RIM, 0, 1) for v, h in ((y, half_y), (x, half_x))]
    soft = [w * w * (3 - 2 * w) for w in window]
    return np.asarray(field * soft[0][:, None] * soft[1], np.float32)
