"""A run that looks after itself: alarms, and pauses of its own until all is well again.

Once a second the supervisor lets `Watch` look. What it finds (`figures`) goes through hysteresis (`alarms`), and what
comes of it is told: as metrics, in the run folder (`state`), in the log, to the user, to a webhook. Everything that
could keep it waiting, a disk, a GPU's driver, a far server, is asked from threads.
"""

from pipeline.lifecycle.care.drift import first_residuals
from pipeline.lifecycle.care.state import care_report, read_alarms, read_care, read_suspended
from pipeline.lifecycle.care.watch import StageLook, Watch

__all__ = [
    "StageLook",
    "Watch",
    "care_report",
    "first_residuals",
    "read_alarms",
    "read_care",
    "read_suspended",
]
