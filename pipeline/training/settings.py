"""What a training is made of; every value that decides the weights."""

from __future__ import annotations

from typing import Self, TypeVar

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.errors import ExperimentError
from pipeline.experiment import Strict
from pipeline.methods.dl_srqpi.record import NetworkRecord


class Schedule(Strict):
    """How any network's weights are led."""

    learning_rate: PositiveFloat = 2e-3
    """At its peak; rises over the first hundredth, then falls as a cosine."""
    weight_decay: float = Field(default=1e-4, ge=0)
    average_steps: PositiveInt = 400
    """Steps over which the kept weights are averaged (exponentially)."""
    freeze_norms_at: float = Field(default=0.2, ge=0, le=1)
    """Share of the training after which batch norms' statistics are those of inference: statistics of
    each batch would hide the absolute contrast, and with it the scale of the phase."""


class TrainingSettings(Schedule):
    """Of one training of dl_srqpi."""

    network: NetworkRecord = Field(default_factory=NetworkRecord)
    fields: PositiveInt = 400
    """Specimens to train on, each in a style of its own."""
    images: PositiveInt = 4
    """Frames of each specimen, under different conditions."""
    validation_fields: PositiveInt = 24
    """Of the same kinds, never trained on: they choose the weights that are kept."""
    field_px: int = Field(default=192, ge=32)
    """Edge of a field in camera pixels."""
    oversampling: PositiveInt = 2
    """Samples of the forward model per phase pixel along each axis."""
    recorded_share: float = Field(default=0.7, gt=0, le=1)
    """Of the patches, where there are recordings; the others keep the network from taking TIE's limits over."""
    patch_px: int = Field(default=96, ge=16)
    """Edge of a patch in camera pixels."""
    batch: PositiveInt = 4
    noise: tuple[PositiveFloat, PositiveFloat] = (0.0015, 0.02)
    """Range of the noise's standard deviation per unit of background, the lower half of its
    logarithm in two cases of three."""

    @model_validator(mode="after")
    def _patches_fit(self) -> Self:
        if self.patch_px > self.field_px:
            raise ValueError(f"patch_px {self.patch_px} is larger than field_px {self.field_px}")
        if self.noise[0] > self.noise[1]:
            raise ValueError(f"noise {self.noise} must be given as (least, most)")
        return self


Sized = TypeVar("Sized", bound=Schedule)


def sized(settings: Sized, **numbers: int | None) -> Sized:
    """With the numbers that are given. Raises `ExperimentError` for less than 1."""
    given = {name: number for name, number in numbers.items() if number is not None}
    for name, number in given.items():
        if number < 1:
            raise ExperimentError(f"{name} is {number}", "give 1 or more")
    return settings.model_copy(update=given)


# Weights that know phase from optics need to learn new optics alone: fewer fields, smaller steps.
FINE_TUNING = TrainingSettings(fields=150, images=2, learning_rate=5e-4)
