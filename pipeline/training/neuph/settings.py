"""What a training of neuph is made of; every value that decides the weights."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from pipeline.methods.neuph.record import NETWORKS, NeuPhNetwork
from pipeline.training.settings import Schedule

Specimens = Literal["living", "stained"]


class NeuPhTraining(Schedule):
    """Of one training of neuph."""

    learning_rate: PositiveFloat = 1e-3
    network: NeuPhNetwork = NETWORKS["compact"]
    fields: PositiveInt = 900
    """Specimens to train on."""
    validation_fields: PositiveInt = 12
    field_px: int = Field(default=100, ge=24)
    """Edge of a field in camera pixels."""
    upsampling: PositiveInt = 6
    """Phase pixels per camera pixel of the fields."""
    leaves_share: float = Field(default=0.25, ge=0, le=1)
    """Of the specimens, fields like natural images (dead leaves); the others are cells of all kinds."""
    fine_share: float = Field(default=0.12, ge=0, le=1)
    """Of the specimens, charts of bars, gratings and stars: what darkfield frames show of fine periods, they show by
    what neighbours each other, and cells have few. Of twice as many, an hour's fine-tuning of compact (one core, 1600
    new fields) showed no more of the bars (0.21 at 3.15 µm, 0.08 at 2.52), and cells became worse (0.0052 to 0.0063
    rad²)."""
    specimens: Specimens = "living"
    """living: most are clear, some absorb a little. stained: smears and sections, which take light as well as delay
    it, with grain and stray light."""
    recorded_share: float = Field(default=0.5, gt=0, le=1)
    """Of the crops, where there are recordings; 1 trains on them alone, a single pair is enough to begin with."""
    crop_px: int = Field(default=56, ge=8)
    """Edge of what the encoders see at a time, in camera pixels."""
    batch: PositiveInt = 6
    queries: PositiveInt = 2304
    """Coordinates asked of each crop."""
    background_e: tuple[PositiveFloat, PositiveFloat] = (2000.0, 30_000.0)
    """Range of the brightfield background in electrons a pixel; darkfield frames have as much light as the
    experiment's exposures give them."""
    read_noise_e: float = Field(default=1.8, ge=0)


# Steps as large as from random weights undo what those to begin from know: in the first tenth of an hour, compact's
# error in validation went from 0.165 to 0.207 rad; in these to 0.177.
FINE_TUNING = NeuPhTraining(learning_rate=4e-4)
