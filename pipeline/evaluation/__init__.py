"""How good a method's network is: specimens that it never saw, imaged by a second forward model.

Nothing of `pipeline.training` or `pipeline.samples` is used here, nor `pipeline.optics` for the
frames. torch is imported when a table is made.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment, nearest

EVALUABLE = ("dl_srqpi", "fpm", "neuph")


def evaluate(
    method: str,
    experiment: Experiment,
    *,
    weights: Path | None = None,
    reference: Experiment | None = None,
    srcnn: Path | None = None,
    out: Path | None = None,
    quick: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Score a method: its network on specimens that it never saw, beside its baselines; `fpm` on frames.

    Parameters
    ----------
    weights
        Of a network; the experiment's, or those that come with livephase, where None.
    reference
        Of neuph, for real light: a recording LED by LED of the experiment's own field, ``method: fpm``.
    srcnn
        Weights of SRCNN, the learned baseline; those that come with livephase where None. Its row stays empty if
        none do.
    out
        Folder for ``tables.json``, ``tables.md`` and plots; nothing is written where None.
    quick
        A minute's look at fewer and smaller fields; its figures are not those of the full tables.
    report
        Told about the progress, a line at a time.

    Returns
    -------
    dict
        The tables, as in ``tables.json``.

    Raises
    ------
    ExperimentError, MethodError
        If there is nothing to evaluate in the method, if the weights don't fit or can't be read, or if
        the folder can't be made.
    """
    if method not in EVALUABLE:
        raise ExperimentError(
            f"there is nothing to evaluate in '{method}'", nearest(method, EVALUABLE)
        )
    if reference is not None and method != "neuph":
        raise ExperimentError("a reference recording is neuph's", "leave --reference out")
    if method == "fpm":
        if weights or srcnn or out or quick:
            raise ExperimentError(
                "fpm has no weights, tables or quick look",
                "give --experiment only: one slot of its microscope is explained",
            )
        from pipeline.evaluation.fpm import evaluate_fpm  # noqa: PLC0415 - torch

        return evaluate_fpm(experiment, report)
    if method == "neuph":
        if srcnn or (out and reference is None):
            raise ExperimentError(
                "SRCNN and a folder of tables are dl_srqpi's", "leave them out, or redirect --json"
            )
        if reference is not None:
            return _on_real_light(experiment, reference, weights, out, quick=quick, report=report)
        from pipeline.evaluation.neuph import plan as neuph_plan  # noqa: PLC0415
        from pipeline.evaluation.neuph.evaluate import evaluate_neuph  # noqa: PLC0415 - torch

        sizes = neuph_plan.QUICK if quick else neuph_plan.FULL
        return evaluate_neuph(experiment, weights, sizes, report)
    from pipeline.evaluation.dl_srqpi import evaluate_dl_srqpi  # noqa: PLC0415 - torch
    from pipeline.evaluation.folder import make_folder, write_tables  # noqa: PLC0415 - torch
    from pipeline.evaluation.plan import FULL, QUICK  # noqa: PLC0415

    if out is not None:
        make_folder(out)
    tables = evaluate_dl_srqpi(
        experiment, weights, srcnn=srcnn, plan=QUICK if quick else FULL, report=report
    )
    if out is not None:
        write_tables(tables, out)
    return tables.data


def _on_real_light(
    experiment: Experiment,
    reference: Experiment,
    weights: Path | None,
    out: Path | None,
    *,
    quick: bool,
    report: Callable[[str], None],
) -> dict[str, Any]:
    from pipeline.evaluation.folder import make_folder, write_real  # noqa: PLC0415 - torch
    from pipeline.evaluation.neuph.real import compare_on_recording  # noqa: PLC0415 - torch

    if quick:
        raise ExperimentError(
            "a recording has no quick look", "leave --quick out: it takes a minute"
        )
    if out is not None:
        make_folder(out)
    comparison = compare_on_recording(experiment, reference, weights, report)
    if out is not None:
        write_real(comparison, out)
    return comparison.data
