"""What a weights file of neuph says of itself: network, light, optics, training. No torch."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.experiment import Strict


class NeuPhNetwork(Strict):
    """Enough to build the network again."""

    brightfield: PositiveInt = 2
    """Frames with brightfield light."""
    darkfield: int = Field(default=3, ge=0)
    """Frames without."""
    blocks: PositiveInt = Field(default=8, le=64)
    """Residual blocks of each of the three encoders."""
    features: PositiveInt = Field(default=48, le=512)
    """Of each encoder; the latent has three times as many."""
    trunk: tuple[PositiveInt, ...] = Field(default=(), max_length=5)
    """Features at a half, a quarter, … of the camera's resolution, where the encoders' latents are put together over
    distance; the paper has none."""
    hidden: PositiveInt = Field(default=128, le=1024)
    """Width of the decoder's hidden layers."""
    layers: int = Field(default=4, ge=2, le=16)
    """Hidden layers of the decoder."""
    decoder: Literal["field", "cnn"] = "field"
    """A network asked at any coordinates, or, to see what that is worth, convolutions with sub-pixel shuffles to one
    grid; `layers` is the field's."""
    grid: int = Field(default=6, ge=2, le=16)
    """Phase pixels per camera pixel that a decoder of convolutions makes; the field's has no grid."""

    @property
    def encoders(self) -> tuple[int, ...]:
        """Images that each encoder takes: brightfield, darkfield if there is any, DPC."""
        return tuple(n for n in (self.brightfield, self.darkfield, 1) if n)

    @property
    def latent(self) -> int:
        """Features of a latent pixel."""
        return self.features * len(self.encoders)

    @property
    def sizes(self) -> str:
        """In words."""
        encoders = f"{len(self.encoders)} encoders of {self.blocks} blocks x {self.features}"
        if self.trunk:
            encoders += (
                f", a trunk of {' '.join(map(str, self.trunk))} at 1/2 to 1/{2 ** len(self.trunk)}"
            )
        if self.decoder == "cnn":
            return f"{encoders}, decoder of convolutions to a grid {self.grid} times finer"
        return f"{encoders}, decoder of {self.layers} layers x {self.hidden}"


_COMPACT = NeuPhNetwork(blocks=3, trunk=(96, 128, 128), hidden=96, layers=3)
NETWORKS = {
    "compact": _COMPACT,
    "paper": NeuPhNetwork(blocks=32, features=128, hidden=256, layers=5),
    "cnn_decoder": _COMPACT.model_copy(update={"decoder": "cnn"}),
    "no_darkfield": _COMPACT.model_copy(update={"darkfield": 0}),
}
"""The last two leave out a part of the compact one each: ablations, for `livephase evaluate neuph`."""


class PatternRecord(Strict):
    """The light of one frame."""

    sines: tuple[tuple[float, float], ...] = Field(min_length=1)
    """(x, y) direction of each of its LEDs, in the camera's axes."""
    brightfield: bool


class LightRecord(Strict):
    """The optics and patterns of the training data: frames under others give a wrong phase."""

    wavelength_um: PositiveFloat
    numerical_aperture: PositiveFloat
    refractive_index: float = Field(ge=1)
    pixel_um: PositiveFloat
    """Camera pixel (after binning) at the sample."""
    z_um: float = 0.0
    """Of the frames."""
    patterns: tuple[PatternRecord, ...] = Field(min_length=2)
    """Of the frames, brightfield first."""

    @property
    def synthetic_na(self) -> float:
        """What the patterns' farthest LED adds to the objective's NA: detail finer than λ over it is interpolation."""
        reach = max(math.hypot(x, y) for p in self.patterns for x, y in p.sines)
        return reach + self.numerical_aperture

    @model_validator(mode="after")
    def _brightfield_first(self) -> Self:
        order = [not p.brightfield for p in self.patterns]
        if order != sorted(order):
            raise ValueError("patterns must name brightfield frames before darkfield ones")
        return self


class InputScale(Strict):
    """What each input image is brought to zero mean and unit variance with, from the training data."""

    mean: tuple[float, ...]
    """Of each frame, then of the DPC phase."""
    deviation: tuple[PositiveFloat, ...]


class TrainingRecord(Strict):
    """Where the weights come from, so that they can be made again."""

    seed: int
    steps: PositiveInt
    fields: PositiveInt
    upsampling: PositiveInt
    """Phase pixels per camera pixel of the training data."""
    data: str
    """What the specimens were."""
    begun_from: str = ""
    """sha256 of the weights that a fine-tuning began with; empty where it began with none."""
    minutes: float
    validation: dict[str, float]
    livephase: str
    torch: str


class WeightsRecord(Strict):
    """The metadata of a weights file."""

    format: Literal["livephase neuph 1"] = "livephase neuph 1"
    name: str = "own"
    """The network's, in `livephase train --network`; ``own`` for other sizes."""
    network: NeuPhNetwork
    light: LightRecord
    """Of the frames that it takes."""
    truth_na: PositiveFloat | None = None
    """What the truth was low-passed at, where that is more than the light shows; none: the light's synthetic NA."""
    scale: InputScale
    training: TrainingRecord
