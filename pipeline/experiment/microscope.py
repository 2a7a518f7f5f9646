"""The instrument: who drives it and what its camera is.

One model per driver, chosen by `driver`. Each carries only what its driver understands.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from pipeline.experiment.camera import Camera
from pipeline.experiment.micromanager import MicroManagerMicroscope
from pipeline.experiment.simulator import SimulatorMicroscope
from pipeline.experiment.strict import Strict


class ReplayMicroscope(Strict):
    """A recording takes the microscope's place."""

    driver: Literal["replay"]
    camera: Camera
    source: str
    """A run folder, OME-Zarr, TIFF, .npy or .mat; relative to the experiment file or to $LIVEPHASE_DATA."""
    pace: Literal["recorded", "fast"] | PositiveFloat = "recorded"
    """At the recording's own times, as fast as possible, or at this many frames a second."""
    loop: bool = False
    """Begin again at the end of the recording (a demonstration on few frames)."""


Microscope = Annotated[
    SimulatorMicroscope | MicroManagerMicroscope | ReplayMicroscope, Field(discriminator="driver")
]
