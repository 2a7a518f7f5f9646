"""What every calibration step is: what it needs of the user, what it measures, what it leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from drivers.taking import Microscope
from pipeline.calibration import Calibration
from pipeline.errors import LivephaseError
from pipeline.experiment import Experiment

# What the person at the microscope has to put under the objective first.
Subject = Literal["anything", "empty field", "specimen", "grating"]


class CalibrationRefusedError(LivephaseError):
    """The frames don't allow this measurement; the calibration stays as it was."""

    exit_code = 7


@dataclass(frozen=True)
class Finding:
    """What a step found.

    Parameters
    ----------
    calibration
        The calibration as it was before, with this step's fields replaced.
    figures
        What was measured, with uncertainties and conditions, units in the names: for `Calibration.steps`
        and the report. Plain JSON values.
    summary
        The same in one or two lines for the person who waits.
    warnings
        What is measured all the same and should be mended ("channel 'right' is 12 % darker").
    """

    calibration: Calibration
    figures: dict[str, Any]
    summary: str
    warnings: tuple[str, ...] = field(default=())


class Step(Protocol):
    """One calibration step. An instance holds its options, as plain typed attributes with defaults."""

    name: str
    """As the command line calls it: ``dark``, ``flat``, …"""
    subject: Subject
    """What has to lie under the objective; ``anything`` where the light is off or it does not matter."""
    purpose: str
    """One sentence for the guided session: what is measured, and why it matters to the phase."""

    def needed(self, experiment: Experiment) -> str | None:
        """Why this experiment has no use for the step ("a condenser has no LEDs to orient"); None if it has."""
        ...

    def measure(
        self, microscope: Microscope, experiment: Experiment, known: Calibration
    ) -> Finding:
        """Take frames and measure.

        Parameters
        ----------
        microscope
            Open; frames of any variation of `experiment` can be taken with it (`pipeline.experiment.vary`).
        known
            What earlier steps found: a flat needs the dark.

        Raises
        ------
        CalibrationRefusedError
            If the data is bad: says why, and what to do.
        DriverError
            If the microscope fails.
        """
        ...
