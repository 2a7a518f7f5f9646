"""A field of living cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.experiment import CellSpecimen
from pipeline.samples.body import body_integral, draw_bodies
from pipeline.samples.debris import debris_spots
from pipeline.samples.grid import Grid, checked_indices
from pipeline.samples.lineage import Lineages
from pipeline.samples.organelles import organelles_of
from pipeline.samples.outline import outlines_of
from pipeline.samples.packing import Borders
from pipeline.samples.population import Population, population_at
from pipeline.samples.splat import Spots, draw
from pipeline.samples.style import CultureStyle

Floats = NDArray[np.float32]


_INCREMENT_UM3_PER_PG = 0.19
"""Specific refractive increment of what cells are made of (Barer 1952; Zhao et al. 2011)."""


class CellRecord(NamedTuple):
    """What is true of one cell at one moment."""

    name: tuple[int, ...]
    """Of its founder, then its place in the tree: 1, and 2n and 2n + 1 the daughters of n."""
    mother: tuple[int, ...] | None
    """None for a founder."""
    x_um: float
    y_um: float
    """From the middle of the field to the middle of the nucleus."""
    age_h: float
    roundness: float
    """0 spread … 1 a ball."""
    dry_mass_pg: float
    """Of the body, overlap and single organelles aside."""


class LivingCells:
    """Adherent cells that crawl, grow, round up and divide.

    A pure function of (seed, timepoint, position): nothing is carried from one timepoint to the next.

    Parameters
    ----------
    spec
        Density, size, phase and pace.
    seed
        Decides everything else.
    wavelength_um
        At which the phase is given.
    style
        Statistics of the culture.
    """

    def __init__(
        self,
        spec: CellSpecimen,
        *,
        seed: int,
        wavelength_um: float,
        style: CultureStyle | None = None,
    ) -> None:
        self.spec = spec
        self.seed = seed
        self.wavelength_um = wavelength_um
        self.style = style or CultureStyle()
        self._lineages = Lineages(seed, spec.cells_per_mm2 * 1e-6, spec.diameter_um, self.style)

    def __reduce__(self) -> tuple[Callable[..., LivingCells], tuple[object, ...]]:
        return _rebuild, (self.spec, self.seed, self.wavelength_um, self.style)

    def census(
        self, timepoint: float, position: int, shape: tuple[int, int], pixel_um: float
    ) -> list[CellRecord]:
        """The truth about every cell whose middle lies in a field, in the order of its names."""
        grid = Grid(shape, pixel_um)
        cells, _ = self._population(timepoint, position, grid)
        half_y, half_x = grid.half_um
        # A cell's phase summed over its area is its dry mass times 2π/λ and the refractive increment.
        picograms = (
            body_integral(cells, self.spec.peak_phase_rad) * self.wavelength_um / (2 * np.pi)
        )
        picograms /= _INCREMENT_UM3_PER_PG
        return [
            CellRecord(
                name=cell.key,
                mother=cell.mother,
                x_um=float(x),
                y_um=float(y),
                age_h=float(cells.time_h - cell.birth_h),
                roundness=float(round_),
                dry_mass_pg=float(mass),
            )
            for cell, (x, y), round_, mass in zip(
                cells.cells, cells.xy_um, cells.roundness, picograms, strict=True
            )
            if abs(x) < half_x and abs(y) < half_y
        ]

    def _population(
        self, timepoint: float, position: int, grid: Grid
    ) -> tuple[Population, Borders]:
        checked_indices(timepoint, position)
        time_h = timepoint * self.spec.timepoint_min / 60
        return population_at(
            self._lineages, self.style, self.spec.diameter_um, time_h, position, grid
        )

    def render(
        self, timepoint: float, position: int, shape: tuple[int, int], pixel_um: float
    ) -> tuple[Floats, Floats]:
        """Phase in radians and absorption (amplitude lost, relative), both ``[Y, X]``."""
        grid = Grid(shape, pixel_um)
        cells, borders = self._population(timepoint, position, grid)
        outlines = outlines_of(cells, borders, self.style)
        peak = self.spec.peak_phase_rad
        body = _pixel_mean(draw_bodies(grid.grown(1), cells, outlines, peak))
        layers = organelles_of(cells, outlines, self.style, peak)
        for sigma, spots in debris_spots(
            self.seed, position, cells.time_h, grid, self.style, peak
        ).items():
            layers[sigma] = Spots.join([layers[sigma], spots])
        inside = draw(grid, layers)
        phase = np.maximum(body + inside, 0)
        # Absorbing matter sits in organelles more than in the water around them.
        dense = np.maximum(0.35 * body + 1.2 * inside, 0) / np.float32(peak)
        absorption = np.float32(self.spec.absorption) * np.minimum(dense, 1)
        return phase, absorption


def _rebuild(
    spec: CellSpecimen, seed: int, wavelength_um: float, style: CultureStyle
) -> LivingCells:
    return LivingCells(spec, seed=seed, wavelength_um=wavelength_um, style=style)


def _pixel_mean(samples: Floats) -> Floats:
    """Means over the pixels' areas of a smooth function sampled at their middles, less a rim of one pixel.

    The mean over a pixel is f + (∂²f/∂x² + ∂²f/∂y²)·p²/24 up to the fourth derivatives; so the
    same specimen on a finer grid, binned, gives the same picture.
    """
    around = samples[:-2, 1:-1] + samples[2:, 1:-1] + samples[1:-1, :-2] + samples[1:-1, 2:]
    return samples[1:-1, 1:-1] * np.float32(5 / 6) + around * np.float32(1 / 24)
