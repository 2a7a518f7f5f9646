"""Families of specimens to train networks on, apart from the one that they are judged on.

`training_field` draws from the culture of `culture`, in many styles, with targets and dead leaves
among it. `heldout_field` (in `heldout`) is constructed in another way altogether.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.experiment import CellSpecimen, TargetSpecimen
from pipeline.samples.culture import LivingCells
from pipeline.samples.grid import Grid
from pipeline.samples.leaves import dead_leaves
from pipeline.samples.seeding import generator
from pipeline.samples.style import CultureStyle
from pipeline.samples.targets import PhaseTarget

Floats = NDArray[np.float32]

_TRAINING = 20


def training_field(seed: int, shape: tuple[int, int], pixel_um: float) -> Floats:
    """One field for training: mostly cells of very different cultures, some targets, some texture.

    Parameters
    ----------
    seed
        Each gives another field, always the same one.
    shape
        (y, x) in pixels.
    pixel_um
        Edge of a pixel; the content reaches down to periods of about 0.65 µm.

    Returns
    -------
    ``[Y, X]`` float32 phase in radians, not negative, zero in the background.
    """
    rng = generator(seed, _TRAINING)
    grid = Grid(shape, pixel_um)
    kind = rng.random()
    if kind < 0.80:
        return _culture(rng, grid)
    if kind < 0.88:
        return _target(rng, grid)
    leaves = dead_leaves(
        rng, grid, cover=float(rng.uniform(0.2, 2.0)), height_rad=float(rng.uniform(0.5, 3.0))
    )
    if kind < 0.95:
        return leaves
    return np.asarray(np.maximum(_culture(rng, grid), leaves * np.float32(rng.uniform(0.2, 0.8))))


def _culture(rng: np.random.Generator, grid: Grid) -> Floats:
    diameter = float(rng.uniform(14, 38))
    crowding = float(np.exp(rng.uniform(np.log(0.08), np.log(1.1))))
    spec = CellSpecimen(
        cells_per_mm2=crowding / (np.pi / 4 * diameter**2) * 1e6,
        diameter_um=diameter,
        peak_phase_rad=float(np.exp(rng.uniform(np.log(0.6), np.log(3.5)))),
        timepoint_min=60.0,
    )

    def factor(spread: float) -> float:
        return float(np.exp(spread * np.clip(rng.standard_normal(), -2, 1.5)))

    shortest = float(rng.uniform(7, 22))
    style = CultureStyle(
        # Short cycles: more of the cells are caught in mitosis or just after it.
        cycle_h=(shortest, 1.5 * shortest),
        aspect=(1.0, float(rng.uniform(1.2, 4.5))),
        size_spread=float(rng.uniform(0.05, 0.25)),
        phase_spread=float(rng.uniform(0.1, 0.35)),
        rounded_share=float(rng.choice([0.0, 0.03, 0.15, 0.9], p=[0.3, 0.45, 0.2, 0.05])),
        debris_per_mm2=float(np.exp(rng.uniform(np.log(10), np.log(1500)))),
        nucleus=float(rng.uniform(0.32, 0.55)),
        irregularity=factor(0.4),
        protrusions=factor(0.5),
        granules=factor(0.6),
        droplets=factor(0.7),
        mitochondria=factor(0.6),
        fibres=factor(0.7),
        ruffles=factor(0.6),
    )
    cells = LivingCells(spec, seed=int(rng.integers(2**31)), wavelength_um=0.55, style=style)
    return cells.render(int(rng.integers(0, 8)), 0, grid.shape, grid.pixel_um)[0]


def _target(rng: np.random.Generator, grid: Grid) -> Floats:
    spec = TargetSpecimen(
        kind="target",
        shape=str(rng.choice(["beads", "microlenses", "bars"], p=[0.5, 0.3, 0.2])),
        size_um=float(np.exp(rng.uniform(np.log(3), np.log(40)))),
        phase_rad=float(rng.uniform(0.3, 3.5)),
    )
    target = PhaseTarget(spec, seed=int(rng.integers(2**31)))
    return target.render(0, 0, grid.shape, grid.pixel_um)[0]
