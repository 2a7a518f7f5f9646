"""`livephase evaluate dl_srqpi`: held-out specimens, the live path, and what it has to beat."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ExperimentError, MethodError
from pipeline.evaluation import microlens
from pipeline.evaluation.ahead import ahead_of_baselines
from pipeline.evaluation.contenders import SRCNN_FIX, packaged_srcnn, row_conditions, why_no_srcnn
from pipeline.evaluation.outside import outside_field
from pipeline.evaluation.plan import FULL, Plan, Row, rows_for
from pipeline.evaluation.profiles import Sheet
from pipeline.evaluation.rows import FieldScores, HeadlineField, headline_field, sweep_field
from pipeline.evaluation.setting import Setting
from pipeline.evaluation.summaries import (
    conditions_table,
    headline_table,
    microlenses_table,
    outside_table,
    sweeps_table,
)
from pipeline.evaluation.trust.evaluate import evaluate_trust
from pipeline.evaluation.tuning import best, trials
from pipeline.evaluation.workers import Executor, Job, executor
from pipeline.experiment import Experiment
from pipeline.methods.dl_srqpi.fit import default_weights, remedy, weights_named, why_unfit
from pipeline.methods.dl_srqpi.header import read_record
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
        A file, or the name of packaged ones; the experiment's, or those that come with livephase, where None.
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
        If the weights or SRCNN's don't fit the experiment, or can't be read.
    """
    started = time.monotonic()
    check_light(experiment)
    named = experiment.reconstruction.weights
    path = (
        weights_named(weights)
        if weights
        else (Path(named) if named else default_weights(experiment))
    )
    record = read_record(path)
    rows = rows_for(plan, record.optics)
    # Before the minutes of the baselines' tuning; all other rows are within what was trained.
    here = row_conditions(experiment, rows.headline)
    if reason := why_unfit(record, here):
        raise MethodError(
            f"the weights {path.name} don't fit this experiment: {reason}", remedy(record, here)
        )
    upsampling, all_rows = record.network.upsampling, (rows.headline, *rows.sweeps)
    absent = ""
    if srcnn is None:
        try:
            srcnn = packaged_srcnn(experiment, all_rows, upsampling)
        except MethodError as error:
            absent = f"{error.cause}; {SRCNN_FIX}"
    elif reason := why_no_srcnn(srcnn, experiment, all_rows, upsampling):
        raise MethodError(f"{srcnn.name} can't be SRCNN beside {path.name}: {reason}", SRCNN_FIX)
    setting = Setting(experiment, path, srcnn, upsampling, plan, rows, seed)
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
        trust = evaluate_trust(
            experiment,
            path,
            plan=plan.trust,
            seed=seed,
            run=partial(work, "alarm and scale uncertainty"),
        )
    data = {
        **headline_table(headline),
        **sweeps_table(setting, sweeps),
        **microlenses_table(setting, lenses),
        "outside": outside_table(outside),
        **trust,
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
    data["conditions"] = conditions_table(setting, tunings)
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
