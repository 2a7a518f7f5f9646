"""Verbs that make runs: demo, run, reconstruct, simulate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline import STARTED_UTC
from pipeline.cli.app import app
from pipeline.cli.options import AsJson, ExperimentFile, RunOut, finish, print_result
from pipeline.errors import DriverError


@app.command()
def demo(
    method: Annotated[
        str,
        typer.Option(help="dl_srqpi, tie, dpc or neuph: the demonstration that shows this method."),
    ] = "dl_srqpi",
    out: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="The run folder; a new one under ./runs if not given."),
    ] = None,
    timepoints: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
) -> None:
    """Watch simulated living cells become phase, live. No microscope needed."""
    from pipeline.lifecycle.demo import run_demo

    finish(run_demo(method, out, timepoints, started_utc=STARTED_UTC))


@app.command()
def run(
    experiment: ExperimentFile,
    out: RunOut,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was stopped, killed or failed.")
    ] = False,
    even_aborted: Annotated[
        bool, typer.Option("--even-aborted", help="With --resume: also a run that was aborted.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check everything, say what the run needs and how the devices will be sequenced. May connect to "
            "them; lights and moves nothing.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run an experiment: acquire, store and reconstruct, live.

    Ctrl+C finishes the timepoint, stores everything and reconstructs what is left; a second Ctrl+C
    leaves that backlog to --resume.
    """
    from pipeline.experiment import load_experiment
    from pipeline.lifecycle.light_off import make_dark_before_all
    from pipeline.store.run_folder import RunFolder

    if not dry_run:
        # Before anything that takes time: every process of an earlier start may have died with the light on.
        make_dark_before_all(RunFolder(out))
    loaded = load_experiment(experiment)
    if dry_run:
        from pipeline.instrument import resolve_calibration, resolve_exposures
        from pipeline.lifecycle.preflight import (
            check_calibration,
            check_disk,
            estimate,
            with_bursts,
        )

        loaded = resolve_exposures(loaded)
        need, unreachable = estimate(loaded, out), None
        try:
            need = with_bursts(need, loaded)
        except DriverError as error:
            # What the run needs can be said far from the microscope, too.
            unreachable = error
        remarks = check_calibration(loaded, resolve_calibration(loaded))
        need = replace(need, warnings=(*need.warnings, *remarks))
        print_result(need.as_dict(), as_json, need.text())
        check_disk(need)
        if unreachable is not None:
            raise unreachable
        return
    from pipeline.lifecycle.run import run_experiment

    result = run_experiment(
        loaded, out, resume=resume, even_aborted=even_aborted, started_utc=STARTED_UTC
    )
    finish(result, as_json)


@app.command()
def reconstruct(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="A run folder, OME-Zarr, TIFF [t,c,y,x], .npy or .mat."
        ),
    ],
    experiment: Annotated[
        Path,
        typer.Option("--experiment", metavar="EXPERIMENT.yaml", help="Optics, light and method."),
    ],
    out: RunOut,
    method: Annotated[str | None, typer.Option(help="Instead of the experiment's own.")] = None,
    executor: Annotated[
        Literal["local", "dask"],
        typer.Option(help="local: processes of this machine. dask: a dask.distributed scheduler."),
    ] = "local",
    scheduler: Annotated[
        str | None, typer.Option(help="Address of the dask scheduler, such as tcp://10.0.0.5:8786.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Local processes.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Reconstruct what is already recorded, with the same methods. Run again: what is done is skipped."""
    from pipeline.experiment import load_experiment
    from pipeline.lifecycle.progress import counting
    from pipeline.lifecycle.report import report_text
    from pipeline.reprocess import reconstruct as reprocess
    from pipeline.store.run_folder import RunState

    result = reprocess(
        source,
        load_experiment(experiment),
        out,
        method=method,
        executor=executor,
        scheduler=scheduler,
        workers=workers,
        on_progress=counting(),
    )
    print_result(result, as_json, report_text(out, RunState(result["state"]), result))


@app.command()
def simulate(
    experiment: ExperimentFile,
    out: RunOut,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with one that was stopped, killed or failed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Record a simulated experiment, as fast as it can be computed, with its ground truth beside it."""
    from pipeline.experiment import load_experiment
    from pipeline.lifecycle.simulate import simulate as simulate_run

    finish(simulate_run(load_experiment(experiment), out, resume=resume), as_json)
