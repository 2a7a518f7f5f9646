"""Verbs that look into what was recorded: query, verify, report, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.cli.app import app
from pipeline.cli.options import AsJson, RunArgument, print_result


@app.command()
def query(
    run: RunArgument,
    timepoint: Annotated[int, typer.Option(min=0, help="From 0 on.")] = 0,
    position: Annotated[int, typer.Option(min=0, help="From 0 on.")] = 0,
    region: Annotated[
        str | None,
        typer.Option(metavar="Y,X,H,W", help="In camera pixels; the whole field if not given."),
    ] = None,
    density: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            metavar="D",
            help="Points per camera pixel: 6, 21, 49.8, …; as the run's phase if not given.",
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the latent in the run, for later queries.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the phase: .tif or .npy.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Phase of a part of a run's field on a grid of any density; of runs by neuph."""
    from pipeline.reprocess.query import (
        parse_region,
        queried_dict,
        queried_text,
        query_phase,
        write_queried,
    )

    found = query_phase(
        run,
        timepoint=timepoint,
        position=position,
        region=parse_region(region),
        density=density,
        keep=keep,
    )
    if out is not None:
        write_queried(found, out)
    data = queried_dict(found, out)
    print_result(data, as_json, queried_text(data))


@app.command()
def verify(run: RunArgument, as_json: AsJson = False) -> None:
    """Check every stored frame and phase image against its ledger, and every planned frame for its fate."""
    from pipeline.store.verify import verify as verify_run

    report = verify_run(run)
    print_result(report.as_dict(), as_json, report.text(run))
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def report(
    run: RunArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE.html",
            help="Where the page goes, for a run folder that may not be written; report.html and report.json in it "
            "if not given.",
        ),
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", help="Show the page in this machine's browser.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a run's report again from what is on the disk; of a run that goes on, a report so far."""
    from pipeline.lifecycle.report import make_report, report_text
    from pipeline.stages.priority import come_after_the_camera
    from pipeline.store.run_folder import RunState

    come_after_the_camera("report")
    result = make_report(run, out)
    page = out or run / "report.html"
    print_result(result, as_json, report_text(run, RunState(result["state"]), result, page))
    if open_:
        import webbrowser

        webbrowser.open(page.absolute().as_uri())


@app.command()
def export(
    run: RunArgument,
    movie: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="An annotated movie: .mp4 (H.264), .webm (VP9) or .gif."),
    ] = None,
    ome_tiff: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.ome.tif",
            help="Frames bit for bit, phase as float32, with sizes, times and places; an image a position.",
        ),
    ] = None,
    what: Annotated[
        Literal["phase", "raw", "both"] | None,
        typer.Option(help="phase where the run has any, else raw, if not given."),
    ] = None,
    fps: Annotated[
        float, typer.Option(metavar="F", help="Of the movie: timepoints a second.")
    ] = 10.0,
    position: Annotated[
        str | None,
        typer.Option(
            metavar="P",
            help="Name or number (from 0); the first in a movie, all in an OME-TIFF otherwise.",
        ),
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(
            metavar="C",
            help="Name or number (from 0) of a channel of the light, or of the method's images for phase; the first "
            "in a movie, all in an OME-TIFF otherwise.",
        ),
    ] = None,
    timepoints: Annotated[
        str | None,
        typer.Option(metavar="A:B", help="From 0 on, B left out; all recorded ones otherwise."),
    ] = None,
    value_range: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="LOW,HIGH",
            help="Of the movie's colours: radians, or counts with --what raw; one that fits all otherwise.",
        ),
    ] = None,
    max_px: Annotated[
        int, typer.Option(metavar="N", help="Of the movie: longest side of its pictures.")
    ] = 1080,
    force: Annotated[
        bool, typer.Option("--force", help="Write over a file that is there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take a run elsewhere: as a movie, as an OME-TIFF. Also a run that goes on: what is stored so far."""
    from pipeline.export.command import export_command

    result, text = export_command(
        run,
        movie=movie,
        ome_tiff=ome_tiff,
        what=what,
        fps=fps,
        position=position,
        channel=channel,
        timepoints=timepoints,
        value_range=value_range,
        max_px=max_px,
        force=force,
    )
    print_result(result, as_json, text)
