"""What a culture of cells is like: the statistics that its cells are drawn from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CultureStyle:
    """Statistics of a culture; the default resembles HeLa cells on glass.

    The factors (`irregularity`, `granules`, …) multiply the default amount of what they name.
    """

    cycle_h: tuple[float, float] = (16.0, 24.0)
    """Shortest and longest time from a cell's birth to its division."""
    aspect: tuple[float, float] = (1.0, 2.1)
    """Length over width of the spread cell."""
    size_spread: float = 0.10
    """Relative spread of the diameter from cell to cell."""
    phase_spread: float = 0.16
    """Relative spread of the dry mass from cell to cell."""
    speed: float = 1.0
    """1: about 10 µm/h."""
    rounded_share: float = 0.03
    """Cells that never spread."""
    debris_per_mm2: float = 60.0
    nucleus: float = 0.44
    """Nuclear over cell radius."""
    irregularity: float = 1.0
    protrusions: float = 1.0
    granules: float = 1.0
    droplets: float = 1.0
    mitochondria: float = 1.0
    fibres: float = 1.0
    ruffles: float = 1.0
