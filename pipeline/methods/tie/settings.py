"""Settings of the method `tie`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from pipeline.experiment import Strict


class TieSettings(Strict):
    """What a user may choose; the defaults suit a cell culture at a few thousand electrons a pixel."""

    regularisation: float = Field(default=1e-4, ge=0, le=1)
    """Where the inverse Laplacian turns over: a frequency f keeps f⁴ / (f⁴ + r²·f_c⁴) of the phase,
    with f_c = NA/λ. 1e-4 keeps half of a period of 100·λ/NA; larger is flatter and loses slow variations first."""
    order: PositiveInt = Field(default=1, le=9)
    """Of the polynomial in z through the foci. 1 has the least noise and is sharp enough while the foci stay
    within n·λ/NA² of the specimen; 3 and more are sharper over a wider range, and noisier."""
    intensity: Literal["measured", "uniform"] = "measured"
    """measured: the specimen's absorption is taken into account. uniform: a pure phase specimen, half the work."""
    channel: str | None = None
    """Whose foci to use; none: the first channel that is symmetric about the axis and coherent enough."""
