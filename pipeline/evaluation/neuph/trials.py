"""The same specimens seen by microscopes that are not quite what the methods believe, and under less light."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluation.neuph.contenders import NEUPH, TWO_AXES, Contenders
from pipeline.evaluation.neuph.fields import PatternField, Reality

_FIGURES = ("ssim", "mse")
# Of the NA: how far off LEDs are seen from the edge of the field.
_EDGE_OFF = 0.15
# At the edge of the field: rms radians over the pupil, and the power of the distance from the axis with which it grows.
_FIELD_ABERRATIONS = {"astigmatism_0": (0.25, 2), "coma_x": (0.15, 1), "defocus": (0.3, 2)}


@dataclass(frozen=True)
class Trial:
    """A row of the table.

    Parameters
    ----------
    electrons
        Brightfield background a pixel; the plan's where None.
    """

    name: str
    reality: Reality
    electrons: float | None = None


def trials(numerical_aperture: float) -> list[Trial]:
    """All of them, the first as the methods believe.

    LEDs are off by shares of the objective's NA: 15 % of 0.1 is a millimetre at 68 mm.
    """

    def off(share: float) -> tuple[float, float]:
        return share * numerical_aperture, 0.0

    def beside(share: float) -> Trial:
        # From beside the axis all LEDs are seen farther to the other side: at the field's edge by 15 % of the NA.
        aberration = {n: size * share**power for n, (size, power) in _FIELD_ABERRATIONS.items()}
        return Trial(
            f"patch at {share:.0%} of the field's radius, aberrated",
            Reality(moved=off(-_EDGE_OFF * share), aberration_rad=aberration),
        )

    return [
        Trial("as believed", Reality()),
        *(
            Trial(f"array off by {share:.0%} of the NA", Reality(moved=off(share)))
            for share in (0.04, 0.08, 0.15)
        ),
        *(Trial(f"array turned by {d:g} degrees", Reality(turned_deg=d)) for d in (2.0, 5.0)),
        *(Trial(f"{e:,.0f} electrons", Reality(), e) for e in (1000.0, 3000.0, 30_000.0)),
        *(beside(share) for share in (0.5, 1.0)),
    ]


def tried(
    contenders: Contenders,
    members: Sequence[tuple[str, int]],
    some: Sequence[Trial],
    field: Callable[[str, int, Trial], PatternField],
    score: Callable[[Any, PatternField], dict[str, float]],
) -> list[dict[str, Any]]:
    """For each trial mean SSIM and MSE over the specimens, of NeuPh and of two-axis DPC."""
    rows = []
    for trial in some:
        found: dict[str, list[list[float]]] = {NEUPH: [], TWO_AXES: []}
        for kind, seed in members:
            seen = field(kind, seed, trial)
            for name, of in found.items():
                figures = score(contenders(name, seen), seen)
                of.append([figures[f] for f in _FIGURES])
        rows.append(
            {
                "trial": trial.name,
                **{
                    name: dict(zip(_FIGURES, np.mean(of, 0).tolist(), strict=True))
                    for name, of in found.items()
                },
            }
        )
    return rows
