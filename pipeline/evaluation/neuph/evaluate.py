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
    Contenders,
    Stage,
    make_stage,
    nominal_light,
)
from pipeline.evaluation.neuph.fields import LEAVES, PatternField, pattern_field
from pipeline.evaluation.neuph.plan import NeuPhPlan
from pipeline.evaluation.neuph.scores import FIGURES, mean_scores, score
from pipeline.evaluation.text import number, table
from pipeline.experiment import Experiment
from pipeline.methods.neuph.fit import read_record, weights_path
from pipeline.methods.weights_file import sha256

# A neural field for one object takes a minute: so many of the cells get one.
_OBJECT_FIELDS = 2
_DIGITS = {"psnr_db": 1, "frc_cutoff": 2, "mse": 4}


def evaluate_neuph(
    experiment: Experiment, weights: Path | None, plan: NeuPhPlan, report: Callable[[str], None]
) -> dict[str, Any]:
    """Figures on cells and on dead leaves beside the baselines.

    Returns
    -------
    dict
        ``mse, psnr_db, ssim, frc_cutoff, fm_distance, low_frequency_rmse_rad, background_std_rad`` on cells,
        ``ssim_dead_leaves``, ``baselines {name: {same}}``, ``conditions``. Ablations without weights are None.

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
    found: dict[str, dict[str, list[dict[str, float]]]] = {
        name: {"cells": [], "leaves": []} for name in (NEUPH, *BASELINES)
    }
    members: Sequence[tuple[str, int]] = (*plan.cells, *((LEAVES, s) for s in plan.leaves))
    for count, (kind, seed) in enumerate(members, 1):
        report(f"field {count} of {len(members)}: {kind}")
        field = _field(stage, plan, kind, seed)
        where = "leaves" if kind == LEAVES else "cells"
        for name in (NEUPH, *BASELINES):
            if name == OBJECT_FIELD and (where == "leaves" or count > _OBJECT_FIELDS):
                continue
            found[name][where].append(_score(contenders(name, field), field, stage))
    optics = experiment.optics
    return {
        **_figures(found[NEUPH]),
        "baselines": {
            **{name: _figures(found[name]) for name in BASELINES},
            **dict.fromkeys(ABLATIONS),
        },
        "by_field": {
            f"{kind} {seed}": found[NEUPH]["leaves" if kind == LEAVES else "cells"][i]["ssim"]
            for some in (plan.cells, [(LEAVES, s) for s in plan.leaves])
            for i, (kind, seed) in enumerate(some)
        },
        "seconds": time.perf_counter() - began,
        "conditions": {
            "plan": plan.name,
            "weights": path.name,
            "sha256": sha256(path),
            "light": nominal_light(experiment),
            "field_px": plan.field_px,
            "upsampling": stage.upsampling,
            "electrons": plan.electrons,
            "cells": len(plan.cells),
            "dead_leaves": len(plan.leaves),
            "object_fields": min(_OBJECT_FIELDS, len(plan.cells)),
            "baselines_chose": contenders.chosen,
            "piston": "aligned",
            "low_frequencies_per_um": optics.cutoff_per_um,
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
    }


def _field(stage: Stage, plan: NeuPhPlan, kind: str, seed: int) -> PatternField:
    return pattern_field(
        kind,
        seed,
        stage.lights(plan.electrons),
        stage.experiment.optics,
        stage.experiment.pixel_um,
        stage.record.light.synthetic_na,
        field_px=plan.field_px,
        upsampling=stage.upsampling,
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
        f"{conditions['electrons']:g} electrons, phase {conditions['upsampling']} times finer; pistons aligned. "
        f"{data['seconds']:.0f} s on {conditions['threads']} threads.\n\n"
        + table(["", *names], rows)
        + f"\n\nper_object_field: the first {conditions['object_fields']} fields of cells only. "
        + (f"Without weights, so without a row: {absent}.\n" if absent else "\n")
    )
