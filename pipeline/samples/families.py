"""Families of specimens to train networks on, apart from the ones that they are judged on.

`training_field` draws from many constructions, so that a network can't learn how one of them is made
in place of what a frame tells. What it is judged on (`pipeline.evaluation`) is constructed in another way altogether.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import numpy as np
from numpy.typing import NDArray

from pipeline.experiment import CellSpecimen
from pipeline.samples.carpets import faint_carpet
from pipeline.samples.cells_drawn import spread_cells
from pipeline.samples.culture import LivingCells
from pipeline.samples.discs import many_discs
from pipeline.samples.grid import Grid
from pipeline.samples.lawns import lawn
from pipeline.samples.leaves import dead_leaves
from pipeline.samples.mitosis import round_cells
from pipeline.samples.noise import spectral_noise
from pipeline.samples.patterns import bar_groups, lines, made_target, stars
from pipeline.samples.resampling import resampled
from pipeline.samples.seeding import generator
from pipeline.samples.shapes import least_spacing
from pipeline.samples.sheets import confluent_sheet
from pipeline.samples.sparse import sparse_debris
from pipeline.samples.style import CultureStyle
from pipeline.samples.textures import islands, leaves
from pipeline.samples.webs import thread_web

Floats = NDArray[np.float32]

_TRAINING, _NATURAL, _FINE = 20, 21, 22
_LEAVES = 0.7
_FINE_SHARES = (0.6, 0.2, 0.2)
_MOST_CELLS = 250
CANVAS_UM = 0.325
"""Fields are drawn in pixels of this size, then resampled: all pixel sizes show the same specimen."""
_ZOOM = (0.6, 1.8)
"""Specimens are drawn as if pixels were so much larger or smaller."""
_PEAK = (1.7, 0.65)
"""Median in radians, and logarithmic spread, of a field's highest parts."""
_PEAKS_RAD = (0.2, 6.0)
"""Thicker specimens than the last are not thin any more; a network sees nothing of thinner ones."""


def training_field(seed: int, shape: tuple[int, int], pixel_um: float) -> Floats:
    """One field for training, of one family or of two.

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
    ``[Y, X]`` float32 phase in radians, not negative; zero in the background, where there is one:
    some sheets fill their field.
    """
    rng = generator(seed, _TRAINING)
    canvas = _canvas(Grid(shape, pixel_um), float(np.exp(rng.uniform(*np.log(_ZOOM)))))
    field = _family(rng)(rng, canvas)
    if rng.random() < _MIXED:
        field = _mixture(rng, field, _family(rng)(rng, canvas))
    if rng.random() < _ON_CARPET:
        field = field + np.float32(rng.uniform(0.04, 0.3)) * faint_carpet(rng, canvas)
    return np.maximum(resampled(_scaled(rng, field), shape), 0)


def natural_field(seed: int, shape: tuple[int, int], pixel_um: float) -> Floats:
    """A field with the statistics of natural images: dead leaves that fill it, or clouds of a power-law spectrum.

    Parameters as of `training_field`.
    """
    rng = generator(seed, _NATURAL)
    canvas = _canvas(Grid(shape, pixel_um), float(np.exp(rng.uniform(*np.log(_ZOOM)))))
    if rng.random() < _LEAVES:
        field = dead_leaves(rng, canvas, cover=float(rng.uniform(1.0, 4.0)), height_rad=1.0)
    else:
        longest = float(np.exp(rng.uniform(np.log(20), np.log(150))))
        cloud = spectral_noise(
            rng, canvas, exponent=float(rng.uniform(1.2, 2.2)), longest_um=longest
        )
        field = np.asarray(cloud - cloud.min(), np.float32)
    return np.maximum(resampled(_scaled(rng, field), shape), 0)


def fine_field(seed: int, shape: tuple[int, int], pixel_um: float) -> Floats:
    """A field of fine periods: charts of bars, windows of gratings, stars.

    Parameters as of `training_field`.
    """
    rng = generator(seed, _FINE)
    canvas = _canvas(Grid(shape, pixel_um), 1.0)
    kind = (bar_groups, lines, stars)[int(rng.choice(3, p=_FINE_SHARES))]
    return np.maximum(resampled(_scaled(rng, kind(rng, canvas)), shape), 0)


def _canvas(grid: Grid, zoom: float) -> Grid:
    rows, columns = (max(1, ceil(round(n * grid.pixel_um / CANVAS_UM, 6))) for n in grid.shape)
    return Grid((rows, columns), CANVAS_UM * zoom)


def _mixture(rng: np.random.Generator, one: Floats, other: Floats) -> Floats:
    """Two specimens in one field: over each other, or the higher of them, or side by side."""
    other = other * np.float32(rng.uniform(0.2, 1.0))
    kind = rng.random()
    if kind < 0.35:
        return np.maximum(one, other)
    if kind < 0.6:
        return np.where(one > 0.03, one, other)
    return one + other


def _scaled(rng: np.random.Generator, field: Floats) -> Floats:
    """To a random peak in radians; nothing stays nothing."""
    seen = field[::3, ::3]
    seen = seen[seen > 0.02 * max(float(seen.max()), 1e-6)]
    wanted = _PEAK[0] * np.exp(_PEAK[1] * np.clip(rng.standard_normal(), -2.5, 2.0))
    if seen.size == 0:
        return field
    # Single dense grains don't count.
    highest = float(np.quantile(seen, 0.99))
    scale = min(np.clip(wanted, *_PEAKS_RAD) / highest, _PEAKS_RAD[1] / float(field.max()))
    return np.asarray(field * np.float32(scale))


def _culture(rng: np.random.Generator, grid: Grid) -> Floats:
    """The cells of the simulated microscope, in styles of all kinds."""
    diameter = float(rng.uniform(14, 38))
    crowding = float(np.exp(rng.uniform(np.log(0.08), np.log(1.1))))
    diameter = max(diameter, np.sqrt(4 / np.pi * crowding) * least_spacing(grid, _MOST_CELLS))
    spec = CellSpecimen(
        cells_per_mm2=crowding / (np.pi / 4 * diameter**2) * 1e6,
        diameter_um=diameter,
        peak_phase_rad=1.0,
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


FAMILIES: tuple[tuple[str, float, Callable[[np.random.Generator, Grid], Floats]], ...] = (
    ("culture", 0.38, _culture),
    ("spread cells", 0.27, spread_cells),
    ("round cells", 0.09, round_cells),
    ("sheets", 0.08, confluent_sheet),
    ("discs", 0.07, many_discs),
    ("targets", 0.03, made_target),
    ("webs", 0.03, thread_web),
    ("lawns", 0.02, lawn),
    ("carpets", 0.01, faint_carpet),
    ("islands", 0.01, islands),
    ("leaves", 0.005, leaves),
    ("sparse", 0.005, sparse_debris),
)
"""Name, share of the fields, construction.

Mostly cells, as the specimens that people have: with textures and full sheets in a third of the fields, a
network spends itself on what one frame can't tell.
"""
_MIXED = 0.08
"""Share of the fields that show a second family."""
_ON_CARPET = 0.12
"""Share of the fields that lie on something wide and faint."""


def _family(rng: np.random.Generator) -> Callable[[np.random.Generator, Grid], Floats]:
    bounds = np.cumsum([share for _, share, _ in FAMILIES])
    return FAMILIES[int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right"))][2]
