"""What every part of the tables is told: plain data, so that it can be sent to another process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.evaluation.field_set import EvaluationField, EvaluationSet, evaluation_field
from pipeline.evaluation.forward import Conditions, Floats
from pipeline.evaluation.plan import NOISES, Plan, Row, Rows
from pipeline.experiment import Experiment

# Of the evaluation set that the baselines' settings are chosen on, added to the tables' own seed.
_TUNING_SEED = 1


@dataclass(frozen=True)
class Setting:
    """An instrument, the networks and what is computed.

    Parameters
    ----------
    srcnn
        Its weights, or None where there are none.
    seed
        Of the evaluation set and all noise.
    """

    experiment: Experiment
    weights: Path
    srcnn: Path | None
    upsampling: int
    plan: Plan
    rows: Rows
    seed: int

    @property
    def headline_set(self) -> EvaluationSet:
        """Of the headline."""
        return EvaluationSet(self.seed, self.plan.fields)

    @property
    def sweep_set(self) -> EvaluationSet:
        """Of all other rows."""
        return EvaluationSet(self.seed, self.plan.sweep_fields)

    @property
    def tuning_set(self) -> EvaluationSet:
        """Other specimens of the same families."""
        return EvaluationSet(self.seed + _TUNING_SEED, self.plan.tuning_fields)

    def field(
        self, members: EvaluationSet, number: int, side: int, farthest_um: float
    ) -> EvaluationField | None:
        """Draw a member of a set; None where a small field happens to have nothing in it."""
        field = evaluation_field(
            *members.members[number],
            self.experiment.optics,
            self.experiment.pixel_um,
            side,
            self.upsampling,
            farthest_um=farthest_um,
        )
        return field if field.truth.any() else None

    def noisy(self, clean: Floats, row: Row, focus_um: float, number: int) -> Floats:
        """A row's noise on a frame; the same one for the same field, row and focus, whatever the upsampling."""
        names = list(NOISES)
        rng = np.random.default_rng(
            [
                self.seed,
                number,
                round(1e3 * (focus_um + 100)),
                round(1e3 * row.coherence),
                names.index(row.noise),
            ]
        )
        return np.asarray(NOISES[row.noise](clean, rng), np.float32)


def imaged(
    field: EvaluationField, wanted: Iterable[tuple[float, float]]
) -> Mapping[tuple[float, float], Floats]:
    """Frames without noise by (z, S), each imaged once."""
    unique = sorted(set(wanted))
    frames = field.frames([Conditions(z, s) for z, s in unique])
    return dict(zip(unique, frames, strict=True))
