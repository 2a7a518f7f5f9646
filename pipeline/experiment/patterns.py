"""Which LEDs of an array shine together.

An LED on the very border of a pattern belongs to one of two neighbours or to none, by a rule that each
pattern states: half circles by `HalfCircle.axis`; an arc owns its lower edge in angle and in NA, not its upper.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.experiment.strict import Strict

# Of sines and degrees: LEDs nominally on a line are on it.
_ON_LINE = 1e-9


class HalfCircle(Strict):
    """LEDs on one side of the axis."""

    kind: Literal["half_circle"] = "half_circle"
    direction_deg: float
    """Where the half lies: 0 is +x (right), 90 is +y, 180 is -x, 270 is -y."""
    na_min: float = Field(default=0.0, ge=0)
    na_max: float | None = Field(default=None, gt=0)
    """Outer edge; the objective's NA where not given."""
    axis: Literal["neither", "one", "both"] = "neither"
    """LEDs on the dividing line belong to neither of two opposite halves; or each to one of them, whichever
    has it at its clockwise end (the LED on the axis itself to neither); or to both."""

    def lit(self, sines: NDArray[np.float64], objective_na: float) -> NDArray[np.bool_]:
        """``[N]`` of direction sines ``[N, 2]``."""
        a = np.deg2rad(self.direction_deg)
        side = sines @ np.array([np.cos(a), np.sin(a)])
        on_line = np.abs(side) <= _ON_LINE
        inside = side > _ON_LINE
        if self.axis == "both":
            inside |= on_line
        elif self.axis == "one":
            inside |= on_line & (sines @ np.array([np.sin(a), -np.cos(a)]) > _ON_LINE)
        radius = np.hypot(*sines.T)
        outer = objective_na if self.na_max is None else self.na_max
        return np.asarray(inside & (radius >= self.na_min) & (radius <= outer + _ON_LINE))


class Arc(Strict):
    """A sector of an annulus."""

    kind: Literal["arc"] = "arc"
    na_min: float = Field(ge=0)
    na_max: float = Field(gt=0)
    direction_deg: float = 0.0
    """The sector's middle."""
    width_deg: float = Field(default=360.0, gt=0, le=360)
    """Full width of the sector; 360 is the whole annulus. It owns its lower edge, not its upper."""

    def lit(self, sines: NDArray[np.float64], objective_na: float) -> NDArray[np.bool_]:  # noqa: ARG002 - as the others
        """``[N]`` of direction sines ``[N, 2]``."""
        radius = np.hypot(*sines.T)
        angle = np.rad2deg(np.arctan2(sines[:, 1], sines[:, 0]))
        # A hair is added, so that an LED on the lower edge isn't lost to rounding and one on the upper is not won.
        from_edge = (angle - (self.direction_deg - self.width_deg / 2) + _ON_LINE) % 360
        within = from_edge < self.width_deg
        return np.asarray((radius >= self.na_min) & (radius < self.na_max) & within)


class LedList(Strict):
    """LEDs by number."""

    kind: Literal["leds"] = "leds"
    leds: tuple[int, ...] = Field(min_length=1)


Pattern = Annotated[HalfCircle | Arc | LedList, Field(discriminator="kind")]
