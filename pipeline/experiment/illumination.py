"""Light: a condenser of some coherence, or an LED array and the patterns shown on it.

The geometry (which LED lies at which angle) is computed here, without torch,
because validators and drivers need it; `pipeline.optics.illumination` makes
sources for the forward models out of it.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.experiment.strict import Strict, nearest


class LedArray(Strict):
    """A square grid of LEDs, centred on the optical axis."""

    rows: PositiveInt = Field(le=256)
    columns: PositiveInt = Field(le=256)
    pitch_mm: PositiveFloat
    """From one LED to the next."""
    distance_mm: PositiveFloat
    """From the array to the specimen."""
    rotation_deg: float = 0.0
    """Of the array against the camera, anticlockwise in array coordinates."""
    offset_mm: tuple[float, float] = (0.0, 0.0)
    """(x, y) of the array's centre against the optical axis."""
    order: Literal["raster", "spiral"] = "raster"
    """How the LEDs are numbered: raster is row by row from the lowest x and y; spiral is from the
    centre (x+, y+, x-, x-, y-, y-, x+ x+ x+, …)."""

    def grid(self) -> NDArray[np.int64]:
        """``[N, 2]`` column and row of each LED, counted from the centre of the array, in its own order."""
        if self.order == "spiral":
            return _spiral(self.rows, self.columns)
        y, x = np.mgrid[: self.rows, : self.columns]
        return np.stack([x.ravel() - self.columns // 2, y.ravel() - self.rows // 2], axis=1)

    def positions_mm(self) -> NDArray[np.float64]:
        """``[N, 2]`` x and y of each LED from the optical axis, rotation and offset applied.

        An even number of rows or columns puts the axis between the middle LEDs.
        """
        even = np.array([self.columns % 2 == 0, self.rows % 2 == 0])
        xy = (self.grid() + np.where(even, 0.5, 0.0)) * self.pitch_mm
        a = np.deg2rad(self.rotation_deg)
        rotation = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        return np.asarray(xy @ rotation.T + np.asarray(self.offset_mm), dtype=np.float64)

    def sines(self) -> NDArray[np.float64]:
        """``[N, 2]`` direction sines (x, y) of each LED's light at the specimen: its NA as a vector."""
        xy = self.positions_mm()
        sines: NDArray[np.float64] = xy / np.sqrt(
            (xy**2).sum(1, keepdims=True) + self.distance_mm**2
        )
        return sines


def _spiral(rows: int, columns: int) -> NDArray[np.int64]:
    if rows != columns:
        raise ValueError(
            f"a spiral needs a square array, not {rows} x {columns}: use order: raster"
        )
    steps = ((1, 0), (0, 1), (-1, 0), (0, -1))
    x = y = 0
    out = [(0, 0)]
    leg, direction = 1, 0
    while len(out) < rows * columns:
        for _ in range(2):
            dx, dy = steps[direction % 4]
            for _ in range(leg):
                x, y = x + dx, y + dy
                out.append((x, y))
            direction += 1
        leg += 1
    return np.array(out[: rows * columns])


class HalfCircle(Strict):
    """LEDs on one side of the axis; those on the dividing line belong to neither half."""

    kind: Literal["half_circle"] = "half_circle"
    direction_deg: float
    """Where the half lies: 0 is +x (right), 90 is +y, 180 is -x, 270 is -y."""
    na_min: float = Field(default=0.0, ge=0)
    na_max: float | None = Field(default=None, gt=0)
    """Outer edge; the objective's NA where not given."""


class Arc(Strict):
    """A sector of an annulus."""

    kind: Literal["arc"] = "arc"
    na_min: float = Field(ge=0)
    na_max: float = Field(gt=0)
    direction_deg: float = 0.0
    """The sector's middle."""
    width_deg: float = Field(default=360.0, gt=0, le=360)
    """Full width of the sector; 360 is the whole annulus. It owns its lower edge, not its upper."""


class LedList(Strict):
    """LEDs by number."""

    kind: Literal["leds"] = "leds"
    leds: tuple[int, ...] = Field(min_length=1)


Pattern = Annotated[HalfCircle | Arc | LedList, Field(discriminator="kind")]


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
    array: LedArray
    patterns: dict[str, Pattern] = Field(min_length=1)
    channels: dict[str, LightChannel] = Field(min_length=1)

    @model_validator(mode="after")
    def _patterns_exist(self) -> Self:
        count = self.array.rows * self.array.columns
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
        sines = self.array.sines()
        radius = np.hypot(sines[:, 0], sines[:, 1])
        if isinstance(pattern, HalfCircle):
            a = np.deg2rad(pattern.direction_deg)
            side = sines @ np.array([np.cos(a), np.sin(a)])
            outer = objective_na if pattern.na_max is None else pattern.na_max
            inside = (side > 1e-9) & (radius >= pattern.na_min) & (radius <= outer + 1e-9)
        else:
            angle = np.rad2deg(np.arctan2(sines[:, 1], sines[:, 0]))
            from_edge = (angle - (pattern.direction_deg - pattern.width_deg / 2)) % 360
            inside = (
                (radius >= pattern.na_min)
                & (radius < pattern.na_max)
                & (from_edge < pattern.width_deg)
            )
        return np.flatnonzero(inside)


Illumination = Annotated[Condenser | LedIllumination, Field(discriminator="source")]
