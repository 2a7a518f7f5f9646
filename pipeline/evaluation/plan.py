"""What the tables are made of: which rows, how many fields, and the cameras whose noise is met."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipeline.evaluation.noise import Floats, camera_noise, paper_noise, pixel_noise
from pipeline.evaluation.trust.plan import FULL_TRUST, QUICK_TRUST, TrustPlan
from pipeline.methods.dl_srqpi.record import OpticsRecord

PAPER = "0.01_before_binning"
NOISE_FREE = "none"

AddNoise = Callable[[Floats, np.random.Generator], Floats]


def _electrons(background_e: float) -> AddNoise:
    return lambda frame, rng: camera_noise(frame, rng, background_e)


# (frame, random numbers) → frame. The paper's first, the bound last.
NOISES: Mapping[str, AddNoise] = {
    PAPER: paper_noise,
    "0.01_after_binning": lambda frame, rng: pixel_noise(frame, rng, 0.01),
    **{f"{e}_electrons": _electrons(e) for e in (2000, 5000, 10_000, 30_000)},
    NOISE_FREE: lambda frame, _rng: frame,
}


class Row(NamedTuple):
    """The conditions of one row of a table; noise is a name from `NOISES`."""

    z_um: float
    coherence: float
    noise: str = PAPER


@dataclass(frozen=True)
class Plan:
    """How much is computed. `FULL` is what a statement rests on, `QUICK` shows that it works.

    Parameters
    ----------
    fields, field_px
        Of the headline: the first so many of the evaluation set, edge in camera pixels.
    sweep_fields, sweep_px
        Of every other row.
    tuning_fields, tuning_px
        On which the baselines without a network choose their settings; other specimens.
    defocus_um, coherences, noises
        Rows. Where the weights were trained for less, the rest is left out.
    headline_coherence
        Where the weights were trained for it.
    lens_um, lens_rad, lens_field_px
        Diameters and peaks of the microlenses.
    isolated_um
        Diameters of lenses that stand alone.
    outside_fields
        Of each row outside of the training's range.
    trust
        Of the part on alarm and scale uncertainty.
    budget_s
        What it may take on two cores that nothing else uses.
    """

    name: str = "full"
    fields: int = 14
    field_px: int = 512
    sweep_fields: int = 8
    sweep_px: int = 256
    tuning_fields: int = 4
    tuning_px: int = 128
    defocus_um: tuple[float, ...] = tuple(float(z) for z in range(1, 14))
    coherences: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4)
    noises: tuple[str, ...] = tuple(NOISES)
    headline_coherence: float = 0.2
    lens_um: tuple[float, ...] = (5.0, 10.0, 20.0, 30.0, 40.0)
    lens_rad: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0, 4.0)
    lens_field_px: int = 192
    isolated_um: tuple[float, ...] = (10.0, 20.0, 30.0, 40.0, 60.0, 80.0, 120.0)
    outside_fields: int = 4
    trust: TrustPlan = FULL_TRUST
    budget_s: float = 2400.0


FULL = Plan()
QUICK = Plan(
    name="quick",
    fields=4,
    field_px=128,
    sweep_fields=2,
    sweep_px=128,
    tuning_fields=2,
    tuning_px=128,
    defocus_um=(1.0, 4.0, 8.0, 13.0),
    coherences=(0.0, 0.2, 0.4),
    noises=(PAPER, "5000_electrons", NOISE_FREE),
    lens_um=(10.0, 20.0, 40.0),
    lens_rad=(0.5, 2.0),
    lens_field_px=96,
    isolated_um=(20.0, 60.0),
    outside_fields=1,
    trust=QUICK_TRUST,
    budget_s=90.0,
)


@dataclass(frozen=True)
class Rows:
    """The rows that one network gets."""

    headline: Row
    by_defocus: tuple[Row, ...]
    by_coherence: tuple[Row, ...]
    by_noise: tuple[Row, ...]

    @property
    def sweeps(self) -> tuple[Row, ...]:
        """All but the headline's, each once."""
        return tuple(dict.fromkeys(self.by_defocus + self.by_coherence + self.by_noise))

    @property
    def farthest_um(self) -> float:
        """Largest defocus of any."""
        return max(row.z_um for row in (self.headline, *self.sweeps))


def rows_for(plan: Plan, trained: OpticsRecord) -> Rows:
    """A plan's rows within the range that weights were trained for.

    The headline is at the z that most of the training was about.
    """
    low, high = trained.coherence_min, trained.coherence_max
    z = trained.z_um
    coherence = min(max(plan.headline_coherence, low), high)
    # For optics whose range holds few of the plan's, as many as there would be, evenly.
    defocus = [d for d in plan.defocus_um if trained.z_min_um <= d <= trained.z_max_um]
    if len(defocus) < 3:
        grid = np.linspace(trained.z_min_um, trained.z_max_um, len(plan.defocus_um))
        defocus = sorted({round(float(d), 2) for d in grid})
    coherences = [s for s in plan.coherences if low <= s <= high] or [coherence]
    headline = Row(z, coherence)
    return Rows(
        headline,
        tuple(Row(d, low) for d in defocus),
        tuple(Row(z, s) for s in coherences),
        tuple(headline._replace(noise=name) for name in plan.noises),
    )
