"""A method's own settings: strict, and refused in the same words as the rest of the experiment."""

from __future__ import annotations

from typing import Literal, TypeVar

from pydantic import ValidationError

from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment, Strict

Settings = TypeVar("Settings", bound=Strict)

Precision = Literal["auto", "fp32", "bf16"]
"""Of a network's layers; see `pipeline.methods.precision`."""


def read_settings(model: type[Settings], experiment: Experiment) -> Settings:
    """`experiment.reconstruction.settings` as the method's model.

    Raises
    ------
    ExperimentError
        For an unknown key (naming the nearest known one) or an impossible value.
    """
    try:
        return model.model_validate(experiment.reconstruction.settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(["reconstruction.settings", *(str(part) for part in first["loc"])])
        raise ExperimentError(
            f"{key}: {first['msg'].removeprefix('Value error, ')}",
            f"method {experiment.reconstruction.method} knows {', '.join(model.model_fields)}",
        ) from error
