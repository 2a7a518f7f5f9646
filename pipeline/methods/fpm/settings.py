"""Settings of the method `fpm`."""

from __future__ import annotations

from pydantic import Field, NonNegativeInt, PositiveInt

from pipeline.methods.settings import TiledSettings
from pipeline.optics.zernike import Aberration


class FpmSettings(TiledSettings):
    """What a user may choose; the defaults suit a hundred or more single LEDs."""

    upsampling: PositiveInt | None = Field(default=None, le=16)
    """Phase pixels per camera pixel along each axis; none: as few as hold the synthetic NA."""
    rounds: PositiveInt = Field(default=2, le=100)
    """Of alternating projection, which finds the way."""
    iterations: NonNegativeInt = Field(default=35, le=1000)
    """Of the gradient over all frames, which goes it. More fit noise: LEDs that were left out are explained best
    after 10 to 40."""
    rim_px: NonNegativeInt = Field(default=8, le=1024)
    """Camera pixels around each tile that count for nothing: a place for what the light brings in from outside of
    it."""
    recover_pupil: bool = True
    """Find the objective's aberration and transmission, beyond `aberration_rad`."""
    recover_light: bool = True
    """Find each frame's intensity."""
    refine_positions: bool = False
    """Find how the LED array lies (place, turn, distance) from the frames; needs one LED a frame."""
    aberration_rad: dict[Aberration, float] = Field(default_factory=dict)
    """Known aberration of the objective: rms radians over the pupil."""
