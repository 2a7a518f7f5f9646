"""Settings of the method `dpc`."""

from __future__ import annotations

from pydantic import Field, NonNegativeInt, PositiveInt

from pipeline.experiment import Strict
from pipeline.optics.zernike import Aberration


class DpcSettings(Strict):
    """What a user may choose; the defaults suit a cell culture at a few thousand electrons a pixel."""

    regularisation_phase: float = Field(default=3e-4, gt=0, le=10)
    """Against the mean squared phase transfer (at most 4): larger is smoother and loses slow variations first."""
    regularisation_absorption: float = Field(default=2e-3, gt=0, le=10)
    """The same for absorption, whose squared transfer is 4 at low frequencies."""
    upsampling: PositiveInt = Field(default=1, le=8)
    """Output pixels per camera pixel along each axis; interpolation, not resolution."""
    aberration_rad: dict[Aberration, float] = Field(default_factory=dict)
    """Known aberration of the objective: rms radians over the pupil."""
    normalise: bool = True
    """Divide each frame by its own background, so that flicker and unequal exposures don't matter."""
    padding_px: NonNegativeInt = Field(default=32, le=4096)
    """Margin in camera pixels that keeps opposite edges of the field apart; 0: the specimen is periodic."""
