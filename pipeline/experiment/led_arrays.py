"""Where the LEDs of an array are, and from which direction each lights the specimen.

Lengths in mm, the specimen at the origin, z from the specimen to the LEDs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Discriminator, Field, PositiveFloat, PositiveInt, Tag, model_validator

from pipeline.experiment.strict import Strict

_MOST_LEDS = 65_536


class LedPlaces(Strict, ABC):
    """What all arrays share: they can be turned about the axis and lie beside it."""

    rotation_deg: float = 0.0
    """Of the array against the camera, anticlockwise in array coordinates."""
    offset_mm: tuple[float, float] = (0.0, 0.0)
    """(x, y) of the array's centre against the optical axis."""

    @abstractmethod
    def own_places_mm(self) -> NDArray[np.float64]:
        """``[N, 3]`` each LED in the array's own coordinates, in its own order."""

    @property
    def count(self) -> int:
        """How many LEDs there are."""
        return len(self.own_places_mm())

    def places_mm(self) -> NDArray[np.float64]:
        """``[N, 3]`` x, y and z of each LED from where the optical axis meets the specimen."""
        places = self.own_places_mm().astype(np.float64)
        a = np.deg2rad(self.rotation_deg)
        rotation = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        places[:, :2] = places[:, :2] @ rotation.T + np.asarray(self.offset_mm)
        return places

    def sines(self, place_mm: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.float64]:
        """``[N, 2]`` direction sines (x, y) of each LED's light: its NA as a vector.

        Parameters
        ----------
        place_mm
            Where on the specimen the light arrives, in the array's turned coordinates: away from the axis
            every LED of a flat array stands elsewhere.
        """
        return direction_sines(self.places_mm() - np.array([*place_mm, 0.0]))


