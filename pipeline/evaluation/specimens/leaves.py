"""Dead leaves that no network was trained on: turned rectangles and wedges that hide each other up to the rim."""

from __future__ import annotations

import numpy as np

from pipeline.evaluation.specimens.canvas import Canvas, Floats

_STREAM = 8_141
_SIZES_UM = (1.5, 60.0)
# Summed area of the leaves over the field's: next to nothing stays bare.
_COVER = 6.0
_PEAK_RAD = (0.8, 2.0)


def dead_leaves(seed: int, shape: tuple[int, int], sample_um: float) -> Floats:
    """One field, ``[Y, X]`` float32 radians from 0 to 0.8-2.

    Parameters
    ----------
    seed
        Each gives another one, at any sampling the same.
    shape, sample_um
        (y, x) samples and their distance.
    """
    rng = np.random.default_rng([_STREAM, seed])
    canvas = Canvas(shape, (shape[0] * sample_um, shape[1] * sample_um))
    x, y, (height, width) = canvas.x(), canvas.y(), canvas.extent_um
    least, most = _SIZES_UM
    mean_area = 2 * np.log(most / least) / (1 / least**2 - 1 / most**2)
    count = int(_COVER * height * width / mean_area)
    # Sizes of density r⁻³, as in natural scenes.
    size = 1 / np.sqrt(1 / least**2 - rng.random(count) * (1 / least**2 - 1 / most**2))
    field = canvas.zeros()
    for r, a, b, level, slender, turn, wedge in zip(size, *rng.random((6, count)), strict=True):
        at_y, at_x, turn_rad = a * height, b * width, np.pi * turn
        rows = slice(*np.searchsorted(y, (at_y - r, at_y + r)))
        columns = slice(*np.searchsorted(x, (at_x - r, at_x + r)))
        dy, dx = y[rows, None] - at_y, x[columns] - at_x
        along = dx * np.cos(turn_rad) + dy * np.sin(turn_rad)
        across = dy * np.cos(turn_rad) - dx * np.sin(turn_rad)
        half = 0.7 * r * (0.3 + 0.7 * slender)
        inside = (np.abs(along) < 0.7 * r) & (np.abs(across) < half)
        if wedge < 0.4:
            inside &= across * 0.7 * r < half * along
        field[rows, columns][inside] = level
    return np.asarray(field * np.float32(rng.uniform(*_PEAK_RAD)), np.float32)
