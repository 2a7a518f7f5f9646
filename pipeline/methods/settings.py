"""A method's own settings: strict, and refused in the same words as the rest of the experiment."""

from __future__ import annotations

from typing import Literal, Self, TypeVar

from pydantic import Field, NonNegativeInt, PositiveFloat, ValidationError, model_validator

from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment, Strict

Settings = TypeVar("Settings", bound=Strict)

Precision = Literal["auto", "fp32", "bf16"]
"""Of a network's layers; see `pipeline.methods.precision`."""


class TiledSettings(Strict):
    """Of a method that makes large fields of overlapping tiles, each under the light of its own place or memory."""

    tile_px: int = Field(default=256, ge=32, le=4096)
    """Largest tile in camera pixels."""
    overlap_px: NonNegativeInt = 32
    """Of neighbouring tiles."""
    first_px: tuple[float, float, PositiveFloat, PositiveFloat] | None = None
    """(y, x, height, width) of the region whose tiles are made first, of every timepoint before the rest of the one
    before; none: the middle one."""

    @model_validator(mode="after")
    def _tiles_are_larger_than_their_overlap(self) -> Self:
        if 2 * self.overlap_px > self.tile_px:
            raise ValueError(
                f"overlap_px {self.overlap_px} is more than half of tile_px {self.tile_px}"
            )
        return self


def read_settings(model: type[Settings], experiment: Experiment) -> Settings:
    """`experiment.reconstruction.settings` as the method's model.

    Raises
    ------
    ExperimentError
        For an unknown key (naming the nearest known one) or an impossible value.
    """
    try:
        return model.model_validate(experiment.reconstruction.settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(["reconstruction.settings", *(str(part) for part in first["loc"])])
        raise ExperimentError(
            f"{key}: {first['msg'].removeprefix('Value error, ')}",
            f"method {experiment.reconstruction.method} knows {', '.join(model.model_fields)}",
        ) from error
