"""What is known of an experiment's instrument: where it comes from, whether it fits, how it is told.

`Calibration` holds the measured values; this is what a run, a snapshot and a report make of them.
"""

from pipeline.instrument.fit import check_fit, conditions, missing_aspects
from pipeline.instrument.overview import Aspect, overview
from pipeline.instrument.resolve import apply_exposures, resolve_calibration, resolve_exposures

__all__ = [
    "Aspect",
    "apply_exposures",
    "check_fit",
    "conditions",
    "missing_aspects",
    "overview",
    "resolve_calibration",
    "resolve_exposures",
]
