"""Verbs at the microscope: calibrate, snap, live, doctor, devices; and the schema of experiments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import app
from pipeline.cli.options import AsJson, ExperimentFile, print_result


@app.command()
def calibrate(
    experiment: Annotated[
        Path | None,
        typer.Argument(metavar="EXPERIMENT.yaml", help="Which microscope, light and channels."),
    ] = None,
    steps: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STEP]...",
            help="timing, dark, photon_transfer, linearity, exposure, flat, pixel_size, orientation, "
            "led_intensity, lens; all that the experiment has a use for if none is named.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Where it is kept; the experiment's calibration.folder if not given.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", metavar="STEP.NAME=VALUE", help="An option of a step; repeatable."
        ),
    ] = None,
    grating_um: Annotated[
        float | None,
        typer.Option(
            min=0.01, metavar="UM", help="Period of the grating or ruler, for the step pixel_size."
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing: what each step needs lies there already.")
    ] = False,
    show: Annotated[
        Path | None,
        typer.Option("--show", metavar="FOLDER", help="Say what a calibration knows, and end."),
    ] = None,
    restore: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION", help="Make an earlier version of --out the present one, and end."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Calibrate the microscope, step by step; what is measured is kept, with its history.

    The next run uses it: calibration: {source: folder, folder: FOLDER, exposures: calibrated}.
    """
    from pipeline.calibrate.command import calibrate_command

    calibrate_command(
        experiment,
        tuple(steps or ()),
        out,
        options=tuple(option or ()),
        grating_um=grating_um,
        yes=yes,
        show_folder=show,
        restore=restore,
        as_json=as_json,
    )


_Channel = Annotated[
    str | None,
    typer.Option(metavar="C", help="Only this channel; all that the experiment takes otherwise."),
]


_Position = Annotated[
    str | None,
    typer.Option(metavar="P", help="Name or number (from 0) of a position; the first otherwise."),
]


_Reconstruct = Annotated[
    bool,
    typer.Option("--reconstruct/--no-reconstruct", help="Apply the experiment's method or not."),
]


@app.command()
def snap(
    experiment: ExperimentFile,
    channel: _Channel = None,
    position: _Position = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help=".png: a picture. .tif, .npy: raw counts, phase beside."
        ),
    ] = None,
    reconstruct: _Reconstruct = True,
    as_json: AsJson = False,
) -> None:
    """Look once through the microscope, without a run: figures, picture and phase of one timepoint."""
    from pipeline.preview.snap import snap_command

    snap_command(
        experiment,
        channel=channel,
        position=position,
        out=out,
        reconstruct=reconstruct,
        as_json=as_json,
    )


@app.command()
def live(
    experiment: ExperimentFile,
    channel: _Channel = None,
    position: _Position = None,
    frames: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after so many looks.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(min=0.001, metavar="F", help="At most so many looks a second.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write each look over this file, as snap does."),
    ] = None,
    reconstruct: _Reconstruct = True,
) -> None:
    """Look through the microscope until Ctrl+C: the newest frame and its phase, light on only to expose."""
    from pipeline.preview.live import live_command

    live_command(
        experiment,
        channel=channel,
        position=position,
        frames=frames,
        fps=fps,
        out=out,
        reconstruct=reconstruct,
    )


@app.command()
def doctor(
    experiment: Annotated[
        Path | None,
        typer.Argument(
            metavar="EXPERIMENT.yaml",
            help="Connect to its microscope, too, and go through its devices; nothing is lit or moved.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what works on this machine, and how to mend what does not."""
    from pipeline.experiment import load_experiment
    from pipeline.lifecycle.doctor import examine

    findings = examine(None if experiment is None else load_experiment(experiment))
    print_result([f.as_dict() for f in findings], as_json, "\n".join(f.text() for f in findings))
    if any(f.level == "error" for f in findings):
        raise typer.Exit(1)


@app.command()
def devices(
    experiment: Annotated[
        Path | None,
        typer.Argument(
            metavar="EXPERIMENT.yaml",
            help="Its microscope; Micro-Manager's demonstration devices if nothing is given.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE.cfg", help="A configuration of Micro-Manager."),
    ] = None,
    adapters: Annotated[
        str | None,
        typer.Option(
            "--adapters",
            metavar="FOLDER",
            help="Micro-Manager's folder; alone, it lists the device adapters there and what each offers.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List Micro-Manager's devices: properties, what can be sequenced and why not, who could play which part.

    Ends with a microscope section to copy into an experiment. Nothing is lit or moved.
    """
    from pipeline.experiment import load_experiment
    from pipeline.lifecycle.devices import list_devices

    loaded = None if experiment is None else load_experiment(experiment)
    found = list_devices(loaded, config, adapters)
    print_result(found.as_dict(), as_json, found.text())


@app.command()
def schema() -> None:
    """Print the JSON Schema of experiment files, for editors that complete and check YAML."""
    from pipeline.experiment import Experiment

    print(json.dumps(Experiment.model_json_schema(), indent=2))
