"""What the figures of trust are worth: does the alarm ring when it should, and is the scale as certain as is said?

Frames come from the independent forward model, go through the live path (raw counts, correction, network,
`SlotReconstructor`'s quality over the whole field), and are good or have one fault. An alarm is worth what
ranking frames by it is: the area under the ROC curve, 1 where every faulty frame is above every good one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import MethodError
from pipeline.evaluation.trust.fields import (
    BOUND,
    FOCUS,
    GOOD,
    SATURATED_SHARE,
    TrustField,
    TrustSetting,
    kind_of,
    trust_field,
)
from pipeline.evaluation.trust.measures import (
    COVERAGE_FACTOR,
    DETECTED_AUC,
    detectable,
    roc_auc,
    scale_coverage,
)
from pipeline.evaluation.trust.plan import FULL_TRUST, TrustPlan
from pipeline.evaluation.workers import Job, executor
from pipeline.experiment import Experiment
from pipeline.methods.dl_srqpi.header import read_record
from pipeline.methods.dl_srqpi.record import OpticsRecord

# For comparison the network is told a z that is so many times the one that is believed, where its range has it. Of
# factors from 0.4 to 2.75, tried with an early network on the fields of seed 0, the one that told most.
_RETOLD = 2.75
_FAULTS = (
    "dust",
    "scratch",
    "saturation",
    "saturation_unflagged",
    "flipped_z",
    "foreign_detail",
)


def evaluate_trust(
    experiment: Experiment,
    weights: Path,
    *,
    plan: TrustPlan = FULL_TRUST,
    seed: int = 0,
    run: Callable[[Sequence[Job]], list[Any]] | None = None,
) -> dict[str, Any]:
    """Measure alarm and scale uncertainty of weights.

    Parameters
    ----------
    experiment
        Its optics and camera pixel; light, focus and noise are the plan's.
    plan
        How much is computed.
    seed
        Of the evaluation set.
    run
        Computes jobs, and gives their results in their own order; in this process where None.

    Returns
    -------
    dict
        ``residual_auc`` {fault: of the camera on which it is least}, with ``wrong_z`` and ``wrong_wavelength`` at
        the detectability limit (None where none that was tried is detected); ``residual_auc_by_camera``;
        ``detectable_dz_um`` and ``detectable_dlambda_nm`` {``less``, ``more``: the smallest error from which
        on AUC ≥ 0.95, or None}; ``auc_by_z_error`` and ``auc_by_wavelength_error``;
        ``focus_comparison``: the same of another figure, no part of the alarm: the frame is reconstructed once
        more, as if taken at ``told_z_um``, and ranked by how much better that explains it (worse, where the true z is
        nearer than the one that is believed);
        ``true_phase``: the same of the share that the true phase leaves unexplained, its size being free;
        ``scale_coverage``; ``usual`` (by camera: what good frames have, for the alarm's limits);
        ``trust_conditions``.

    Raises
    ------
    MethodError
        If the weights can't be used, or no field has a specimen.
    """
    record = read_record(weights)
    optics, upsampling = record.optics, record.network.upsampling
    # Weights of a narrow range of light refuse any other.
    coherence = min(max(plan.coherence, optics.coherence_min), optics.coherence_max)
    plan = replace(plan, coherence=coherence)
    setting = TrustSetting(
        experiment, weights, optics.z_um, retold_z_um(optics), upsampling, plan, seed
    )
    jobs = [(trust_field, (setting, n)) for n in range(plan.fields)]
    if run is None:
        with executor(1) as here:
            results = here(jobs, lambda: None)
    else:
        results = run(jobs)
    fields = [f for f in results if f is not None]
    if not fields:
        raise MethodError("no field of the evaluation has a specimen", "evaluate larger fields")
    nominal = {"z": setting.z_um, "wavelength": 1e3 * experiment.optics.wavelength_um}
    tried = {"z": plan.z_errors, "wavelength": plan.wavelength_errors}
    by_alarm, by_focus, by_truth = (
        {
            what: _by_error(fields, errors, what, plan.cameras, figure)
            for what, errors in tried.items()
        }
        for figure in ("alarm", FOCUS, BOUND)
    )
    limits = {what: detectable(auc, nominal[what]) for what, auc in by_alarm.items()}
    compared = {what: detectable(auc, nominal[what]) for what, auc in by_focus.items()}
    return {
        "residual_auc": {
            **{kind: _auc(fields, kind, plan.cameras) for kind in _FAULTS},
            **{
                f"wrong_{what}": _at_limit(by_alarm[what], limits[what], nominal[what])
                for what in tried
            },
        },
        "residual_auc_by_camera": {
            camera: {kind: _auc(fields, kind, [camera]) for kind in _FAULTS}
            for camera in plan.cameras
        },
        "detectable_dz_um": limits["z"],
        "detectable_dlambda_nm": limits["wavelength"],
        "auc_by_z_error": _named(by_alarm["z"]),
        "auc_by_wavelength_error": _named(by_alarm["wavelength"]),
        "focus_comparison": {
            "told_z_um": setting.retold_um,
            "detectable_dz_um": compared["z"],
            "detectable_dlambda_nm": compared["wavelength"],
            "auc_by_z_error": _named(by_focus["z"]),
            "auc_by_wavelength_error": _named(by_focus["wavelength"]),
        },
        "true_phase": {
            "auc_by_z_error": _named(by_truth["z"]),
            "auc_by_wavelength_error": _named(by_truth["wavelength"]),
        },
        "scale_coverage": scale_coverage(fields),
        "usual": {camera: _usual(fields, camera) for camera in plan.cameras},
        "trust_conditions": {
            "fields": len(fields),
            "field_px": plan.field_px,
            "z_um": setting.z_um,
            "coherence": plan.coherence,
            "cameras": list(plan.cameras),
            "fault_share": SATURATED_SHARE,
            "coverage_factor": COVERAGE_FACTOR,
            "detected_auc": DETECTED_AUC,
            "seed": seed,
        },
    }


def retold_z_um(optics: OpticsRecord) -> float:
    """Another z that the network knows, as far from its own as it may be and `_RETOLD` allows; farther if it can."""
    farther = min(_RETOLD * optics.z_um, optics.z_max_um)
    nearer = max(optics.z_um / _RETOLD, optics.z_min_um)
    return farther if farther / optics.z_um >= optics.z_um / nearer else nearer


def _values(fields: Iterable[TrustField], kind: str, camera: str, figure: str) -> list[float]:
    values = [f.alarms[camera][kind][figure] for f in fields]
    return [v for v in values if math.isfinite(v)]


def _auc(
    fields: Sequence[TrustField],
    kind: str,
    cameras: Sequence[str],
    figure: str = "alarm",
    *,
    lower: bool = False,
) -> float | None:
    """The least of the cameras: an instrument has one, and its frames are ranked among themselves.

    None where there is nothing to rank; with `lower`, faulty frames are to be below good ones.
    """
    found = []
    for camera in cameras:
        auc = roc_auc(_values(fields, GOOD, camera, figure), _values(fields, kind, camera, figure))
        found.append(1 - auc if lower else auc)
    return min(found) if np.isfinite(found).all() else None


def _by_error(
    fields: Sequence[TrustField],
    tried: Sequence[float],
    what: str,
    cameras: Sequence[str],
    figure: str,
) -> dict[float, float | None]:
    """Error → AUC, from the most negative on."""
    errors = sorted(sign * e for e in tried for sign in (-1, 1))
    return {
        e: _auc(fields, kind_of(what, e), cameras, figure, lower=figure == FOCUS and e < 0)
        for e in errors
    }


def _named(by_error: Mapping[float, float | None]) -> dict[str, float | None]:
    return {f"{e:+g}": auc for e, auc in by_error.items()}


def _at_limit(
    auc: Mapping[float, float | None], limits: Mapping[str, float | None], nominal: float
) -> float | None:
    """The least AUC of those errors that are said to be detectable."""
    beyond = [
        v
        for e, v in auc.items()
        for limit in [limits["more" if e > 0 else "less"]]
        if v is not None and limit is not None and abs(e) * nominal >= limit * (1 - 1e-6)
    ]
    return min(beyond) if beyond else None


def _usual(fields: Sequence[TrustField], camera: str) -> dict[str, dict[str, float]]:
    """Median and largest of good frames, of the figures that they have."""
    values = {f: _values(fields, GOOD, camera, f) for f in ("residual", "unexplained", "alarm")}
    return {
        figure: {"median": float(np.median(own)), "largest": float(np.max(own))}
        for figure, own in values.items()
        if own
    }
