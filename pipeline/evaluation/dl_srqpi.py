"""`livephase evaluate dl_srqpi`: held-out specimens, the live path, and what it has to beat."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

from pipeline import __version__
from pipeline.errors import ExperimentError, MethodError
from pipeline.evaluation import microlens
from pipeline.evaluation.ahead import ahead_of_baselines, beside_baselines
from pipeline.evaluation.contenders import BASELINES, NETWORK, Tuning, Tunings, packaged_srcnn
from pipeline.evaluation.outside import outside_field
from pipeline.evaluation.plan import FULL, Plan, Row, rows_for
from pipeline.evaluation.profiles import Sheet
from pipeline.evaluation.rows import FieldScores, HeadlineField, headline_field, sweep_field
from pipeline.evaluation.scores import FIGURES, Scores, mean_scores
from pipeline.evaluation.setting import Setting
from pipeline.evaluation.tuning import best, trials
from pipeline.evaluation.workers import Executor, Job, executor
from pipeline.experiment import Experiment
from pipeline.methods.dl_srqpi.fit import default_weights
from pipeline.methods.dl_srqpi.header import read_record, sha256
from pipeline.methods.dl_srqpi.method import check_light

Report = Callable[[str], None]


@dataclass(frozen=True)
class Tables:
    """What `evaluate_dl_srqpi` found.

    Parameters
    ----------
    data
        Plain, for JSON.
    sheets, correlations
        For plots: images of a few fields, and the mean Fourier ring correlation by contender,
        ``[rings]`` up to the phase grid's Nyquist frequency.
    upsampling
        The phase grid's Nyquist frequency in units of the camera's.
    """

    data: dict[str, Any]
    sheets: Sequence[Sheet] = ()
    correlations: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]] = field(default_factory=dict)
    upsampling: int = 4


def evaluate_dl_srqpi(
    experiment: Experiment,
    weights: Path | None = None,
    *,
    srcnn: Path | None = None,
    plan: Plan = FULL,
    seed: int = 0,
    processes: int | None = None,
    report: Report = lambda _: None,
) -> Tables:
    """Score weights on families of specimens that no training draws from.

    Parameters
    ----------
    weights
        The experiment's, or those that come with livephase, where None.
    srcnn
        Weights of the learned baseline; those that come with livephase where None.
    plan
        How much is computed.
    seed
        Of the evaluation set; 0 is the set of the published tables.
    processes
        As many as there are cores, up to four, where None.
    report
        Told about the progress.

    Raises
    ------
    ExperimentError, MethodError
        If the weights don't fit the experiment, or can't be read.
    """
    started = time.monotonic()
    check_light(experiment)
    named = experiment.reconstruction.weights
    path = weights or (Path(named) if named else default_weights(experiment))
    record = read_record(path)
    rows = rows_for(plan, record.optics)
    absent = ""
    if srcnn is None:
        try:
            srcnn = packaged_srcnn(experiment, rows.headline)
        except MethodError as error:
            absent = error.cause
    setting = Setting(experiment, path, srcnn, record.network.upsampling, plan, rows, seed)
    report(f"the {plan.name} tables: up to {plan.budget_s / 60:g} minutes on two idle cores")
    with executor(processes or min(4, os.cpu_count() or 1)) as run:
        work = _Work(run, report, started)
        numbers = range(plan.tuning_fields)
        tunings = best(work("the baselines' settings", [(trials, (setting, n)) for n in numbers]))
        # The longest first, so that no process waits for the last one.
        headline: list[HeadlineField] = _occupied(
            work(
                "the headline",
                [(headline_field, (setting, n, tunings)) for n in range(plan.fields)],
            )
        )
        sweeps: list[Mapping[Row, FieldScores]] = _occupied(
            work(
                "defocus, coherence and noise",
                [(sweep_field, (setting, n, tunings)) for n in range(plan.sweep_fields)],
            )
        )
        lenses = work(
            "microlenses",
            [(microlens.measure_array, (setting, d)) for d in plan.lens_um]
            + [(microlens.measure_isolated, (setting, d)) for d in plan.isolated_um],
        )
        outside = _occupied(
            work(
                "outside of the training's range",
                [(outside_field, (setting, n)) for n in range(plan.outside_fields)],
            )
        )
    data = {
        **_headline(headline),
        **_sweeps(setting, sweeps),
        **_microlenses(setting, lenses),
        "outside": _outside(outside),
        "profiles": [f.profile.as_dict() for f in headline if f.profile],
    }
    data["ahead_of_baselines"] = ahead_of_baselines(
        {
            "headline": {"all": data},
            **{
                name: data[name] for name in ("by_family", "by_defocus", "by_coherence", "by_noise")
            },
        }
    )
    data["srcnn_absent"] = absent or None
    data["conditions"] = _conditions(setting, tunings)
    data["budget_s"] = plan.budget_s
    data["seconds"] = round(time.monotonic() - started, 1)
    correlations = {
        name: np.mean([f.correlations[name] for f in headline], axis=0)
        for name in headline[0].correlations
    }
    sheets = [f.sheet for f in headline if f.sheet]
    return Tables(data, sheets, correlations, setting.upsampling)


def _occupied(fields: list[Any]) -> list[Any]:
    held = [field for field in fields if field]
    if not held:
        raise ExperimentError(
            "the evaluation's fields are so small that none has anything in it", "make them larger"
        )
    return held


class _Work:
    def __init__(self, run: Executor, report: Report, started: float) -> None:
        self._run, self._report, self._started = run, report, started

    def __call__(self, what: str, jobs: Sequence[Job]) -> list[Any]:
        ready = 0

        def done() -> None:
            nonlocal ready
            ready += 1
            self._report(
                f"{time.monotonic() - self._started:5.0f} s  {what}: {ready} of {len(jobs)}"
            )

        return self._run(jobs, done)


def _headline(fields: Sequence[HeadlineField]) -> dict[str, Any]:
    means = _means([f.scores for f in fields])
    slopes = np.concatenate([f.slopes for f in fields])
    areas = np.concatenate([f.areas_px for f in fields])
    thirds = np.array_split(np.argsort(areas, kind="stable"), 3)
    sizes = zip(("small", "middle", "large"), thirds, strict=True)
    families = dict.fromkeys(f.family for f in fields)
    return {
        **beside_baselines(means, NETWORK),
        "phase_slope": float(slopes.mean()) if slopes.size else None,
        "phase_slope_spread": float(slopes.std()) if slopes.size else None,
        "phase_slope_by_size": {n: float(slopes[part].mean()) for n, part in sizes if part.size},
        "cells": int(slopes.size),
        "by_family": {
            name: beside_baselines(_means([f.scores for f in fields if f.family == name]), NETWORK)
            for name in families
        },
        "fields": [
            {"family": f.family, "seed": f.seed, **mean_scores([f.scores[NETWORK]])} for f in fields
        ],
    }


def _sweeps(setting: Setting, fields: Sequence[Mapping[Row, FieldScores]]) -> dict[str, Any]:
    def table(rows: Sequence[Row], name: Callable[[Row], str]) -> dict[str, Any]:
        return {
            name(row): beside_baselines(_means([f[row] for f in fields]), NETWORK) for row in rows
        }

    by_defocus = table(setting.rows.by_defocus, lambda row: f"{row.z_um:g}")
    by_coherence = table(setting.rows.by_coherence, lambda row: f"{row.coherence:g}")
    return {
        "ssim_by_defocus": {name: row["ssim"] for name, row in by_defocus.items()},
        "ssim_by_coherence": {name: row["ssim"] for name, row in by_coherence.items()},
        "by_defocus": by_defocus,
        "by_coherence": by_coherence,
        "by_noise": table(setting.rows.by_noise, lambda row: row.noise),
    }


def _microlenses(setting: Setting, results: Sequence[Any]) -> dict[str, Any]:
    plan = setting.plan
    arrays = [row for rows in results[: len(plan.lens_um)] for row in rows]
    limits = {
        peak: microlens.largest_period_um(
            setting.experiment, setting.rows.headline, setting.upsampling, peak
        )
        for peak in sorted({1.0, *plan.lens_rad})
    }
    largest = limits[1.0]
    measured = [r for r in arrays if r["relative_error"] is not None]

    def worst(rows: Iterable[Mapping[str, Any]], period_um: float) -> float | None:
        within = [abs(r["relative_error"]) for r in rows if r["period_um"] <= period_um]
        return max(within, default=None)

    by_peak = {
        f"{peak:g}": {
            "largest_period_um": round(period_um, 1),
            "height_error": worst([r for r in measured if r["peak_rad"] == peak], period_um),
        }
        for peak, period_um in limits.items()
    }
    return {
        "microlens_height_error": worst(measured, largest),
        "largest_period_um": round(largest, 1),
        "microlens": {
            "delta_n": microlens.DELTA_N,
            "pitch_diameters": microlens.PITCH_DIAMETERS,
            "largest_period_is": (
                f"where noise alone puts the height of one lens of 1 rad off by "
                f"{100 * microlens.TOLERANCE:g} %"
            ),
            "by_peak": by_peak,
            "arrays": arrays,
            "isolated": list(results[len(plan.lens_um) :]),
        },
    }


def _outside(fields: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    names = ("phase_slope", "phase_slope_spread")
    table: dict[str, Any] = {}
    for row in fields[0]:
        rows = [f[row] for f in fields]
        slopes = {name: [r[name] for r in rows if np.isfinite(r[name])] for name in names}
        means = {name: float(np.mean(v)) if v else None for name, v in slopes.items()}
        table[row] = {**mean_scores(rows), **means}
    return table


def _means(fields: Sequence[FieldScores]) -> dict[str, Scores]:
    """By contender; the row of a baseline that nobody has is empty."""
    means: dict[str, Scores] = {name: mean_scores([f[name] for f in fields]) for name in fields[0]}
    return means | {n: dict.fromkeys(FIGURES) for n in BASELINES if n not in means}


def _chosen(tunings: Mapping[str, Tuning]) -> dict[str, Any]:
    return {
        name: {"first_focus": tuning.first, "regularisation": tuning.regularisation}
        for name, tuning in tunings.items()
    }


def _conditions(setting: Setting, tunings: Tunings) -> dict[str, Any]:
    plan, rows, optics = setting.plan, setting.rows, setting.experiment.optics
    return {
        "plan": plan.name,
        "weights": setting.weights.name,
        "sha256": sha256(setting.weights),
        "srcnn": setting.srcnn.name if setting.srcnn else None,
        "srcnn_sha256": sha256(setting.srcnn) if setting.srcnn else None,
        "headline": {
            **rows.headline._asdict(),
            "specimens": setting.headline_set.name,
            "field_px": plan.field_px,
        },
        "sweeps": {
            "specimens": setting.sweep_set.name,
            "field_px": plan.sweep_px,
            "by_defocus_coherence": rows.by_defocus[0].coherence,
            "by_coherence_and_noise_z_um": rows.headline.z_um,
        },
        "upsampling": setting.upsampling,
        "pixel_um": setting.experiment.pixel_um,
        "wavelength_um": optics.wavelength_um,
        "numerical_aperture": optics.numerical_aperture,
        "refractive_index": optics.refractive_index,
        "aligned": "piston",
        "tuning": {
            "specimens": setting.tuning_set.name,
            "field_px": plan.tuning_px,
            "for": "SSIM",
            "headline": _chosen(tunings[rows.headline]),
            "rows": [{**row._asdict(), **_chosen(own)} for row, own in tunings.items()],
        },
        "versions": {
            "livephase": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
        "cores": os.cpu_count(),
    }
