"""The training's specimens in more sizes and strengths than the cells they are modelled on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.samples import training_field

# A field drawn for pixels this much larger or smaller shows its cells as much smaller or larger.
_ZOOM = (0.6, 1.8)
_STRENGTH = (0.5, 1.5)
# Thicker specimens than this are not thin any more, and their squares would outweigh all others'.
_MOST_RAD = 6.0


def varied_field(seed: int, shape: tuple[int, int], pixel_um: float) -> NDArray[np.float32]:
    """`training_field`, zoomed and scaled at random; ``[Y, X]`` radians, a pure function of the seed."""
    rng = np.random.default_rng([seed, 7])
    zoom = float(np.exp(rng.uniform(*np.log(_ZOOM))))
    strength = float(np.exp(rng.uniform(*np.log(_STRENGTH))))
    phase = training_field(seed, shape, pixel_um * zoom)
    highest = float(phase.max())
    if highest > 0:
        strength = min(strength, _MOST_RAD / highest)
    return np.asarray(strength * phase, np.float32)
