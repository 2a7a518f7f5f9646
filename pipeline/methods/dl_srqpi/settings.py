"""`reconstruction.settings` of dl_srqpi. No torch."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from pipeline.experiment import Strict
from pipeline.methods.settings import Precision

Packaged = Literal["base", "fast"]


class DlSrqpiSettings(Strict):
    """The method's own settings."""

    network: Packaged = "base"
    """Which of the packaged weights, where `reconstruction.weights` names none."""
    precision: Precision = "auto"
    """Of the network's body: auto is bf16 where processor or GPU computes in it, else fp32 (in a GPU's convolutions
    TF32, torch's own setting)."""
    memory_mb: PositiveInt = 4000
    """Of inference, the phase image aside: a field that needs more is cut into tiles, with the same result."""
