"""Made targets: lens arrays, lines, steps, stars, wedges, at random places and sizes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.samples.grid import Grid
from pipeline.samples.shapes import dome, least_spacing, outline, patches, raise_to, ramp, scatter

Floats = NDArray[np.float32]

_MOST_PARTS, _MOST_LENSES = 800, 4000
_EDGE_UM = 0.4
"""Etched and moulded edges are not sharper than this."""


def made_target(rng: np.random.Generator, grid: Grid) -> Floats:
    """One kind of target over the field or a window of it; highest about 1."""
    kind = _KINDS[int(rng.choice(len(_KINDS), p=_WEIGHTS))]
    return np.asarray(kind(rng, grid), np.float32)


def lenses(rng: np.random.Generator, grid: Grid) -> Floats:
    """Parabolic to spherical caps on a square, hexagonal or disordered lattice, of like heights."""
    diameter = float(np.exp(rng.uniform(np.log(5), np.log(40))))
    diameter = max(diameter, least_spacing(grid, _MOST_LENSES))
    pitch = diameter * float(rng.choice([1.0, 1.1, rng.uniform(1.0, 2.0)]))
    half = 1.5 * max(grid.half_um) + pitch
    n = int(np.ceil(half / pitch))
    i, j = (v.ravel().astype(np.float64) for v in np.mgrid[-n : n + 1, -n : n + 1])
    if rng.random() < 0.4:
        j, i = j + 0.5 * (i % 2), i * np.sqrt(3) / 2
    turn, at = rng.uniform(0, np.pi), rng.uniform(0, pitch, 2)
    c, s = np.cos(turn), np.sin(turn)
    places = np.stack([c * j - s * i, s * j + c * i], 1) * pitch + at
    if rng.random() < 0.2:
        places = places + rng.normal(0, 0.15 * pitch, places.shape)
    inside = (np.abs(places) < np.array(grid.half_um[::-1]) + diameter).all(1)
    places = places[inside]
    heights = 1 - rng.choice([0.0, 0.0, 0.5]) * rng.random(len(places))
    power = float(rng.choice([1.0, 1.0, 0.5, 0.75, 1.5]))
    field = np.zeros(grid.shape, np.float32)
    for k, patch in enumerate(patches(grid, places, np.full(len(places), diameter / 2))):
        if patch is not None:
            rho = np.sqrt(patch.dx**2 + patch.dy**2)
            raise_to(field, patch, np.float32(heights[k]) * dome(rho / (diameter / 2), power))
    return field


def lines(rng: np.random.Generator, grid: Grid) -> Floats:
    """Gratings of a few periods, each in a window of its own: square, sine and triangle."""
    field = np.zeros(grid.shape, np.float32)
    size = float(np.exp(rng.uniform(np.log(15), np.log(80))))
    places = scatter(rng, grid, 1.3 * size, 1.1 * size)
    turns = rng.uniform(0, np.pi, len(places))
    if rng.random() < 0.6:
        turns = np.where(turns < np.pi / 2, 0.0, np.pi / 2)
    for k, patch in enumerate(patches(grid, places, np.full(len(places), size / 2))):
        if patch is None:
            continue
        along, across = patch.turned(turns[k])
        period = float(np.exp(rng.uniform(np.log(1.2), np.log(12))))
        wave = np.cos(along * np.float32(2 * np.pi / period))
        # A cosine made steep is a square wave with edges of a stated width.
        steep = np.float32(rng.choice([1.0, max(period / (np.pi * _EDGE_UM), 1.0)]))
        bars = np.clip(0.5 + 0.5 * steep * wave, 0, 1)
        room = np.minimum(size / 2 - np.abs(along), 0.35 * size - np.abs(across))
        raise_to(field, patch, np.float32(rng.uniform(0.4, 1)) * bars * ramp(room, _EDGE_UM))
    return field


def bar_groups(rng: np.random.Generator, grid: Grid) -> Floats:
    """Groups of bars of like periods, mostly of three as long as a group is wide: resolution charts (USAF 1951)."""
    field = np.zeros(grid.shape, np.float32)
    usual = float(np.exp(rng.uniform(np.log(1.2), np.log(7))))
    bars, length = 3, 2.5
    if rng.random() < 0.3:
        bars, length = int(rng.integers(2, 9)), float(rng.uniform(1.5, 6))
    size = usual * max(bars, length)
    spacing = max(size * float(rng.uniform(1.2, 3)), least_spacing(grid, _MOST_PARTS))
    places = scatter(rng, grid, spacing, 1.2 * size)
    upright, alike = rng.random() < 0.6, rng.random() < 0.5
    for patch in patches(grid, places, np.full(len(places), size)):
        if patch is None:
            continue
        turn = np.pi / 2 * rng.integers(2) if upright else rng.uniform(0, np.pi)
        along, across = patch.turned(float(turn))
        period = np.float32(usual * np.exp(rng.uniform(np.log(0.8), np.log(1.25))))
        edge = min(_EDGE_UM, float(period) / 4)
        extent = (bars - np.float32(0.5)) * period
        begun = along + extent / 2
        in_bar = period / 4 - np.abs(begun % period - period / 4)
        room = np.minimum(in_bar, np.minimum(begun, extent - begun))
        room = np.minimum(room, length / 2 * period - np.abs(across))
        height = 1.0 if alike else rng.uniform(0.3, 1)
        raise_to(field, patch, np.float32(height) * ramp(room + np.float32(edge / 2), edge))
    return field


def stars(rng: np.random.Generator, grid: Grid) -> Floats:
    """Spokes that narrow to the middle, as of a Siemens star."""
    field = np.zeros(grid.shape, np.float32)
    size = float(np.exp(rng.uniform(np.log(20), np.log(100))))
    places = scatter(rng, grid, 1.4 * size, 1.1 * size)
    for patch in patches(grid, places, np.full(len(places), size / 2)):
        if patch is None:
            continue
        rho = np.sqrt(patch.dx**2 + patch.dy**2)
        angle = np.arctan2(patch.dy, patch.dx)
        spokes = int(rng.integers(6, 40))
        # The edge is as wide at every radius.
        steep = np.clip(rho * np.float32(2 / (spokes * _EDGE_UM)), 0, 30)
        arms = np.clip(0.5 + steep * np.cos(spokes * angle) / 2, 0, 1)
        ring = ramp(size / 2 - rho, _EDGE_UM)
        raise_to(field, patch, np.float32(rng.uniform(0.5, 1)) * arms * ring)
    return field


def steps(rng: np.random.Generator, grid: Grid) -> Floats:
    """Flat plates of several heights, rectangles to free forms, lying over each other."""
    field = np.zeros(grid.shape, np.float32)
    size = float(np.exp(rng.uniform(np.log(4), np.log(40))))
    size = max(size, 0.5 * least_spacing(grid, _MOST_PARTS))
    places = scatter(rng, grid, 2 * size, 0.5 * size, float(rng.random()))
    adds = rng.random() < 0.5
    for patch in patches(grid, places, np.full(len(places), 2.0 * size)):
        if patch is None:
            continue
        long, wide = rng.uniform(0.3, 1.2, 2) * size
        if rng.random() < 0.6:
            along, across = patch.turned(rng.choice([0.0, 0.0, rng.uniform(0, np.pi)]))
            room = np.minimum(long - np.abs(along), wide - np.abs(across))
        else:
            rho, toward = patch.polar()
            room = outline(rng, wide, 0.15, 1.3)[toward] - rho
        plate = np.float32(rng.uniform(0.2, 1.0)) * ramp(room, _EDGE_UM)
        if adds:
            field[patch.where] += 0.5 * plate
        else:
            raise_to(field, patch, plate)
    return field


def wedges(rng: np.random.Generator, grid: Grid) -> Floats:
    """Prisms: a slope on one side, a step on the other."""
    field = np.zeros(grid.shape, np.float32)
    size = float(np.exp(rng.uniform(np.log(8), np.log(60))))
    places = scatter(rng, grid, 1.8 * size, size)
    for patch in patches(grid, places, np.full(len(places), size)):
        if patch is None:
            continue
        along, across = patch.turned(rng.uniform(0, 2 * np.pi))
        half = np.float32(0.5 * size)
        room = np.minimum(
            half - np.abs(along), np.float32(rng.uniform(0.4, 1)) * half - np.abs(across)
        )
        slope = np.clip(np.float32(0.5) + along / (2 * half), 0, 1)
        prism = slope.astype(np.float32) * ramp(room, 2 * _EDGE_UM)
        raise_to(field, patch, np.float32(rng.uniform(0.4, 1)) * prism)
    return field


_KINDS: tuple[Callable[[np.random.Generator, Grid], Floats], ...] = (
    lenses,
    lines,
    stars,
    steps,
    wedges,
)
_WEIGHTS = (0.5, 0.15, 0.1, 0.17, 0.08)
