"""The smooth part of a cell's phase: lamella, thick middle, nucleus."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.samples.grid import Grid
from pipeline.samples.outline import ANGLES, Outlines
from pipeline.samples.population import Population

Floats = NDArray[np.float32]

_SOFTNESS = np.float32(0.15)
"""A ball's phase rises infinitely steeply at its rim; this rounds the last half micrometer off."""
_TYPICAL_SHARE = 0.34
"""Mean over peak phase of a typical spread cell."""
_CHUNK = 24
"""Cells drawn at once: their pixels then fit into the processor's cache."""


def draw_bodies(grid: Grid, cells: Population, outlines: Outlines, peak_phase_rad: float) -> Floats:
    """Bodies of all cells, ``[Y, X]`` in radians, before anything inside them.

    Where two cells overlap, their thicknesses add as squares: one flattens where it crawls over the other.
    """
    profile = _profiles(cells, outlines, peak_phase_rad)
    total = np.zeros(grid.shape, np.float32)
    boxes = _boxes(grid, cells, outlines)
    visible = np.flatnonzero((boxes[:, 1] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 2]))
    table = np.stack(
        [outlines.edge, outlines.steepness, 1 / outlines.middle, 1 / outlines.nucleus], axis=2
    )
    x, y = grid.x(), grid.y()
    for start in range(0, len(visible), _CHUNK):
        _draw_chunk(total, x, y, visible[start : start + _CHUNK], boxes, cells, table, profile)
    return np.sqrt(total, out=total)


def _draw_chunk(
    total: Floats,
    x: Floats,
    y: Floats,
    numbers: NDArray[np.int64],
    boxes: NDArray[np.int64],
    cells: Population,
    table: Floats,
    profile: Floats,
) -> None:
    dx, dy, of = [], [], []
    for n in numbers:
        top, bottom, left, right = boxes[n]
        own_x = x[left:right] - np.float32(cells.xy_um[n, 0])
        own_y = y[top:bottom] - np.float32(cells.xy_um[n, 1])
        shape = (bottom - top, right - left)
        dx.append(np.broadcast_to(own_x, shape).ravel())
        dy.append(np.broadcast_to(own_y[:, None], shape).ravel())
        of.append(shape[0] * shape[1])
    thick = _thickness(
        np.concatenate(dx), np.concatenate(dy), np.repeat(numbers, of), table, profile
    )
    thick *= thick
    at = 0
    for n, size in zip(numbers, of, strict=True):
        top, bottom, left, right = boxes[n]
        total[top:bottom, left:right] += thick[at : at + size].reshape(bottom - top, right - left)
        at += size


def _thickness(
    dx: Floats, dy: Floats, of: NDArray[np.int64], table: Floats, profile: Floats
) -> Floats:
    rho = np.sqrt(dx * dx + dy * dy)
    turn = np.arctan2(dy, dx) * np.float32(ANGLES / (2 * np.pi)) + np.float32(ANGLES)
    whole = turn.astype(np.int32)
    f = (turn - whole.astype(np.float32))[:, None]
    rows = table.reshape(table.shape[0] * ANGLES, table.shape[2])
    base = of * ANGLES
    here = rows[base + whole % ANGLES]
    here += f * (rows[base + (whole + 1) % ANGLES] - here)
    edge, steepness, middle, nucleus = here.T
    lamella, dome, power, mound, rim = profile[of].T
    inside = np.clip((edge - rho) * steepness / rim, 0, 1)
    u = np.clip(1 - (rho * middle) ** 2, 0, None)
    u *= (np.float32(1.55) - np.float32(0.55) * u) * u / (u + _SOFTNESS)  # a plateau, not a peak
    v = np.clip(1 - (rho * nucleus) ** 2, 0, None)
    v *= v / (v + _SOFTNESS)
    return np.asarray(
        lamella * inside * inside * (3 - 2 * inside)
        + dome * u**power
        + mound * v ** np.float32(0.55)
    )


def body_integral(cells: Population, peak_phase_rad: float) -> NDArray[np.float64]:
    """``[N]`` each body's phase summed over its area, rad µm²."""
    typical = _TYPICAL_SHARE * peak_phase_rad * np.pi / 4 * cells.diameter_um**2
    return np.asarray(typical * cells.mass)


def _profiles(cells: Population, outlines: Outlines, peak_phase_rad: float) -> Floats:
    """``[N, 5]``: heights of lamella, dome (with its power) and nucleus in radians, width of the rim in µm."""
    round_, plate = cells.roundness, cells.plate
    power = 1.15 - 0.5 * round_ + 0.3 * (cells.traits[:, 48] - 0.5)
    area = outlines.area_um2()
    core = (outlines.middle**2).sum(1) * np.pi / ANGLES
    nucleus = (outlines.nucleus**2).sum(1) * np.pi / ANGLES
    lamella = 0.16 * (1 - round_)
    mound = (0.38 + 0.30 * cells.traits[:, 49]) * (1 - 0.8 * round_) * (1 - plate)
    # Phase summed over the cell follows its dry mass, so what is squeezed together gets thicker.
    volume = lamella * 0.85 * area + core / (0.75 * power + 1) + mound * nucleus / 1.55
    # Thicknesses of overlapping cells add as squares, so two halves of one ball need root 2.
    scale = body_integral(cells, peak_phase_rad) * np.sqrt(2.0) ** (1 - cells.apart) / volume
    rim = 1.5 + 0.8 * cells.traits[:, 50]
    return np.stack([lamella * scale, scale, power, mound * scale, rim], axis=1).astype(np.float32)


def _boxes(grid: Grid, cells: Population, outlines: Outlines) -> NDArray[np.int64]:
    """``[N, 4]`` top, bottom, left, right of each cell in pixels."""
    reach = outlines.edge.max(1) + grid.pixel_um
    p = grid.pixel_um
    out = []
    for axis, size in ((1, grid.shape[0]), (0, grid.shape[1])):
        for side, round_ in ((-1, np.floor), (1, np.ceil)):
            edge = round_((cells.xy_um[:, axis] + side * reach) / p + size / 2)
            out.append(np.clip(edge, 0, size).astype(np.int64))
    return np.stack(out, axis=1)
