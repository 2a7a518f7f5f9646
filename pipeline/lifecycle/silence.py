"""How long an acquire stage may show no sign of life with the light on before it is taken to hang for good."""

from __future__ import annotations

import math

from pipeline.experiment import Experiment
from pipeline.experiment.micromanager import MicroManagerMicroscope

# Far beyond what a driver takes that gives up by itself: killing it fails the run.
_HUNG_S = 120.0


def longest_silence_s(experiment: Experiment) -> float:
    """Seconds, beyond the slowest frame and the driver's own time-outs. Infinite for a recording: it has no light."""
    microscope = experiment.microscope
    if microscope.driver == "replay":
        return math.inf
    patience_s = 0.0
    if isinstance(microscope, MicroManagerMicroscope):
        patience = microscope.patience
        patience_s = patience.tries * (
            patience.first_frame_s + patience.frame_s + patience.device_s
        )
    slowest_ms = max(channel.exposure_ms for channel in experiment.plan().channels)
    return _HUNG_S + patience_s + 2 * slowest_ms / 1e3
