"""Figures of a phase image that conditions and intervals depend on."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# µm³ of optical volume per picogram of dry mass (Barer 1952; Zhao et al. 2011).
_INCREMENT_UM3_PER_PG = 0.19
# Above the background by this much it is a cell.
_CELL_RAD = 0.25

NAMES = ("dry_mass_pg", "confluence", "peak_rad", "mean_rad")


def phase_figures(
    phase: NDArray[np.float32], pixel_um: float, wavelength_um: float
) -> dict[str, float]:
    """`dry_mass_pg` of all cells of a field, `confluence` (their share of it), `peak_rad` and `mean_rad` in them."""
    above = phase - np.float32(np.median(phase[phase < np.median(phase) + _CELL_RAD]))
    cells = above > _CELL_RAD
    covered = float(cells.mean())
    optical_um = float(above[cells].sum()) * wavelength_um / (2 * math.pi)
    return {
        "dry_mass_pg": optical_um * pixel_um**2 / _INCREMENT_UM3_PER_PG,
        "confluence": covered,
        "peak_rad": float(np.quantile(above, 0.999)),
        "mean_rad": float(above[cells].mean()) if covered else 0.0,
    }
