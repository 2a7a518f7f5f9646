"""What protects the specimen, and how far a run goes on by itself when devices fail."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pipeline.experiment.strict import Strict


class Safety(Strict):
    """Light and lens between bursts, and the light that the specimen may get."""

    dark_after_s: NonNegativeFloat = 0.0
    """Between timepoints the light goes off, and the lens to its safe place, unless the next burst begins within
    this time. On pause, stop, abort and failure it goes off at once."""
    dose_limit_s: PositiveFloat | None = None
    """Most light per position, in seconds of full brightness: the sum of exposure times brightness. A plan
    beyond it is refused; a position that reaches it, by frames that had to be taken again, gets no more light."""


class Recovery(Strict):
    """What a run does when the camera stalls or a device goes away."""

    slot_tries: PositiveInt = 2
    """How often a timepoint is taken before its frames are recorded missing and the run goes on to the next."""
    reconnect_s: NonNegativeFloat = 600.0
    """How long to try to get the devices back before the run fails (and can be resumed). Timepoints that pass
    meanwhile are recorded missing, where there is an interval. 0: it fails at once."""
