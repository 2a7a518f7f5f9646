"""Is the phase of cells right in size? Regression on the truth, cell by cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from pipeline.quality.checks import image_pair
from pipeline.quality.structure import foreground_mask

# The annulus in which a cell's background is taken: this far from the cell, in pixels.
_GAP, _WIDTH = 3, 8
# Fewer pixels are a fragment, not a cell.
_LEAST_AREA = 50


@dataclass(frozen=True)
class PhaseSlope:
    """Phase of the reconstruction per phase of the truth, over cells.

    Parameters
    ----------
    mean, spread
        Over cells; NaN (and 0 for one cell's spread) where there are too few.
    slopes, areas_px
        Of each cell, ``[N]``.
    """

    mean: float
    spread: float
    slopes: NDArray[np.float64]
    areas_px: NDArray[np.int64]


def phase_slope(
    image: ArrayLike,
    truth: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    background_rad: float = 0.0,
) -> PhaseSlope:
    """Orthogonal regression of `image` on `truth` over the foreground pixels of each cell.

    In both, each cell is taken minus the median of the background annulus around it, and the line goes through
    zero: a piston or slow drift of the background does not matter, a wrong scale does.

    Parameters
    ----------
    image, truth
        ``[Y, X]``, radians.
    labels
        ``[Y, X]`` integers, 0 the background; the connected parts of the foreground where None. Cells without
        background around them are left out.
    background_rad
        The truth's background.
    """
    image, truth = image_pair(image, truth)
    foreground = foreground_mask(truth, background_rad)
    cells = np.asarray(ndimage.label(foreground)[0] if labels is None else labels)
    occupied = foreground | (cells > 0)
    slopes, areas = [], []
    margin = _GAP + _WIDTH
    for number, box in enumerate(ndimage.find_objects(cells), start=1):
        if box is None:
            continue
        window = tuple(
            slice(max(0, s.start - margin), min(n, s.stop + margin))
            for s, n in zip(box, truth.shape, strict=True)
        )
        own = cells[window] == number
        inside = own & foreground[window]
        distance = ndimage.distance_transform_edt(~own)
        annulus = (distance > _GAP) & (distance <= margin) & ~occupied[window]
        if inside.sum() < _LEAST_AREA or annulus.sum() < _LEAST_AREA:
            continue
        x, y = (a[window][inside] - np.median(a[window][annulus]) for a in (truth, image))
        slopes.append(_orthogonal_slope(x, y))
        areas.append(int(inside.sum()))
    return _summary(np.array(slopes), np.array(areas, dtype=np.int64))


def slope_by_size(slopes: NDArray[np.float64], areas_px: NDArray[np.int64]) -> dict[str, float]:
    """Mean slope of the smallest, middle and largest third of the cells; fewer where there are less than three.

    Parameters
    ----------
    slopes, areas_px
        Of each cell, ``[N]``; of one image or of several.
    """
    thirds = np.array_split(np.argsort(areas_px, kind="stable"), 3)
    return {
        name: float(slopes[part].mean())
        for name, part in zip(("small", "middle", "large"), thirds, strict=True)
        if part.size
    }


def _orthogonal_slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Slope of the line through zero with the least sum of squared distances to the points."""
    xx, yy, xy = (x * x).sum(), (y * y).sum(), (x * y).sum()
    # Direction of the leading eigenvector of [[xx, xy], [xy, yy]].
    angle = 0.5 * np.arctan2(2 * xy, xx - yy)
    return float(np.tan(angle))


def _summary(slopes: NDArray[np.float64], areas: NDArray[np.int64]) -> PhaseSlope:
    if not slopes.size:
        return PhaseSlope(float("nan"), float("nan"), slopes, areas)
    return PhaseSlope(float(slopes.mean()), float(slopes.std()), slopes, areas)
