"""What becomes of a calibration session, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipeline.calibrate.step import CalibrationRefusedError
from pipeline.calibration import Calibration
from pipeline.errors import LivephaseError


class Answer(StrEnum):
    """What the person at the microscope says to a request."""

    READY = "ready"
    SKIP = "skip"
    STOP = "stop"


class Outcome(StrEnum):
    """What became of a step."""

    MEASURED = "measured"
    REFUSED = "refused"
    SKIPPED = "skipped"  # by the person, or because what it rests on was refused
    NOT_NEEDED = "not needed"


@dataclass(frozen=True)
class StepResult:
    """One step of a session: the outcome, and what there is to say of it."""

    outcome: Outcome
    summary: str = ""
    warnings: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)
    error: LivephaseError | None = None


@dataclass(frozen=True)
class SessionResult:
    """How a session ended.

    `stopped`: by the person, before its last step; what was measured is kept.
    """

    folder: Path
    calibration: Calibration
    steps: dict[str, StepResult]
    missing: list[str]
    stopped: bool = False

    @property
    def refused(self) -> list[str]:
        """Steps whose data was refused."""
        return [n for n, s in self.steps.items() if s.outcome is Outcome.REFUSED]

    @property
    def error(self) -> LivephaseError | None:
        """What a command ends with; None if no step was refused."""
        if not self.refused:
            return None
        return CalibrationRefusedError(
            f"refused: {', '.join(self.refused)}",
            "do what is said there, then give the same command with the steps that are left",
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "folder": str(self.folder),
            "ok": not self.refused and not self.stopped,
            "stopped": self.stopped,
            "steps": {
                name: {
                    "outcome": step.outcome.value,
                    "summary": step.summary,
                    "warnings": list(step.warnings),
                    "figures": step.figures,
                }
                | (
                    {"cause": step.error.cause, "fix": step.error.fix}
                    if step.error is not None
                    else {}
                )
                for name, step in self.steps.items()
            },
            "missing": self.missing,
        }
