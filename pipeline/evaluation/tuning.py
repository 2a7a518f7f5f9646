"""The TIE baselines' settings: each gets, for each row, those with the best SSIM on specimens of their own.

Both ways to take two frames (at -z and +z, or at 0 and z) and the regularisation are chosen anew for
every defocus, coherence and noise, as a patient user would; the specimens are of the same families as
those of the tables, with other seeds, so that nothing is chosen on what is then scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.evaluation.contenders import TUNED, Contenders, Tuning, Tunings
from pipeline.evaluation.plan import Row
from pipeline.evaluation.setting import Setting, imaged
from pipeline.quality import align_piston, ssim

# Where the inverse Laplacian turns over: periods from 180·λ/NA down to 11·λ/NA.
REGULARISATIONS = (3e-5, 1e-4, 2e-4, 4e-4, 8e-4, 2e-3, 8e-3)
_PAIRS = (-1.0, 0.0)

Trials = Mapping[tuple[Row, str, Tuning], float]


def trials(setting: Setting, number: int) -> Trials:
    """SSIM of every choice for every row, on one of the tuning's specimens; nothing where its field is empty."""
    rows = (setting.rows.headline, *setting.rows.sweeps)
    found: dict[tuple[Row, str, Tuning], float] = {}
    field = setting.field(
        setting.tuning_set, number, setting.plan.tuning_px, setting.rows.farthest_um
    )
    if field is None:
        return found
    foci = {(pair * r.z_um, r.coherence) for r in rows for pair in (*_PAIRS, 1.0)}
    clean = imaged(field, foci)
    contenders = Contenders(
        setting.experiment, setting.weights, setting.srcnn, setting.upsampling, {}
    )
    truth = field.truth
    for row in dict.fromkeys(rows):
        frames = {
            z: setting.noisy(clean[z, row.coherence], row, z, number)
            for z in (row.z_um, *(pair * row.z_um for pair in _PAIRS))
        }
        even = np.ones_like(frames[row.z_um])
        for name in TUNED:
            for pair in (0.0,) if name == "bicubic" else _PAIRS:
                first = even if name == "bicubic" else frames[pair * row.z_um]
                for regularisation in REGULARISATIONS:
                    choice = Tuning(pair, regularisation)
                    image = contenders.tie(name, row, choice, first, frames[row.z_um])
                    found[row, name, choice] = ssim(align_piston(image, truth), truth)
    return found


def best(of_fields: Sequence[Trials]) -> Tunings:
    """The choices with the greatest mean."""
    chosen: dict[Row, dict[str, tuple[float, Tuning]]] = {}
    held = [field for field in of_fields if field]
    for row, name, choice in held[0] if held else ():
        mean = float(np.mean([field[row, name, choice] for field in held]))
        have = chosen.setdefault(row, {})
        if name not in have or mean > have[name][0]:
            have[name] = (mean, choice)
    return {
        row: {name: have[name][1] for name in TUNED if name in have} for row, have in chosen.items()
    }
