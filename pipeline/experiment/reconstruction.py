"""Which method reconstructs, with what, where."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveInt

from pipeline.experiment.strict import Strict


class ReconstructionSettings(Strict):
    """The method and its settings; `method: none` records only."""

    method: str = "none"
    """Name of an entry point in the group `livephase.methods`: dpc, tie, dl_srqpi, …"""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The method's own settings, checked by the method."""
    weights: str | None = None
    """A safetensors file; none: the weights that come with livephase, where they fit these optics."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: PositiveInt = Field(default=1, le=64)
    """Processes; one per GPU."""


class OutputSettings(Strict):
    """How the run is stored. Where it goes is said on the command line, not here."""

    compression: Literal["lz4", "zstd", "none"] = "lz4"
    """Of raw frames: lz4 is faster than no compression; zstd is smaller and slower."""
    shard_s: float = Field(default=1.0, gt=0, le=60)
    """Seconds of frames in one file, where a timepoint takes less."""
    ring_gb: float = Field(default=4.0, gt=0)
    """Most memory for frames in flight. At least ten seconds of frames are wanted: less is said so."""
    prometheus_port: int | None = Field(default=None, ge=0, le=65535)
    """Serve metrics on 127.0.0.1 at this port; 0: any free one."""