def direction_sines(places_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[N, 2]`` of places ``[N, 3]`` seen from the origin."""
    return np.asarray(places_mm[:, :2] / np.linalg.norm(places_mm, axis=1, keepdims=True))


class LedArray(LedPlaces):
    """A square grid of LEDs, centred on the optical axis."""

    kind: Literal["grid"] = "grid"
    rows: PositiveInt = Field(le=256)
    columns: PositiveInt = Field(le=256)
    pitch_mm: PositiveFloat
    """From one LED to the next."""
    distance_mm: PositiveFloat
    """From the array to the specimen."""
    order: Literal["raster", "spiral"] = "raster"
    """How the LEDs are numbered: raster is row by row from the lowest x and y; spiral is from the
    centre (x+, y+, x-, x-, y-, y-, x+ x+ x+, …)."""

    @model_validator(mode="after")
    def _spirals_are_square(self) -> Self:
        if self.order == "spiral" and self.rows != self.columns:
            raise ValueError(
                f"a spiral needs a square array, not {self.rows} x {self.columns}: use order: raster"
            )
        return self

    def grid(self) -> NDArray[np.int64]:
        """``[N, 2]`` column and row of each LED, counted from the centre of the array, in its own order."""
        if self.order == "spiral":
            return _spiral(self.rows)
        y, x = np.mgrid[: self.rows, : self.columns]
        return np.stack([x.ravel() - self.columns // 2, y.ravel() - self.rows // 2], axis=1)

    def own_places_mm(self) -> NDArray[np.float64]:
        """As `LedPlaces`; an even number of rows or columns puts the axis between the middle LEDs."""
        even = np.array([self.columns % 2 == 0, self.rows % 2 == 0])
        xy = (self.grid() + np.where(even, 0.5, 0.0)) * self.pitch_mm
        return np.column_stack([xy, np.full(len(xy), self.distance_mm)])


def _spiral(side: int) -> NDArray[np.int64]:
    steps = ((1, 0), (0, 1), (-1, 0), (0, -1))
    x = y = 0
    out = [(0, 0)]
    leg, direction = 1, 0
    while len(out) < side * side:
        for _ in range(2):
            dx, dy = steps[direction % 4]
            for _ in range(leg):
                x, y = x + dx, y + dy
                out.append((x, y))
            direction += 1
        leg += 1
    return np.array(out[: side * side])


class LedRing(Strict):
    """LEDs at equal steps of angle around the axis."""

    count: PositiveInt = Field(le=4096)
    """How many LEDs."""
    first_deg: float = 0.0
    """Of the ring's first LED, anticlockwise from +x; the others follow anticlockwise."""
    radius_mm: float | None = Field(default=None, ge=0)
    """In a flat array: from the array's centre."""
    polar_deg: float | None = Field(default=None, ge=0, lt=90)
    """On a dome: from the optical axis, as the specimen sees it."""

    def angles(self) -> NDArray[np.float64]:
        """``[count]`` radians."""
        return np.asarray(
            np.deg2rad(self.first_deg) + 2 * np.pi * np.arange(self.count) / self.count
        )


class LedRings(LedPlaces):
    """Concentric rings in a plane, numbered ring by ring as they are listed."""

    kind: Literal["rings"]
    rings: tuple[LedRing, ...] = Field(min_length=1)
    distance_mm: PositiveFloat
    """From the array to the specimen."""

    @model_validator(mode="after")
    def _each_has_a_radius(self) -> Self:
        if any(ring.radius_mm is None or ring.polar_deg is not None for ring in self.rings):
            raise ValueError("the rings of a flat array each need radius_mm, and no polar_deg")
        return self

    def own_places_mm(self) -> NDArray[np.float64]:
        """As `LedPlaces`."""
        parts = []
        for ring in self.rings:
            a, r = ring.angles(), ring.radius_mm or 0.0
            parts.append(
                np.column_stack([r * np.cos(a), r * np.sin(a), np.full(len(a), self.distance_mm)])
            )
        return np.concatenate(parts)


class LedDome(LedPlaces):
    """Rings on a hemisphere around the specimen, numbered ring by ring as they are listed."""

    kind: Literal["dome"]
    rings: tuple[LedRing, ...] = Field(min_length=1)
    radius_mm: PositiveFloat
    """From the specimen to every LED."""

    @model_validator(mode="after")
    def _each_has_an_angle(self) -> Self:
        if any(ring.polar_deg is None or ring.radius_mm is not None for ring in self.rings):
            raise ValueError("the rings of a dome each need polar_deg, and no radius_mm")
        return self

    def own_places_mm(self) -> NDArray[np.float64]:
        """As `LedPlaces`."""
        parts = []
        for ring in self.rings:
            a, polar = ring.angles(), np.deg2rad(ring.polar_deg or 0.0)
            across = np.sin(polar)
            parts.append(
                np.column_stack(
                    [across * np.cos(a), across * np.sin(a), np.full(len(a), np.cos(polar))]
                )
            )
        return np.asarray(self.radius_mm * np.concatenate(parts))


class MeasuredLeds(LedPlaces):
    """LEDs at measured places, numbered as they are listed."""

    kind: Literal["measured"]
    leds_mm: tuple[tuple[float, float, float], ...] = Field(min_length=1, max_length=_MOST_LEDS)
    """(x, y, z) of each: across the optical axis, and from the specimen towards the LED (z > 0)."""

    @model_validator(mode="after")
    def _above_the_specimen(self) -> Self:
        for led, (_, _, z) in enumerate(self.leds_mm):
            if z <= 0:
                raise ValueError(f"LED {led} has z {z:g}: it counts from the specimen to the LED")
        return self

    def own_places_mm(self) -> NDArray[np.float64]:
        """As `LedPlaces`."""
        return np.asarray(self.leds_mm, np.float64)


TAG = "kind: "
"""What an array's tag in an error's location begins with: no key of an experiment does."""


def _kind(data: Any) -> str:
    # A grid needs no `kind`: most arrays are one, and all were before there were others.
    return TAG + str(data.get("kind", "grid") if isinstance(data, dict) else data.kind)


AnyLedArray = Annotated[
    Annotated[LedArray, Tag(TAG + "grid")]
    | Annotated[LedRings, Tag(TAG + "rings")]
    | Annotated[LedDome, Tag(TAG + "dome")]
    | Annotated[MeasuredLeds, Tag(TAG + "measured")],
    Discriminator(_kind),
]
