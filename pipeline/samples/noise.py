"""Random patterns with a chosen spectrum: clouds, grains, winding threads, parallel fibres."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from pipeline.samples.grid import Grid

Floats = NDArray[np.float32]

_REPEATS_UM = 180.0
"""Fine patterns may repeat after this much: farther than a network looks, and four times cheaper."""


def spectral_noise(
    rng: np.random.Generator,
    grid: Grid,
    *,
    exponent: float,
    longest_um: float,
    shortest_um: float = 0.5,
    stretch: float = 1.0,
    turn_rad: float = 0.0,
) -> Floats:
    """A periodic Gaussian random field, ``[Y, X]`` with mean 0 and standard deviation 1.

    Parameters
    ----------
    exponent
        Its Fourier amplitude falls as the frequency to minus this power,
    longest_um
        from this period on (longer ones are as strong as this one),
    shortest_um
        down to this one, where it is cut off smoothly.
    stretch, turn_rad
        Structures are this much longer than wide, and turned so far from the x axis.
    """
    rows, columns = grid.shape
    fy = fft.fftfreq(rows, grid.pixel_um).astype(np.float32)[:, None]
    fx = fft.rfftfreq(columns, grid.pixel_um).astype(np.float32)
    c, s, long = np.float32(np.cos(turn_rad)), np.float32(np.sin(turn_rad)), np.float32(stretch)
    squared = long * (c * fx + s * fy) ** 2 + (c * fy - s * fx) ** 2 / long
    gain = (squared + np.float32(longest_um**-2)) ** np.float32(-exponent / 2)
    gain *= np.exp(squared * np.float32(-0.7 * shortest_um**2))
    gain[0, 0] = 0
    white = rng.standard_normal((rows, columns // 2 + 1, 2), np.float32).view(np.complex64)[..., 0]
    field = np.asarray(fft.irfft2(gain * white, s=grid.shape), np.float32)
    return field / np.float32(field.std() + 1e-12)


def fine_pattern(grid: Grid, make: Callable[[Grid], Floats]) -> Floats:
    """What `make` draws on a part of the grid, repeated over all of it without seams."""
    shape = [
        n // 2 if n % 2 == 0 and n * grid.pixel_um > 2 * _REPEATS_UM else n for n in grid.shape
    ]
    tile = make(Grid((shape[0], shape[1]), grid.pixel_um))
    return np.tile(tile, (grid.shape[0] // shape[0], grid.shape[1] // shape[1]))


def clouds(rng: np.random.Generator, grid: Grid) -> Floats:
    """Texture without form, as of cytoplasm and chromatin; about ±1."""
    exponent, longest = float(rng.uniform(1.3, 2.4)), float(np.exp(rng.uniform(0.7, 2.8)))
    stretch = float(np.exp(rng.uniform(0, 0.7)))
    turn = float(rng.uniform(0, np.pi))
    return fine_pattern(
        grid,
        lambda part: spectral_noise(
            rng, part, exponent=exponent, longest_um=longest, stretch=stretch, turn_rad=turn
        ),
    )


def grains(rng: np.random.Generator, grid: Grid) -> Floats:
    """Granules, droplets or vesicles of one typical size, 0 … about 1, sparse."""
    size = float(np.exp(rng.uniform(np.log(0.8), np.log(3.0))))
    level = float(rng.uniform(0.9, 2.0))
    hollow = rng.random() < 0.3

    def make(part: Grid) -> Floats:
        n = spectral_noise(rng, part, exponent=2.5, longest_um=2 * size, shortest_um=size)
        if hollow:
            return np.asarray(np.exp(-(((n - np.float32(level)) / np.float32(0.25)) ** 2)))
        return np.asarray(np.clip(n - np.float32(level), 0, 2))

    return fine_pattern(grid, make)


def threads(rng: np.random.Generator, grid: Grid) -> Floats:
    """Winding filaments, 0 … 1: the zero line of a smooth random field, broken into pieces."""
    spacing = float(np.exp(rng.uniform(np.log(2.0), np.log(7.0))))
    width = np.float32(rng.uniform(0.12, 0.35))
    stretch = float(np.exp(rng.uniform(0, 0.9)))
    turn = float(rng.uniform(0, np.pi))

    def make(part: Grid) -> Floats:
        line = spectral_noise(
            rng,
            part,
            exponent=3.0,
            longest_um=2.5 * spacing,
            shortest_um=0.6 * spacing,
            stretch=stretch,
            turn_rad=turn,
        )
        # A field of its own costs another transform: the same one, moved, is as good a scissor.
        cut = np.clip(0.5 + 1.5 * np.roll(line, (61, 83), (0, 1)), 0, 1)
        return np.asarray(np.exp(-((line / width) ** 2)) * cut)

    return fine_pattern(grid, make)


def fibres(rng: np.random.Generator, grid: Grid) -> Floats:
    """Straight bundles that nearly agree in direction, about 0 … 1."""
    width = float(np.exp(rng.uniform(np.log(0.9), np.log(2.2))))
    stretch = float(rng.uniform(6, 14))
    turn = float(rng.uniform(0, np.pi))

    def make(part: Grid) -> Floats:
        # Stretched along an axis by the root of `stretch`, the width shrinks as much.
        root = np.sqrt(stretch)
        n = spectral_noise(
            rng,
            part,
            exponent=1.5,
            longest_um=4 * width * root,
            shortest_um=width * root,
            stretch=stretch,
            turn_rad=turn,
        )
        return np.clip(n, 0, 2) * np.float32(0.5)

    return fine_pattern(grid, make)
