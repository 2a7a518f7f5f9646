"""Settings of the method `fpm`."""

from __future__ import annotations

from typing import Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.experiment import Strict
from pipeline.optics.zernike import Aberration


class FpmSettings(Strict):
    """What a user may choose; the defaults suit a hundred or more single LEDs."""

    upsampling: PositiveInt | None = Field(default=None, le=16)
    """Phase pixels per camera pixel along each axis; none: as few as hold the synthetic NA."""
    rounds: PositiveInt = Field(default=2, le=100)
    """Of alternating projection, which finds the way."""
    iterations: NonNegativeInt = Field(default=25, le=1000)
    """Of the gradient over all frames, which goes it. More fit noise: LEDs that were left out are explained best
    after 10 to 30."""
    recover_pupil: bool = True
    """Find the objective's aberration and transmission, beyond `aberration_rad`."""
    recover_light: bool = True
    """Find each frame's intensity."""
    refine_positions: bool = False
    """Find how the LED array lies (place, turn, distance) from the frames; needs one LED a frame."""
    aberration_rad: dict[Aberration, float] = Field(default_factory=dict)
    """Known aberration of the objective: rms radians over the pupil."""
    tile_px: int = Field(default=256, ge=32, le=4096)
    """Largest tile in camera pixels; a larger field is made of several, each under its own LED angles."""
    overlap_px: NonNegativeInt = 32
    """Of neighbouring tiles."""

    @model_validator(mode="after")
    def _tiles_are_larger_than_their_overlap(self) -> Self:
        if 2 * self.overlap_px > self.tile_px:
            raise ValueError(
                f"overlap_px {self.overlap_px} is more than half of tile_px {self.tile_px}"
            )
        return self
