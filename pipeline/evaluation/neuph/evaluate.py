"""`livephase evaluate neuph`: the figures."""

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
)
from pipeline.evaluation.neuph.densities import densities
from pipeline.evaluation.neuph.fields import (
    AS_BELIEVED,
    BARS,
    EMPTY,
    LEAVES,
    Light,
    PatternField,
    Reality,
    pattern_field,
)
from pipeline.evaluation.neuph.plan import NeuPhPlan
from pipeline.evaluation.neuph.ptychography import (
    ONE_BY_ONE,
    Image,
    one_by_one,
    ptychography,
    stage_waves,
)
from pipeline.evaluation.neuph.resolution import resolved
from pipeline.evaluation.neuph.scores import mean_scores, score
from pipeline.evaluation.neuph.stage import Stage, make_stage, nominal_light
from pipeline.evaluation.neuph.trials import trials, tried
from pipeline.evaluation.specimens.bars import EXTENT_UM
from pipeline.experiment import Experiment
from pipeline.methods.contract import Continuous
from pipeline.methods.neuph.fit import read_record, weights_path
from pipeline.methods.weights_file import sha256

# A neural field for one object takes a minute, and so do all LEDs one by one: so many of the cells get them.
_SLOW_FIELDS = 2


def evaluate_neuph(
    experiment: Experiment, weights: Path | None, plan: NeuPhPlan, report: Callable[[str], None]
) -> dict[str, Any]:
    """Figures on cells and on dead leaves beside the baselines.

    Returns
    -------
    dict
        ``mse, psnr_db, ssim, frc_cutoff, fm_distance, low_frequency_rmse_rad, background_std_rad,
        ssim_zero_background, dry_mass_error`` on cells, ``ssim_dead_leaves``, ``baselines {name: {same}}``,
        ``fpm_one_by_one {same}`` (the same LEDs one by one: what their light can show),
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
    by_all: dict[str, list[dict[str, float]]] = {"cells": [], "leaves": []}
    members: Sequence[tuple[str, int]] = (*plan.cells, *((LEAVES, s) for s in plan.leaves))
    for count, (kind, seed) in enumerate(members, 1):
        report(f"field {count} of {len(members)}: {kind}")
        field = _field(stage, plan, kind, seed)
        where = "leaves" if kind == LEAVES else "cells"
        for name in rows:
            if name == OBJECT_FIELD and (where == "leaves" or count > _SLOW_FIELDS):
                continue
            found[name][where].append(_score(contenders(name, field), field, stage))
        if count <= _SLOW_FIELDS and where == "cells":
            image = _one_by_one(stage, plan, kind, seed)
            by_all["cells"].append(_score(image, field, stage))
    optics = experiment.optics
    return {
        **_figures(found[NEUPH]),
        "baselines": {
            **dict.fromkeys(ABLATIONS),
            **{name: _figures(found[name]) for name in rows if name != NEUPH},
        },
        ONE_BY_ONE: _figures(by_all),
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
            "slow_fields": min(_SLOW_FIELDS, len(plan.cells)),
            "leds": sum(len(pattern.sines) for pattern in contenders.patterns),
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
    by_all = {ONE_BY_ONE: _one_by_one(stage, plan, BARS, 0)}
    return resolved(contenders, target, empty, pixel_um, by_all)


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


def _one_by_one(stage: Stage, plan: NeuPhPlan, kind: str, seed: int) -> Image:
    own = stage.lights(plan.electrons)[: len(stage.record.light.patterns)]
    lights = one_by_one(own)
    frames = torch.from_numpy(_field(stage, plan, kind, seed, lights=lights).frames)
    return ptychography(stage_waves(stage, lights), frames)


def _field(
    stage: Stage,
    plan: NeuPhPlan,
    kind: str,
    seed: int,
    *,
    reality: Reality = AS_BELIEVED,
    electrons: float | None = None,
    lights: list[Light] | None = None,
) -> PatternField:
    return pattern_field(
        kind,
        seed,
        lights or stage.lights(electrons or plan.electrons),
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
