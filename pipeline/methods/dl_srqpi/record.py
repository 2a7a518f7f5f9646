"""What a weights file says of itself: network, optics, normalisation, training. No torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.experiment import Strict

# Phase pixels per camera pixel along each axis; the paper's figure and the forms' only one.
UPSAMPLING = 4


class NetworkRecord(Strict):
    """Enough to build the network again."""

    form: Literal["paper", "sub_pixel"] = "sub_pixel"
    width: int = Field(default=32, ge=4, le=256)
    """Features at the finest scale."""
    levels: int = Field(default=4, ge=1, le=6)
    """Times down and up."""


class OpticsRecord(Strict):
    """The optics of the training data: a frame of other optics gives a wrong phase."""

    wavelength_um: float = Field(gt=0)
    numerical_aperture: float = Field(gt=0)
    refractive_index: float = Field(ge=1)
    pixel_um: float = Field(gt=0)
    """Camera pixel (after binning) at the sample."""
    z_um: float
    """True defocus, not the commanded one."""
    coherence_min: float = Field(ge=0)
    coherence_max: float = Field(ge=0)


class TrainingRecord(Strict):
    """Where the weights come from, so that they can be made again."""

    seed: int
    steps: int
    samples: int
    """Patches seen."""
    fields: int
    noise: tuple[float, float]
    """Range of the noise's standard deviation, of the background, per camera pixel."""
    minutes: float
    validation: dict[str, float]
    livephase: str
    torch: str


class WeightsRecord(Strict):
    """The metadata of a weights file."""

    format: Literal["livephase dl_srqpi 1"] = "livephase dl_srqpi 1"
    network: NetworkRecord
    optics: OpticsRecord
    contrast_gain: float = Field(gt=0)
    """A frame I enters the network as ``(I / mean(I) - 1) * contrast_gain``."""
    training: TrainingRecord
