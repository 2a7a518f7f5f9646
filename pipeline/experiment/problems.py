"""What is wrong with an experiment, key by key, as its writer sees the keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.experiment.led_arrays import TAG
from pipeline.experiment.strict import UNKNOWN_KEY, nearest

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

# Union branches put the tag into the location ("microscope.simulator.camera"): the user wrote no such key.
_TAGS = frozenset(
    {
        "simulator",
        "replay",
        "micromanager",
        "in_process",
        "pycromanager",
        "condenser",
        "led_array",
        "half_circle",
        "arc",
        "leds",
        "cells",
        "target",
    }
)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Parameters
    ----------
    path
        Of the section, or of the key, its parts joined by dots; empty where it is no single one's.
    message
        Cause and fix.
    key
        An unknown one in that section.
    line
        Of the text, from 1, where that is all that is known: it is no YAML.
    """

    path: str
    message: str
    key: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def problems_of(error: ValidationError) -> list[Problem]:
    """All of them, in the order of the model's fields."""
    # A default that follows from a key that is wrong is no mistake of its own.
    found = [
        d for d in error.errors(include_url=False) if d["type"] != "default_factory_not_called"
    ]
    return [_problem(detail) for detail in found]


def _problem(detail: ErrorDetails) -> Problem:
    parts = [str(part) for part in detail["loc"] if part not in _TAGS]
    where = ".".join(part for part in parts if not part.startswith(TAG))
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "union_tag_invalid":
        known = [
            tag.strip("' ").removeprefix(TAG) for tag in detail["ctx"]["expected_tags"].split(",")
        ]
        wrong = detail["ctx"]["tag"].removeprefix(TAG)
        message = f"there is no '{wrong}' here: {nearest(wrong, known)}"
    if detail["type"] == "missing":
        message = "it is missing: add it"
    if detail["type"] == "union_tag_not_found":
        message = f"{message}: say which kind it is"
    key = detail["ctx"]["key"] if detail["type"] == UNKNOWN_KEY else None
    return Problem(where, message, key)
