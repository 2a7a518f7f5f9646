"""What a weights file says of itself: network, optics, training. No torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.experiment import Strict

Form = Literal["residual", "sub_pixel", "paper", "srcnn"]


class NetworkRecord(Strict):
    """Enough to build the network again."""

    form: Form = "residual"
    width: int = Field(default=32, ge=4, le=256)
    """Features at the finest scale."""
    levels: int = Field(default=3, ge=1, le=6)
    """Times down and up."""
    depth: int = Field(default=1, ge=1, le=8)
    """Residual blocks at each scale on each side; twice as many at the coarsest."""
    stride: Literal[1, 2] = 1
    """Camera pixels per feature pixel at the finest scale; 2 is half the time and less detail."""
    upsampling: int = Field(default=4, ge=1, le=8)
    """Phase pixels per camera pixel along each axis."""


class OpticsRecord(Strict):
    """The optics of the training data: a frame of other optics gives a wrong phase."""

    wavelength_um: PositiveFloat
    numerical_aperture: PositiveFloat
    refractive_index: float = Field(ge=1)
    pixel_um: PositiveFloat
    """Camera pixel (after binning) at the sample."""
    z_um: PositiveFloat
    """True defocus, not the commanded one, that most of the training was about."""
    z_min_um: PositiveFloat
    z_max_um: PositiveFloat
    coherence_min: float = Field(ge=0, le=1)
    coherence_max: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.z_min_um <= self.z_um <= self.z_max_um:
            raise ValueError(
                f"z_um {self.z_um} lies outside of {self.z_min_um} to {self.z_max_um} µm"
            )
        if self.coherence_min > self.coherence_max:
            raise ValueError("coherence_min is larger than coherence_max")
        return self


class TrainingRecord(Strict):
    """Where the weights come from, so that they can be made again."""

    seed: int
    steps: PositiveInt
    samples: PositiveInt
    """Patches seen."""
    fields: PositiveInt
    images: PositiveInt
    """Frames of different fields, defocus or coherence."""
    data: str
    """What the specimens were."""
    begun_from: str = ""
    """sha256 of the weights that a fine-tuning began with; empty where it began with none."""
    noise: tuple[float, float]
    """Range of the noise's standard deviation, of the background, per camera pixel."""
    minutes: float
    validation: dict[str, float]
    livephase: str
    torch: str


class WeightsRecord(Strict):
    """The metadata of a weights file."""

    format: Literal["livephase dl_srqpi 2"] = "livephase dl_srqpi 2"
    name: str = "own"
    """The network's, in `livephase train --network`; ``own`` for other sizes."""
    network: NetworkRecord
    optics: OpticsRecord
    training: TrainingRecord
