"""Strict models: unknown keys are refused, and the nearest known one is named."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

# Type of the error, whose context names the key.
UNKNOWN_KEY = "unknown_key"


def nearest(name: str, known: Iterable[str]) -> str:
    """``"did you mean 'x'?"`` for the closest known name, or the list of known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"


class Strict(BaseModel):
    """Base of every model in an experiment: immutable, no unknown keys, no NaN."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _name_the_nearest_key(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise PydanticCustomError(
                        UNKNOWN_KEY,
                        "unknown key '{key}': {near}",
                        {"key": str(key), "near": nearest(str(key), cls.model_fields)},
                    )
        return data
