"""`reconstruction.settings` of neuph. No torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.experiment import Strict
from pipeline.methods.settings import Precision

Packaged = Literal["compact"]


class NeuPhSettings(Strict):
    """The method's own settings."""

    network: Packaged = "compact"
    """Which of the packaged weights, where `reconstruction.weights` names none."""
    upsampling: PositiveInt | None = Field(default=None, le=128)
    """Phase pixels per camera pixel along each axis; none: as the weights were trained. Beyond the synthetic NA a
    finer grid interpolates."""
    precision: Precision = "auto"
    """Of encoders and decoder: auto is bf16 where processor or GPU computes in it, else fp32."""
    tile_px: int = Field(default=250, ge=32, le=4096)
    """Largest tile in camera pixels."""
    overlap_px: NonNegativeInt = 24
    """Of neighbouring tiles."""

    @model_validator(mode="after")
    def _tiles_are_larger_than_their_overlap(self) -> Self:
        if 2 * self.overlap_px > self.tile_px:
            raise ValueError(
                f"overlap_px {self.overlap_px} is more than half of tile_px {self.tile_px}"
            )
        return self
