"""`reconstruction.settings` of neuph. No torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from pipeline.methods.settings import Precision, TiledSettings

Packaged = Literal["compact"]


class NeuPhSettings(TiledSettings):
    """The method's own settings."""

    network: Packaged = "compact"
    """Which of the packaged weights, where `reconstruction.weights` names none."""
    upsampling: PositiveInt | None = Field(default=None, le=128)
    """Phase pixels per camera pixel along each axis; none: as the weights were trained. Beyond the synthetic NA a
    finer grid interpolates."""
    precision: Precision = "auto"
    """Of encoders and decoder: auto is bf16 where processor or GPU computes in it, else fp32."""
