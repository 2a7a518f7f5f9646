"""What happens beyond the range that a network was trained for.

The method refuses z and S there. These rows go around it, through `DlSrqpiReconstructor` with the true
conditions, to show what its refusal spares: nothing here is offered to users.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from pipeline.evaluation.contenders import reconstruct, taken
from pipeline.evaluation.field_set import EvaluationField
from pipeline.evaluation.forward import Conditions
from pipeline.evaluation.plan import Row
from pipeline.evaluation.scores import score
from pipeline.evaluation.setting import Setting
from pipeline.methods.dl_srqpi.fit import true_conditions
from pipeline.methods.dl_srqpi.inference import DlSrqpiReconstructor
from pipeline.methods.dl_srqpi.record import OpticsRecord
from pipeline.methods.dl_srqpi.weights import load_network
from pipeline.quality import phase_slope

# Of the range of z, below its lower end and above its upper one; of S, added to it.
_NEARER, _FARTHER = 0.5, (1.25, 1.5)
_LESS_COHERENT = (0.1, 0.2)
_OTHER_WAVELENGTH = 0.03


@dataclass(frozen=True)
class Deviation:
    """A condition that training has not met.

    Parameters
    ----------
    row
        What the network is told, and what is true where nothing else is said.
    change
        Of the specimen or the light's wavelength.
    aberration_rad
        Of the objective or the medium, by Zernike name, rad rms.
    """

    name: str
    row: Row
    change: Callable[[EvaluationField], EvaluationField] = lambda field: field
    aberration_rad: Mapping[str, float] | None = None


def deviations(inside: Row, trained: OpticsRecord) -> Iterator[Deviation]:
    """The table's rows; the first is the headline's own."""
    yield Deviation("within the range", inside)
    for z in (_NEARER * trained.z_min_um, *(more * trained.z_max_um for more in _FARTHER)):
        yield Deviation(f"z = {z:.3g} µm", inside._replace(z_um=z))
    for s in (trained.coherence_max + more for more in _LESS_COHERENT):
        yield Deviation(f"S = {s:g}", inside._replace(coherence=s))
    for peak in (8.0, 12.0):
        yield Deviation(f"thickest place {peak:g} rad", inside, _peak(peak))
    for share in (0.005, 0.01, 0.02, 0.04, 0.1, 0.2):
        yield Deviation(f"absorbs {100 * share:g} % of the amplitude", inside, _absorbing(share))
    for sign in (-1, 1):
        off = sign * _OTHER_WAVELENGTH
        yield Deviation(f"wavelength off by {100 * off:+g} %", inside, _wavelength(1 + off))
    for name in ("spherical", "coma_x", "astigmatism_0"):
        for rad in (0.2, 0.5):
            kind = name.split("_", maxsplit=1)[0]
            yield Deviation(f"{kind} {rad:g} rad rms", inside, aberration_rad={name: rad})


def outside_field(setting: Setting, number: int) -> Mapping[str, Mapping[str, float]]:
    """Figures and phase slope of one field by name of the deviation; nothing where it is empty."""
    network, record = load_network(setting.weights)
    tried = list(deviations(setting.rows.headline, record.optics))
    farthest = max(deviation.row.z_um for deviation in tried)
    field = setting.field(setting.sweep_set, number, setting.plan.sweep_px, farthest)
    if field is None:
        return {}
    rows = {}
    for number_of_row, deviation in enumerate(tried):
        changed, row = deviation.change(field), deviation.row
        taken_with = Conditions(
            row.z_um, row.coherence, aberration_rad=deviation.aberration_rad or {}
        )
        clean = changed.frames([taken_with])[0]
        frame = setting.noisy(clean, row, row.z_um, 1000 * (1 + number_of_row) + number)
        told = true_conditions(
            taken(setting.experiment, row, (row.z_um,), setting.plan.sweep_px), None, 0
        )
        found = reconstruct(DlSrqpiReconstructor(network, told), frame)
        truth = changed.truth
        slopes = phase_slope(found, truth)
        rows[deviation.name] = {
            **score(found, truth, setting.upsampling),
            "phase_slope": slopes.mean,
            "phase_slope_spread": slopes.spread,
        }
    return rows


def _peak(peak_rad: float) -> Callable[[EvaluationField], EvaluationField]:
    return lambda field: replace(
        field, drawn=field.drawn * np.float32(peak_rad / field.truth.max())
    )


def _absorbing(share: float) -> Callable[[EvaluationField], EvaluationField]:
    return lambda field: replace(
        field, absorption=field.drawn * np.float32(share / field.truth.max())
    )


def _wavelength(factor: float) -> Callable[[EvaluationField], EvaluationField]:
    def change(field: EvaluationField) -> EvaluationField:
        optics = field.optics
        other = optics.model_copy(update={"wavelength_um": optics.wavelength_um * factor})
        return replace(field, optics=other)

    return change
