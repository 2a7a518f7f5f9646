"""The headline's fields and the sweeps' rows, one field at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.contenders import NETWORK, Contenders, Image, Tunings
from pipeline.evaluation.plan import Row
from pipeline.evaluation.profiles import Profile, Sheet, profile_place, sheet, take_profile
from pipeline.evaluation.scores import score
from pipeline.evaluation.setting import Setting, imaged
from pipeline.quality import phase_slope
from pipeline.quality.resolution import ring_correlation

FieldScores = Mapping[str, Mapping[str, float]]

# Fields whose profiles and pictures are kept.
_SHOWN = 4


@dataclass(frozen=True)
class HeadlineField:
    """What is kept of one field of the headline.

    Parameters
    ----------
    scores
        By contender and figure.
    slopes, areas_px
        Of each cell, by the network.
    correlations
        Fourier ring correlation by contender.
    profile, sheet
        Of the first few fields; else None.
    """

    family: str
    seed: int
    scores: FieldScores
    slopes: NDArray[np.float64]
    areas_px: NDArray[np.int64]
    correlations: Mapping[str, NDArray[np.float64]]
    profile: Profile | None
    sheet: Sheet | None


def headline_field(setting: Setting, number: int, tunings: Tunings) -> HeadlineField | None:
    """Score one field of the headline by all contenders; None where it is empty."""
    row, members = setting.rows.headline, setting.headline_set
    field = setting.field(members, number, setting.plan.field_px, row.z_um)
    if field is None:
        return None
    contenders = _contenders(setting, tunings)
    clean = imaged(field, {(z, row.coherence) for z in contenders.foci(row)})
    frames = {z: setting.noisy(frame, row, z, number) for (z, _), frame in clean.items()}
    truth = field.truth
    images: dict[str, Image] = dict(contenders.images(row, truth, frames))
    slope = phase_slope(images[NETWORK], truth)
    shown = number < _SHOWN
    place = profile_place(truth)
    pixel_um = setting.experiment.pixel_um / setting.upsampling
    return HeadlineField(
        field.family,
        field.seed,
        {name: score(image, truth, setting.upsampling) for name, image in images.items()},
        slope.slopes,
        slope.areas_px,
        {name: ring_correlation(image, truth) for name, image in images.items()},
        take_profile(field.family, place, truth, images, pixel_um) if shown else None,
        sheet(field.family, place, frames[row.z_um], truth, images) if shown else None,
    )


def sweep_field(setting: Setting, number: int, tunings: Tunings) -> Mapping[Row, FieldScores]:
    """Score one field of the sweeps under the conditions of every row; nothing where it is empty."""
    rows = setting.rows.sweeps
    field = setting.field(
        setting.sweep_set, number, setting.plan.sweep_px, setting.rows.farthest_um
    )
    if field is None:
        return {}
    contenders = _contenders(setting, tunings)
    clean = imaged(field, {(z, r.coherence) for r in rows for z in contenders.foci(r)})
    truth = field.truth
    found: dict[Row, FieldScores] = {}
    oracle: Mapping[str, float] | None = None
    for row in rows:
        frames = {
            z: setting.noisy(clean[z, row.coherence], row, z, number) for z in contenders.foci(row)
        }
        scores = {}
        for name, image in contenders.images(row, truth, frames):
            # The oracle sees the truth alone: the same in every row.
            if name == "nyquist_oracle":
                oracle = oracle or score(image, truth, setting.upsampling)
                scores[name] = oracle
            else:
                scores[name] = score(image, truth, setting.upsampling)
        found[row] = scores
    return found


def _contenders(setting: Setting, tunings: Tunings) -> Contenders:
    return Contenders(
        setting.experiment, setting.weights, setting.srcnn, setting.upsampling, tunings
    )
