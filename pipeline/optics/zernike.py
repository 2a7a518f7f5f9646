"""Zernike polynomials of rms 1 over the unit disc (Noll 1976), by name.

No torch: dpc checks an experiment with them before torch is there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

Aberration = Literal["defocus", "astigmatism_0", "astigmatism_45", "coma_x", "coma_y", "spherical"]

# Of x and y in units of the pupil's radius: numpy arrays, torch tensors or numbers.
ZERNIKE: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "defocus": lambda x, y: math.sqrt(3) * (2 * (x**2 + y**2) - 1),
    "astigmatism_0": lambda x, y: math.sqrt(6) * (x**2 - y**2),
    "astigmatism_45": lambda x, y: math.sqrt(6) * 2 * x * y,
    "coma_x": lambda x, y: math.sqrt(8) * (3 * (x**2 + y**2) - 2) * x,
    "coma_y": lambda x, y: math.sqrt(8) * (3 * (x**2 + y**2) - 2) * y,
    "spherical": lambda x, y: math.sqrt(5) * (6 * (x**2 + y**2) * (x**2 + y**2 - 1) + 1),
}
