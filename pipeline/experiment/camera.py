"""The camera as the run uses it, whoever drives it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from pipeline.experiment.strict import Strict

# What a pixel of a common scientific camera holds. With a gain that ignores the bit depth, a
# default exposure would saturate a 12-bit camera and hardly lift a 16-bit one off its offset.
_FULL_WELL_E = 30_000.0


class Camera(Strict):
    """The camera as the run uses it."""

    shape_px: tuple[PositiveInt, PositiveInt]
    """(y, x) of a frame, after binning and region of interest."""
    pixel_um: PositiveFloat
    """Edge of one physical pixel on the sensor, in micrometers."""
    binning: PositiveInt = Field(default=1, le=64)
    """Physical pixels per frame pixel along each axis."""
    bit_depth: Literal[8, 10, 12, 14, 16] = 12
    frame_rate_hz: PositiveFloat | None = None
    """The most the camera gives; none: limited by the exposure alone."""
    gain_e_per_count: PositiveFloat = Field(
        default_factory=lambda known: _FULL_WELL_E / 2 ** known.get("bit_depth", 12)
    )
    """Nominal; a calibration says better. Not given: a pixel of 30,000 electrons fills the range."""
    read_noise_e: NonNegativeFloat = 2.0
    """Nominal standard deviation, in electrons."""
    offset_counts: NonNegativeFloat = Field(
        default_factory=lambda known: min(100.0, 2 ** known.get("bit_depth", 12) / 40)
    )
    """Nominal dark level. Not given: 100, and less below 12 bits."""

    @property
    def readout_s(self) -> float:
        """Least seconds from one frame to the next, however short the exposure."""
        return 0.0 if self.frame_rate_hz is None else 1 / self.frame_rate_hz
