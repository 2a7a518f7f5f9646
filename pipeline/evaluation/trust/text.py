"""What `evaluate_trust` found, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.evaluation.text import number, table

_FAULTS: Mapping[str, str] = {
    "dust": "dust, 1 % of the field",
    "scratch": "scratch, 1 % of the field",
    "saturation": "saturation, 1 % of the pixels",
    "saturation_unflagged": "the same in a well of unknown level",
    "flipped_z": "z of the wrong sign",
    "foreign_detail": "another cell's fine detail",
}
_ERRORS: Mapping[str, str] = {"z": "z", "wavelength": "λ"}


def trust_sections(data: Mapping[str, Any]) -> Iterable[str]:
    """Paragraphs and tables in Markdown."""
    told = data["trust_conditions"]
    yield (
        "Area under the ROC curve (AUC) of the alarm of a live run, a full frame against a full frame: 1 where every "
        f"faulty frame is above every good one, 0.5 is chance. {told['fields']} fields of {told['field_px']}² camera "
        f"pixels, z = {told['z_um']:g} µm, S = {told['coherence']:g}; of several cameras the worst counts."
    )
    yield table(
        ["fault", "AUC", *(c.replace("_", " ") for c in told["cameras"])],
        [
            [
                name,
                number(data["residual_auc"][kind], 3),
                *(number(data["residual_auc_by_camera"][c][kind], 3) for c in told["cameras"]),
            ]
            for kind, name in _FAULTS.items()
        ],
    )
    yield (
        "A wrong z or λ hardly shows in one defocused frame: its contrast goes nearly as λ·z·φ, so a phase of another "
        "size explains it as well. `alarm` is what a run has. `told another z` is no part of it: the frame is "
        f"reconstructed once more as if taken at {data['focus_comparison']['told_z_um']:g} µm, and what the two leave "
        "unexplained is compared. `true phase` is the unexplained share when the phase is the true one but for its "
        "size, which no network can know. At -100 % the specimen is in focus, below it the focus is on its wrong side, "
        "which the alarm tells by the sign that cells have."
    )
    for what, name in _ERRORS.items():
        yield _errors(data, what, name)
    yield (
        f"Detectability limit: the error from which on all that were tried have AUC ≥ {told['detected_auc']:g}, where "
        "z or λ is less or more than the instrument believes."
    )
    yield _limits(data)
    yield _coverage(data)


def _errors(data: Mapping[str, Any], what: str, name: str) -> str:
    key = f"auc_by_{what}_error"
    columns = (data[key], data["focus_comparison"][key], data["true_phase"][key])
    return table(
        [f"AUC at an error of {name}", "alarm", "told another z", "true phase"],
        [
            [f"{100 * float(error):+g} %", *(number(column[error], 2) for column in columns)]
            for error in data[key]
        ],
    )


def _limits(data: Mapping[str, Any]) -> str:
    columns = (data, data["focus_comparison"])
    return table(
        ["detectability limit", "alarm: less", "more", "told another z: less", "more"],
        [
            [
                f"{name}, {unit}",
                *(
                    _limit(column[key][side], [e for e in data[tried] if e.startswith(sign)])
                    for column in columns
                    for side, sign in (("less", "-"), ("more", "+"))
                ),
            ]
            for name, unit, key, tried in (
                ("z", "µm", "detectable_dz_um", "auc_by_z_error"),
                ("λ", "nm", "detectable_dlambda_nm", "auc_by_wavelength_error"),
            )
        ],
    )


def _limit(limit: float | None, tried: Sequence[str]) -> str:
    if limit is None:
        return f"none up to {100 * max(abs(float(e)) for e in tried):g} %"
    return f"{limit:g}"


def _coverage(data: Mapping[str, Any]) -> str:
    k = data["trust_conditions"]["coverage_factor"]
    rows = data["scale_coverage"]
    if not rows:
        return "No field has a cell whose scale could be measured."
    lead = (
        f"Scale uncertainty: share of fields whose phase is as right as is said (k = {k:g}), z being drawn from its "
        "calibration's distribution. `by z` is the change of the phase slope that z brings; `in all` the slope's whole "
        "distance from 1, in which the network's own error is, that the uncertainty doesn't claim to hold."
    )
    return (
        lead
        + "\n\n"
        + table(
            [
                "σ of z",
                "stated (k = 1)",
                "found by z",
                "covered",
                "found in all",
                "covered",
                "trials",
            ],
            [
                [
                    f"{100 * float(sigma):g} %",
                    "-" if row["stated"] is None else f"{100 * row['stated']:.1f} %",
                    f"{100 * row['found']:.1f} %",
                    f"{100 * row['covered']:.0f} %",
                    f"{100 * row['found_in_all']:.1f} %",
                    f"{100 * row['covered_in_all']:.0f} %",
                    f"{row['trials']:.0f}",
                ]
                for sigma, row in rows.items()
            ],
        )
    )
