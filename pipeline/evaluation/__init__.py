"""How good a method's network is: specimens that it never saw, imaged by a second forward model.

Nothing of `pipeline.training` or `pipeline.samples` is used here, nor `pipeline.optics` for the
frames. torch is imported when a table is made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment, nearest

EVALUABLE = ("dl_srqpi",)


def evaluate(method: str, experiment: Experiment, *, weights: Path | None = None) -> dict[str, Any]:
    """Score a method's network on specimens that it never saw, beside its baselines.

    Raises
    ------
    ExperimentError
        If there is nothing to evaluate in the method.
    """
    if method not in EVALUABLE:
        raise ExperimentError(
            f"there is no network to evaluate in '{method}'", nearest(method, EVALUABLE)
        )
    from pipeline.evaluation.dl_srqpi import evaluate_dl_srqpi  # noqa: PLC0415 - torch

    return evaluate_dl_srqpi(experiment, weights)
