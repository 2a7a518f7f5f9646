"""Which conditions a training is about, and how they are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipeline.methods.dl_srqpi.conditions import Conditions
from pipeline.methods.dl_srqpi.record import OpticsRecord

# This share of the images is at about the experiment's own defocus, the others anywhere in the range.
_OWN = 0.35
_OWN_SPREAD = 0.03
# Of those anywhere, this share is under a plane wave, where the range begins with one.
_PLANE = 0.7
# The ends of the ranges are trained a little beyond: nothing is as badly known as an end.
_BEYOND_Z, _BEYOND_S = 1.04, 0.02


@dataclass(frozen=True)
class Ranges:
    """Draws conditions for a training's optics."""

    optics: OpticsRecord

    def draw(self, rng: np.random.Generator) -> Conditions:
        """Conditions of one image."""
        own = rng.random() < _OWN
        trained = self.optics
        return Conditions(
            wavelength_um=trained.wavelength_um,
            numerical_aperture=trained.numerical_aperture,
            refractive_index=trained.refractive_index,
            pixel_um=trained.pixel_um,
            z_um=self._defocus(rng, own),
            coherence=self._coherence(rng, own),
        )

    def _defocus(self, rng: np.random.Generator, own: bool) -> float:
        low, high = self.optics.z_min_um / _BEYOND_Z, self.optics.z_max_um * _BEYOND_Z
        if own:
            z = self.optics.z_um * math.exp(rng.normal(0, _OWN_SPREAD))
            return float(np.clip(z, low, high))
        if rng.random() < 0.5:
            return float(rng.uniform(low, high))
        return math.exp(rng.uniform(math.log(low), math.log(high)))

    def _coherence(self, rng: np.random.Generator, own: bool) -> float:
        least, most = self.optics.coherence_min, self.optics.coherence_max
        if least == 0 and not own and rng.random() < _PLANE:
            return 0.0
        # A range that is one plane wave stays one.
        return float(rng.uniform(least, most + _BEYOND_S)) if most else 0.0
