"""`livephase evaluate neuph`: the tables."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.evaluation.neuph.contenders import (
    ABLATIONS,
    BASELINES,
    NEUPH,
    OBJECT_FIELD,
    TWO_AXES,
    Contenders,
    Stage,
    make_stage,
    nominal_light,
)
from pipeline.evaluation.neuph.densities import densities
from pipeline.evaluation.neuph.fields import (
    AS_BELIEVED,
    BARS,
    EMPTY,
    LEAVES,
    PatternField,
    Reality,
    pattern_field,
)
from pipeline.evaluation.neuph.plan import NeuPhPlan
from pipeline.evaluation.neuph.resolution import RESOLVED, resolved
from pipeline.evaluation.neuph.scores import FIGURES, mean_scores, score
from pipeline.evaluation.neuph.trials import trials, tried
from pipeline.evaluation.specimens.bars import EXTENT_UM
from pipeline.evaluation.text import number, table
from pipeline.experiment import Experiment
from pipeline.methods.contract import Continuous
from pipeline.methods.neuph.fit import read_record, weights_path
from pipeline.methods.weights_file import sha256

# A neural field for one object takes a minute: so many of the cells get one.
_OBJECT_FIELDS = 2
_TRIED = (NEUPH, TWO_AXES)
_DIGITS = {"psnr_db": 1, "frc_cutoff": 2, "mse": 4}


def evaluate_neuph(
    experiment: Experiment, weights: Path | None, plan: NeuPhPlan, report: Callable[[str], None]
) -> dict[str, Any]:
    """Figures on cells and on dead leaves beside the baselines.

    Returns
    -------
    dict
        ``mse, psnr_db, ssim, frc_cutoff, fm_distance, low_frequency_rmse_rad, background_std_rad,
        ssim_zero_background, dry_mass_error`` on cells, ``ssim_dead_leaves``, ``baselines {name: {same}}``,
        ``trials`` (the microscope isn't as believed, less or more light), ``resolution`` of bars (None where the
        field is too small for them), ``densities`` (one region on five grids), ``conditions``. Ablations without
        weights are None.

    Raises
    ------
    ExperimentError, MethodError
        If the weights don't fit the experiment, or can't be read.
    """
    began = time.perf_counter()
    path = weights_path(experiment, weights)
    record = read_record(path)
    stage = make_stage(experiment, record, path, plan.field_px)
    report("specimens to tune the baselines on")
    contenders = Contenders(stage, [_field(stage, plan, *member) for member in plan.tuning])
    rows = (NEUPH, *BASELINES, *contenders.ablations)
    found: dict[str, dict[str, list[dict[str, float]]]] = {
        name: {"cells": [], "leaves": []} for name in rows
    }
    members: Sequence[tuple[str, int]] = (*plan.cells, *((LEAVES, s) for s in plan.leaves))
    for count, (kind, seed) in enumerate(members, 1):
        report(f"field {count} of {len(members)}: {kind}")
        field = _field(stage, plan, kind, seed)
        where = "leaves" if kind == LEAVES else "cells"
        for name in rows:
            if name == OBJECT_FIELD and (where == "leaves" or count > _OBJECT_FIELDS):
                continue
            found[name][where].append(_score(contenders(name, field), field, stage))
    optics = experiment.optics
    return {
        **_figures(found[NEUPH]),
        "baselines": {
            **dict.fromkeys(ABLATIONS),
            **{name: _figures(found[name]) for name in rows if name != NEUPH},
        },
        "by_field": {
            f"{kind} {seed}": found[NEUPH]["leaves" if kind == LEAVES else "cells"][i]["ssim"]
            for some in (plan.cells, [(LEAVES, s) for s in plan.leaves])
            for i, (kind, seed) in enumerate(some)
        },
        "trials": _trials(contenders, stage, plan, report),
        "resolution": _resolution(contenders, stage, plan, report),
        "densities": _densities(contenders, stage, plan, report),
        "seconds": time.perf_counter() - began,
        "conditions": {
            "plan": plan.name,
            "weights": path.name,
            "sha256": sha256(path),
            "ablations": {row: p.name for row, p in contenders.ablations.items()},
            "light": nominal_light(experiment),
            "field_px": plan.field_px,
            "upsampling": stage.upsampling,
            "electrons": plan.electrons,
            "cells": len(plan.cells),
            "dead_leaves": len(plan.leaves),
            "object_fields": min(_OBJECT_FIELDS, len(plan.cells)),
            "baselines_chose": contenders.chosen,
            "piston": "aligned, but in ssim_zero_background and dry_mass_error",
            "low_frequencies_per_um": optics.cutoff_per_um,
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
    }


def _trials(
    contenders: Contenders, stage: Stage, plan: NeuPhPlan, report: Callable[[str], None]
) -> list[dict[str, Any]]:
    report("the same specimens under other conditions than believed")
    some = trials(stage.experiment.optics.numerical_aperture)[:: plan.trial_step]
    return tried(
        contenders,
        plan.tried,
        some,
        lambda kind, seed, trial: _field(
            stage, plan, kind, seed, reality=trial.reality, electrons=trial.electrons
        ),
        lambda image, field: _score(image, field, stage),
    )


def _resolution(
    contenders: Contenders, stage: Stage, plan: NeuPhPlan, report: Callable[[str], None]
) -> dict[str, Any] | None:
    if plan.field_px * stage.experiment.pixel_um < EXTENT_UM:
        return None
    report("bars")
    target, empty = (_field(stage, plan, kind, 0) for kind in (BARS, EMPTY))
    pixel_um = stage.experiment.pixel_um / stage.upsampling
    return resolved(contenders, target, empty, pixel_um)


def _densities(
    contenders: Contenders, stage: Stage, plan: NeuPhPlan, report: Callable[[str], None]
) -> dict[str, Any]:
    report("one region on five grids")
    network = contenders.network
    assert isinstance(network, Continuous), "NeuPh is"
    field = _field(stage, plan, *plan.cells[0])
    optics, light = stage.experiment.optics, stage.record.light
    return densities(
        network,
        contenders.five(field),
        stage.experiment.pixel_um,
        light.synthetic_na / optics.wavelength_um,
    )


def _field(
    stage: Stage,
    plan: NeuPhPlan,
    kind: str,
    seed: int,
    *,
    reality: Reality = AS_BELIEVED,
    electrons: float | None = None,
) -> PatternField:
    return pattern_field(
        kind,
        seed,
        stage.lights(electrons or plan.electrons),
        stage.experiment.optics,
        stage.experiment.pixel_um,
        stage.record.light.synthetic_na,
        field_px=plan.field_px,
        upsampling=stage.upsampling,
        z_um=stage.record.light.z_um,
        reality=reality,
    )


def _score(image: Any, field: PatternField, stage: Stage) -> dict[str, float]:
    experiment = stage.experiment
    pixel_um = experiment.pixel_um / stage.upsampling
    return score(image, field.truth, stage.upsampling, pixel_um, experiment.optics.cutoff_per_um)


def _figures(found: dict[str, list[dict[str, float]]]) -> dict[str, float | None]:
    return {
        **mean_scores(found["cells"]),
        "ssim_dead_leaves": mean_scores(found["leaves"])["ssim"],
    }


def neuph_text(data: dict[str, Any]) -> str:
    """The tables as a person reads them, in Markdown."""
    conditions = data["conditions"]
    names = [*FIGURES, "ssim_dead_leaves"]
    rows = [["neuph", *(number(data[n], _DIGITS.get(n, 3)) for n in names)]]
    for baseline, figures in data["baselines"].items():
        if figures is not None:
            rows.append([baseline, *(number(figures[n], _DIGITS.get(n, 3)) for n in names)])
    absent = ", ".join(name for name, figures in data["baselines"].items() if figures is None)
    return (
        f"# NeuPh: what it reaches, and what it is compared with\n\n"
        f"Weights {conditions['weights']}; {conditions['light']}; {conditions['cells']} fields of cells and "
        f"{conditions['dead_leaves']} of dead leaves that no training has seen, "
        f"{conditions['field_px']}² camera pixels, "
        f"{conditions['electrons']:g} electrons, phase {conditions['upsampling']} times finer; pistons aligned but in "
        f"ssim_zero_background and dry_mass_error. "
        f"{data['seconds']:.0f} s on {conditions['threads']} threads.\n\n"
        + table(["", *names], rows)
        + f"\n\nper_object_field: the first {conditions['object_fields']} fields of cells only. "
        + (f"Without weights, so without a row: {absent}.\n" if absent else "\n")
        + _trials_text(data["trials"])
        + _resolution_text(data["resolution"])
        + _densities_text(data["densities"])
    )


def _trials_text(rows: list[dict[str, Any]]) -> str:
    shown = [
        [
            row["trial"],
            *(number(row[n][f], d) for f, d in (("ssim", 3), ("mse", 4)) for n in _TRIED),
        ]
        for row in rows
    ]
    head = ["", *(f"{f}, {n}" for f in ("ssim", "mse") for n in _TRIED)]
    return f"\n## Where the microscope is not as believed\n\n{table(head, shown)}\n"


def _resolution_text(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    periods = list(next(iter(found.values()))["transfer"])
    rows = [
        [
            name,
            *(number(min(f["transfer"][p]), 2) for p in periods),
            number(f["finest_um"], 3),
            number(f["made_up"], 2),
        ]
        for name, f in found.items()
    ]
    return (
        "\n## Groups of three bars: share that is shown, the worse of two directions\n\n"
        + table(["period, µm", *periods, "finest, µm", "where there is none"], rows)
        + f"\n\nResolved: {RESOLVED:g} or more, and all coarser ones, too. Nothing made up: 0 in the last column.\n"
    )


def _densities_text(found: dict[str, Any]) -> str:
    rows = [
        [d, f"{100 * found['disagreement'][d]:.4f} %"]
        + [f"{found[n][d]:.2e}" for n in ("beyond", "beyond_first_grid")]
        for d in found["disagreement"]
    ]
    head = [
        "points per camera pixel",
        "off at shared places",
        "power beyond the synthetic NA",
        "beyond the first grid's Nyquist",
    ]
    return f"\n## The same region at five densities\n\n{table(head, rows)}\n"
