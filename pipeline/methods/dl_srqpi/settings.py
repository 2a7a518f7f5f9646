"""`reconstruction.settings` of dl_srqpi. No torch."""

from __future__ import annotations

from typing import Literal

from pipeline.experiment import Strict

Precision = Literal["auto", "fp32", "bf16"]


class DlSrqpiSettings(Strict):
    """The method's own settings."""

    precision: Precision = "auto"
    """Of the network's body: auto is bf16 where the processor computes in it, else fp32."""
