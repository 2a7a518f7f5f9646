"""Whether a field is empty: what a flat may have in it, and what only a specimen has."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pipeline.calibrate.step import CalibrationRefusedError

Floats = NDArray[np.float32]

# Vignetting and a lamp's image are smooth: a polynomial of this degree in x and y, and what is larger than
# this share of the field.
_DEGREE = 4
_LARGE = 1 / 12
# Pixels that differ in sensitivity, and noise, average out over so many pixels (standard deviation).
_SMALL_PX = 1.5
# Dust covers a small share of the field: what lies beyond this quantile does not count.
_DUST = 0.95
# Between two channels, or foci, dust on the camera cancels, and a specimen, which is lit from elsewhere or out
# of focus, does not.
_DIFFERENT = 0.99
_DIFFERENCE = 0.02
_NOISE = 4.0
_BLOCK = 16
_SIDE = 256
_FIX = "move to an empty place or take the specimen out; if it is dirt, clean it or defocus"


def block_medians(image: Floats) -> Floats:
    """Median of each pixel's surroundings, ``[Y, X]``: of the block of about 16 x 16 that it is in."""
    out = np.empty_like(image)
    rows, columns = (np.array_split(np.arange(n), max(1, n // _BLOCK)) for n in image.shape)
    for band in rows:
        for part in columns:
            block = np.s_[band[0] : band[-1] + 1, part[0] : part[-1] + 1]
            out[block] = np.median(image[block])
    return out


def structure(image: Floats, bad: NDArray[np.bool_]) -> Floats:
    """Relative contrast of what is neither smooth over the field nor of single pixels.

    ``[Y, X]``, or a whole fraction of it for a large image.
    """
    filled = _binned(np.where(bad, block_medians(image), image))
    relative = filled / _smooth_surface(filled) - 1
    middle = gaussian_filter(relative, _SMALL_PX)
    return np.asarray(middle - gaussian_filter(relative, max(relative.shape) * _LARGE), np.float32)


def _binned(image: Floats) -> Floats:
    """Means of n x n pixels, so that it is not much larger than the filters need."""
    n = max(1, min(image.shape) // _SIDE)
    y, x = (size // n for size in image.shape)
    blocks = image[: y * n, : x * n].reshape(y, n, x, n)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32))


def _smooth_surface(image: Floats) -> Floats:
    """The polynomial that fits the image best."""
    y, x = (np.linspace(-1, 1, n) for n in image.shape)
    rows, columns = (np.polynomial.legendre.legvander(axis, _DEGREE) for axis in (y, x))
    # Legendre polynomials on a grid are nearly orthogonal, but not at the ends: solve, don't project.
    left, right = np.linalg.pinv(rows), np.linalg.pinv(columns)
    return np.asarray(rows @ (left @ image @ right.T) @ columns.T, np.float32)


def check_empty(
    image: Floats, noise: float, bad: NDArray[np.bool_], channel: str, most: float
) -> float:
    """Contrast that all but the dustiest places stay below.

    Parameters
    ----------
    noise
        Of a pixel, relative to the level.
    most
        The contrast that an empty field may have.

    Raises
    ------
    CalibrationRefusedError
        If it is more than an empty field has.
    """
    contrast = float(np.quantile(np.abs(structure(image, bad)), _DUST))
    if contrast > max(most, _NOISE * _smoothed(noise)):
        raise CalibrationRefusedError(
            f"the field of channel '{channel}' is not empty: over {1 - _DUST:.0%} of it the light differs by "
            f"more than {contrast:.1%} from its surroundings",
            _FIX,
        )
    return contrast


def check_same_field(flats: dict[str, tuple[Floats, float]], bad: NDArray[np.bool_]) -> None:
    """Compare flats of different light or focus with each other: name → ``(flat, relative noise)``.

    Raises
    ------
    CalibrationRefusedError
        If one shows structures that another does not, or the other way round.
    """
    for (a, (flat_a, noise_a)), (b, (flat_b, noise_b)) in combinations(flats.items(), 2):
        ratio = np.where(bad, 1, flat_a / np.where(bad, 1, flat_b)).astype(np.float32)
        ratio[bad] = np.median(ratio[~bad])
        contrast = float(np.quantile(np.abs(structure(ratio, bad)), _DIFFERENT))
        if contrast > max(_DIFFERENCE, _NOISE * _smoothed(float(np.hypot(noise_a, noise_b)))):
            raise CalibrationRefusedError(
                f"{a} and {b} show different structures, of {contrast:.1%}: a specimen is in the field",
                _FIX,
            )


def _smoothed(noise: float) -> float:
    """White noise of single pixels after the Gaussian."""
    return float(noise / (2 * np.sqrt(np.pi) * _SMALL_PX))
