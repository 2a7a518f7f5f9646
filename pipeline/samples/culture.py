"""A field of living cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.experiment import CellSpecimen
from pipeline.samples.body import draw_bodies
from pipeline.samples.debris import debris_spots
from pipeline.samples.grid import Grid, checked_indices
from pipeline.samples.lineage import Lineages
from pipeline.samples.organelles import organelles_of
from pipeline.samples.outline import outlines_of
from pipeline.samples.population import Population, population_at
from pipeline.samples.splat import Spots, draw
from pipeline.samples.style import CultureStyle

Floats = NDArray[np.float32]


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
        self, spec: CellSpecimen, *, seed: int, wavelength_um: float, style: CultureStyle | None = None
    ) -> None:
        self.spec = spec
        self.seed = seed
        self.wavelength_um = wavelength_um
        self.style = style or CultureStyle()
        self._lineages = Lineages(seed, spec.cells_per_mm2 * 1e-6, spec.diameter_um, self.style)

    def population(self, timepoint: int, position: int, shape: tuple[int, int], pixel_um: float) -> Population:
        """Cells in or near a field."""
        return population_at(
            self._lineages,
            self.style,
            self.spec.diameter_um,
            timepoint * self.spec.timepoint_min / 60,
            position,
            Grid(shape, pixel_um),
        )[0]

    def render(
        self, timepoint: int, position: int, shape: tuple[int, int], pixel_um: float
    ) -> tuple[Floats, Floats]:
        """Phase in radians and absorption (amplitude lost, relative), both ``[Y, X]``."""
        checked_indices(timepoint, position)
        grid = Grid(shape, pixel_um)
        time_h = timepoint * self.spec.timepoint_min / 60
        cells, borders = population_at(
            self._lineages, self.style, self.spec.diameter_um, time_h, position, grid
        )
        outlines = outlines_of(cells, borders, self.style)
        peak = self.spec.peak_phase_rad
        body = pixel_mean(draw_bodies(grid, cells, outlines, peak))
        layers = organelles_of(cells, outlines, self.style, peak)
        for sigma, spots in debris_spots(self.seed, position, time_h, grid, self.style, peak).items():
            layers[sigma] = Spots.join([layers[sigma], spots])
        inside = draw(grid, layers)
        phase = np.maximum(body + inside, 0)
        # Absorbing matter sits in organelles more than in the water around them.
        dense = np.maximum(0.25 * body + 2.0 * inside, 0) / np.float32(peak)
        absorption = np.float32(self.spec.absorption) * np.minimum(dense, 1)
        return phase, absorption


def pixel_mean(samples: Floats) -> Floats:
    """Means over the pixels' areas of a smooth function that was sampled at their middles.

    The mean over a pixel is f + (∂²f/∂x² + ∂²f/∂y²)·p²/24 up to the fourth derivatives; so the
    same specimen on a finer grid, binned, gives the same picture.
    """
    padded = np.pad(samples, 1)
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return samples * np.float32(5 / 6) + around * np.float32(1 / 24)
