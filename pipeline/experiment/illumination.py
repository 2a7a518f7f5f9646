"""Light: a condenser of some coherence, or an LED array and the patterns shown on it.

The geometry (which LED lies at which angle) is computed here, without torch,
because validators and drivers need it; `pipeline.optics.illumination` makes
sources for the forward models out of it.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, model_validator

from pipeline.experiment.led_arrays import AnyLedArray
from pipeline.experiment.patterns import LedList, Pattern
from pipeline.experiment.strict import Strict, nearest


class LightChannel(Strict):
    """One illumination state, with the exposure that belongs to it."""

    pattern: str | None = None
    """A name from `patterns`; none for a condenser."""
    exposure_ms: PositiveFloat = 10.0
    brightness: float = Field(default=1.0, ge=0, le=1)
    """Share of the light source's full power; 0 is a dark frame."""


class Condenser(Strict):
    """A lamp or single LED behind a condenser: a uniform disc of angles."""

    source: Literal["condenser"] = "condenser"
    coherence: float = Field(default=0.0, ge=0, le=1)
    """S = NA of the condenser / NA of the objective; 0 is a plane wave."""
    channels: dict[str, LightChannel] = Field(
        default_factory=lambda: {"brightfield": LightChannel()}, min_length=1
    )

    @model_validator(mode="after")
    def _no_patterns(self) -> Self:
        for name, channel in self.channels.items():
            if channel.pattern is not None:
                raise ValueError(
                    f"channel '{name}' names a pattern, but a condenser has none: use source: led_array"
                )
        return self


class LedIllumination(Strict):
    """An LED array and the patterns shown on it."""

    source: Literal["led_array"]
    array: AnyLedArray
    patterns: dict[str, Pattern] = Field(min_length=1)
    channels: dict[str, LightChannel] = Field(min_length=1)

    @model_validator(mode="after")
    def _patterns_exist(self) -> Self:
        count = self.array.count
        for name, channel in self.channels.items():
            if channel.pattern is None:
                raise ValueError(
                    f"channel '{name}' of an LED array needs a pattern: {nearest('', self.patterns)}"
                )
            if channel.pattern not in self.patterns:
                raise ValueError(
                    f"channel '{name}' names the unknown pattern '{channel.pattern}': "
                    f"{nearest(channel.pattern, self.patterns)}"
                )
        for name, pattern in self.patterns.items():
            if isinstance(pattern, LedList):
                outside = [led for led in pattern.leds if not 0 <= led < count]
                if outside:
                    raise ValueError(
                        f"pattern '{name}' names LED {outside[0]}, but the array has LEDs 0 to {count - 1}"
                    )
                if len(set(pattern.leds)) != len(pattern.leds):
                    raise ValueError(
                        f"pattern '{name}' names an LED twice: an LED is on or off, remove the repeats"
                    )
        return self

    def leds(self, pattern_name: str, objective_na: float) -> NDArray[np.int64]:
        """Numbers of the LEDs that a pattern lights, in ascending order."""
        pattern = self.patterns[pattern_name]
        if isinstance(pattern, LedList):
            return np.sort(np.asarray(pattern.leds))
        return np.flatnonzero(pattern.lit(self.array.sines(), objective_na))


Illumination = Annotated[Condenser | LedIllumination, Field(discriminator="source")]
