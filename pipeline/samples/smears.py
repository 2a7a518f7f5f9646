"""Stained smears and sections: crowded bodies that take light as well as delay it, fine grain over all of it.

The stain goes its own way: what is thick need not be dark, and the other way round. A network that is trained on
specimens whose amplitude follows from their phase takes one for the other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.samples.families import CANVAS_UM, natural_field, training_field
from pipeline.samples.grid import Grid
from pipeline.samples.noise import clouds, spectral_noise
from pipeline.samples.resampling import resampled
from pipeline.samples.seeding import generator
from pipeline.samples.shapes import least_spacing, outline, patches, ramp, scatter

Floats = NDArray[np.float32]

_STREAM = 22
_SMEARS, _CULTURES = 0.6, 0.2
_MOST_BODIES = 1200
# Of the amplitude: what a stain takes inside bodies, and a dark one inside a few of them.
_STAIN, _DARK = (0.02, 0.45), (0.4, 0.85)
_DARK_SHARE = 0.1
_HEIGHTS_RAD = (0.08, 1.2)
# Of what stains a body dark. Near an absorption band the index goes either way, and a mount is often the denser.
_DARK_RAD = (-1.8, 0.9)
# Grain of the mount, rms: radians, and twice that of the amplitude.
_GRAIN = (0.005, 0.2)
_MOST_ABSORBED = 0.92


def stained_field(seed: int, shape: tuple[int, int], pixel_um: float) -> tuple[Floats, Floats]:
    """One field for training on what absorbs.

    Parameters
    ----------
    seed
        Each gives another field, always the same one.
    shape
        (y, x) in pixels.
    pixel_um
        Edge of a pixel.

    Returns
    -------
    ``[Y, X]`` float32 phase in radians, and the share of the amplitude that is lost, 0 to 0.92.
    """
    rng = generator(seed, _STREAM)
    grid = Grid(
        (
            max(1, round(shape[0] * pixel_um / CANVAS_UM)),
            max(1, round(shape[1] * pixel_um / CANVAS_UM)),
        ),
        CANVAS_UM * float(np.exp(rng.uniform(np.log(0.8), np.log(1.4)))),
    )
    kind = rng.random()
    if kind < _SMEARS:
        phase, absorption = _smear(rng, grid)
    else:
        draw = training_field if kind < _SMEARS + _CULTURES else natural_field
        phase = draw(seed, grid.shape, CANVAS_UM)
        highest = float(np.exp(rng.uniform(np.log(0.15), np.log(1.6))))
        phase *= np.float32(highest / max(float(phase.max()), 1e-6))
        stain = phase if rng.random() < 0.5 else draw(seed + 1, grid.shape, CANVAS_UM)
        stain = stain / np.float32(max(float(stain.max()), 1e-6))
        absorption = np.float32(rng.uniform(0, 0.6)) * stain
    grain = float(np.exp(rng.uniform(*np.log(_GRAIN))))
    phase = phase + np.float32(grain) * _grain(rng, grid)
    absorption = absorption + np.float32(2 * grain * rng.uniform(0.3, 1)) * _grain(rng, grid)
    return resampled(phase, shape), resampled(absorption, shape).clip(0, _MOST_ABSORBED)


def _grain(rng: np.random.Generator, grid: Grid) -> Floats:
    return spectral_noise(
        rng,
        grid,
        exponent=float(rng.uniform(0, 1)),
        longest_um=float(rng.uniform(3, 30)),
        shortest_um=float(rng.uniform(0.8, 2.5)),
    )


def _smear(rng: np.random.Generator, grid: Grid) -> tuple[Floats, Floats]:
    """Bodies of one kind that touch and overlap: flat or hollow, with a rim, a few of them dark."""
    radius = float(rng.uniform(2.6, 6.0))
    spacing = max(2 * radius * float(rng.uniform(0.7, 1.6)), least_spacing(grid, _MOST_BODIES))
    gap = float(rng.uniform(0.5, 1.0)) * min(2 * radius, spacing)
    places = scatter(rng, grid, spacing, gap, float(rng.choice([0, rng.random()])))
    # Thin and dark as often as thick and clear: the contrast of a stained frame is not the phase's.
    height, edge = float(np.exp(rng.uniform(*np.log(_HEIGHTS_RAD)))), float(rng.uniform(0.4, 1.6))
    hollow, rim = float(rng.uniform(0, 0.6)), float(rng.uniform(-0.3, 0.8))
    stain, piled = float(rng.uniform(*_STAIN)), rng.random() < 0.5
    dark_share = float(rng.uniform(0, _DARK_SHARE))
    phase, absorption = np.zeros((2, *grid.shape), np.float32)
    for patch in patches(grid, places, np.full(len(places), 2.2 * radius + 1.0)):
        if patch is None:
            continue
        rho, toward = patch.polar()
        size = radius * float(np.exp(0.1 * rng.standard_normal()))
        inside = outline(rng, size, 0.12, float(rng.uniform(1, 1.5)))[toward] - rho
        body = ramp(inside, edge)
        wall = np.exp(-(((inside - np.float32(0.6 * edge)) / np.float32(0.5 * edge + 0.2)) ** 2))
        dip = 1 - np.float32(hollow) * np.exp(-((rho / np.float32(0.5 * size)) ** 2))
        own = np.float32(height * np.exp(0.15 * rng.standard_normal()))
        own = own * (body * dip + np.float32(rim) * wall)
        taken = np.float32(stain * np.exp(0.15 * rng.standard_normal())) * body
        if rng.random() < dark_share:
            core = ramp(inside - np.float32(rng.uniform(0, 0.3) * size), edge)
            taken = np.maximum(taken, np.float32(rng.uniform(*_DARK)) * core)
            own = own + np.float32(rng.uniform(*_DARK_RAD)) * core
        for image, values in ((phase, own), (absorption, taken)):
            part = image[patch.where]
            if piled:
                # Absorption adds as light passes one body after the other.
                part += values if image is phase else (1 - part) * values
            else:
                np.copyto(part, values, where=np.abs(values) > np.abs(part))
    texture = np.float32(rng.uniform(0, 0.25)) * clouds(rng, grid)
    return phase * (1 + texture), absorption * (1 + texture)
