"""What a weights file says of itself: network, optics, training. No torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.experiment import Strict

Form = Literal["residual", "sub_pixel", "paper", "srcnn"]


class UNetRecord(Strict):
    """Sizes of one U-Net of residual blocks."""

    width: int = Field(ge=4, le=256)
    """Features at the finest scale."""
    depths: tuple[PositiveInt, ...] = Field(min_length=2, max_length=7)
    """Residual blocks at each scale on each side, the finest first; the coarsest has one side."""

    @property
    def levels(self) -> int:
        """Times down and up."""
        return len(self.depths) - 1


class NetworkRecord(Strict):
    """Enough to build the network again."""

    form: Form = "residual"
    width: int = Field(default=32, ge=4, le=256)
    """Features at the finest scale."""
    levels: int = Field(default=3, ge=1, le=6)
    """Times down and up."""
    depths: tuple[PositiveInt, ...] = ()
    """Residual blocks at each scale on each side, the finest first; one each and two at the coarsest where empty."""
    earlier: tuple[UNetRecord, ...] = ()
    """U-Nets before this one, the first first; each next one is told what the phase so far leaves unexplained."""
    upsampling: int = Field(default=4, ge=1, le=8)
    """Phase pixels per camera pixel along each axis."""

    @model_validator(mode="after")
    def _one_depth_a_scale(self) -> Self:
        if self.depths and len(self.depths) != self.levels + 1:
            raise ValueError(
                f"depths {self.depths} must name {self.levels + 1} scales: levels {self.levels} and the finest"
            )
        return self

    @property
    def unets(self) -> tuple[UNetRecord, ...]:
        """Of the residual form, in their order."""
        last = UNetRecord(width=self.width, depths=self.depths or (*[1] * self.levels, 2))
        return (*self.earlier, last)

    @property
    def sizes(self) -> str:
        """In words."""
        if self.form != "residual":
            return f"{self.form}, width {self.width}, {self.levels} levels"
        unets = (f"width {u.width} with {' '.join(map(str, u.depths))} blocks" for u in self.unets)
        return f"residual, {', then '.join(unets)}"


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

    format: Literal["livephase dl_srqpi 3"] = "livephase dl_srqpi 3"
    name: str = "own"
    """The network's, in `livephase train --network`; ``own`` for other sizes."""
    network: NetworkRecord
    optics: OpticsRecord
    training: TrainingRecord
