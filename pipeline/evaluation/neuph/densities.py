"""One region of one field asked at several densities: the same function, and nothing new beyond what light shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pipeline.frames import Region
from pipeline.methods.contract import Continuous

DENSITIES = (6.0, 21.0, 49.8, 73.5, 105.9)
# Edge of the region, camera pixels: with a point in one corner, grids of densities that are tenths also meet in the
# others.
_EXTENT = 10
# Within this of each other two coordinates are the same place, camera pixels.
_SAME = 1e-6


def densities(
    network: Continuous, frames: torch.Tensor, pixel_um: float, cutoff_per_um: float
) -> dict[str, Any]:
    """Differences where grids meet, and shares of the spectrum beyond the synthetic NA.

    Parameters
    ----------
    frames
        ``[K, Y, X]``, at least 12 camera pixels a side.
    pixel_um
        Of the camera, at the sample.
    cutoff_per_um
        Synthetic NA over λ.

    Returns
    -------
    dict
        ``disagreement`` by density: the largest difference from the first density's values at places that both grids
        have, over the region's range. ``beyond`` by density: power beyond the synthetic NA over the whole, its mean
        and plane removed. ``beyond_first_grid``: what of it the first grid can't hold.
    """
    latent = network.latent(frames, torch.ones_like(frames, dtype=torch.bool))
    corner = _liveliest(network, latent, (int(frames.shape[-2]), int(frames.shape[-1])))
    images = {d: _asked(network, latent, corner, d) for d in DENSITIES}
    first = images[DENSITIES[0]]
    span = float(np.ptp(first))
    nyquist = 0.5 * DENSITIES[0] / pixel_um
    disagreement, beyond, finer = {}, {}, {}
    for density, image in images.items():
        name = f"{density:g}"
        mine, theirs = _shared(density, DENSITIES[0])
        difference = image[np.ix_(mine, mine)] - first[np.ix_(theirs, theirs)]
        disagreement[name] = float(np.abs(difference).max()) / span
        f, power = _spectrum(image, pixel_um / density)
        beyond[name] = float(power[f > cutoff_per_um].sum() / power.sum())
        finer[name] = float(power[f > nyquist].sum() / power.sum())
    return {
        "disagreement": disagreement,
        "beyond": beyond,
        "beyond_first_grid": finer,
        "region_px": _EXTENT,
        "points": {f"{d:g}": int(i.shape[0]) for d, i in images.items()},
    }


def _liveliest(
    network: Continuous, latent: torch.Tensor, shape: tuple[int, int]
) -> tuple[float, float]:
    """(y, x) of the region's first point, where the phase varies most: shares of nothing say nothing."""
    whole = network.query(latent, Region(0, 0, *shape), 1.0).double().numpy()
    spread = sliding_window_view(whole, (_EXTENT + 2, _EXTENT + 2)).std((2, 3))
    y, x = np.unravel_index(int(spread.argmax()), spread.shape)
    return float(y) + 1.5, float(x) + 1.5


def _asked(
    network: Continuous, latent: torch.Tensor, first: Sequence[float], density: float
) -> NDArray[np.float64]:
    """All grids have a point at `first`, and one every step from there on."""
    points = round(_EXTENT * density) + 1
    half, side = 0.5 / density, points / density
    region = Region(first[0] - half, first[1] - half, side, side)
    return network.query(latent, region, density).double().numpy()


def _shared(density: float, other: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the points that two grids have in common."""
    steps = np.arange(round(_EXTENT * other) + 1)
    mine = steps * density / other
    there = np.abs(mine - np.rint(mine)) < _SAME * density
    return np.rint(mine[there]).astype(np.int64), steps[there]


def _spectrum(
    image: NDArray[np.float64], step_um: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies, and the power at each, of the image within a window."""
    n = len(image)
    at = np.linspace(-1, 1, n)
    rows = np.stack([np.ones((n, n)), np.tile(at, (n, 1)), np.tile(at[:, None], (1, n))], -1)
    plane = np.linalg.lstsq(rows.reshape(-1, 3), image.ravel(), rcond=None)[0]
    window = np.blackman(n)
    flat = (image - rows @ plane) * window[:, None] * window
    f = np.hypot(*np.meshgrid(*[np.fft.fftfreq(n, step_um)] * 2))
    return f, np.abs(np.fft.fft2(flat)) ** 2
