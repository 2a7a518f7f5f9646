"""The command line: one verb, one function of the package.

Only what a verb needs is imported when it is used: `livephase verify` does not wait for torch.
"""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from pipeline import STARTED_UTC, __version__
from pipeline.errors import DriverError, LivephaseError

if TYPE_CHECKING:
    from pipeline.server.client import Client

app = typer.Typer(
    name="livephase",
    help="From camera to quantitative phase while the cells still move.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ExperimentFile = Annotated[
    Path, typer.Argument(metavar="EXPERIMENT.yaml", help="The experiment file.")
]
RunOut = Annotated[Path, typer.Option("--out", metavar="RUN", help="The run folder.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def _print(data: Any, as_json: bool, text: str) -> None:
    print(json.dumps(data, indent=None if as_json else 2) if as_json else text)


def _version(show: bool) -> None:
    if show:
        print(f"livephase {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    method: Annotated[
        str, typer.Option(help="dl_srqpi, tie or dpc: the demonstration that shows this method.")
    ] = "dl_srqpi",
    out: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="The run folder; a new one under ./runs if not given."),
    ] = None,
    timepoints: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
) -> None:
    """Watch simulated living cells become phase, live. No microscope needed."""
    from pipeline.lifecycle.demo import run_demo

    _finish(run_demo(method, out, timepoints, started_utc=STARTED_UTC))


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
        _print(need.as_dict(), as_json, need.text())
        check_disk(need)
        if unreachable is not None:
            raise unreachable
        return
    from pipeline.lifecycle.run import run_experiment

    result = run_experiment(
        loaded, out, resume=resume, even_aborted=even_aborted, started_utc=STARTED_UTC
    )
    _finish(result, as_json)


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
    _print(result, as_json, report_text(out, RunState(result["state"]), result))


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

    _finish(simulate_run(load_experiment(experiment), out, resume=resume), as_json)


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
    _print(data, as_json, queried_text(data))


@app.command()
def verify(run: RunArgument, as_json: AsJson = False) -> None:
    """Check every stored frame and phase image against its ledger, and every planned frame for its fate."""
    from pipeline.store.verify import verify as verify_run

    report = verify_run(run)
    _print(report.as_dict(), as_json, report.text(run))
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
    _print(result, as_json, report_text(run, RunState(result["state"]), result, page))
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
    _print(result, as_json, text)


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
def train(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="dl_srqpi or neuph.")],
    experiment: Annotated[
        Path,
        typer.Option("--experiment", metavar="EXPERIMENT.yaml", help="The optics to train for."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE.safetensors",
            help="Where the weights go; the checkpoint lies beside. Named after the optics, in the current "
            "folder, if not given.",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.05,
            help="How long to train, in minutes of computing, without making the fields; 50 if neither this nor "
            "--steps is given.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="How many steps, instead of minutes: repeatable elsewhere."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=9999, help="Of data, initial weights and order.")
    ] = 0,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of dl_srqpi base, fast, sub_pixel, paper (width 64) or srcnn; of neuph compact or paper, or to see "
            "what a part is worth cnn_decoder or no_darkfield. The first of them, or that of the weights to begin "
            "from, if not given.",
        ),
    ] = None,
    conditions: Annotated[
        str,
        typer.Option(
            metavar="own|all",
            help="Of dl_srqpi. own: the experiment's defocus ± 10 % and coherence ± 0.05. "
            "all: a quarter of its defocus to 3.25 times it, S from 0 to 0.4.",
        ),
    ] = "own",
    upsampling: Annotated[
        int, typer.Option(min=1, max=8, help="Phase pixels per camera pixel; of dl_srqpi.")
    ] = 4,
    begin_from: Annotated[
        Path | None,
        typer.Option(
            metavar="base|fast|FILE",
            help="Weights to fine-tune, of these optics or others: those that come with livephase by their "
            "name, or a .safetensors file.",
        ),
    ] = None,
    recording: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN",
            help="A recording of one's own; repeatable. Of dl_srqpi a through-focus run: TIE at its full resolution is "
            "the label, its binned frames the input. Of neuph the experiment file of a single-LED recording: Fourier "
            "ptychography is the label, sums of its LEDs the input.",
        ),
    ] = None,
    specimens: Annotated[
        str | None,
        typer.Option(
            metavar="living|stained",
            help="Of neuph: what is simulated. stained: smears and sections, which absorb; living if not given.",
        ),
    ] = None,
    fields: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Simulated specimens; 400, or 150 to fine-tune, if not given; 320 of neuph.",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Patches a step; 4 if not given (6 of neuph), for a CPU. A GPU is fed by 16.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a method's network for one's own optics. Stopped or killed, the same command goes on."""
    from pipeline.experiment import load_experiment
    from pipeline.training import train as train_method
    from pipeline.training.progress import Progress

    result = train_method(
        method,
        load_experiment(experiment),
        out,
        minutes=minutes,
        steps=steps,
        seed=seed,
        network=network,
        scope=conditions,
        upsampling=upsampling,
        begin_from=begin_from,
        specimens=specimens,
        fields=fields,
        batch=batch,
        recordings=recording or [],
        report=Progress(),
    )
    _print(result, as_json, "\n".join(f"{k}: {v}" for k, v in result.items()))


@app.command()
def evaluate(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="dl_srqpi, fpm or neuph.")],
    experiment: Annotated[
        Path | None,
        typer.Option(
            "--experiment",
            metavar="EXPERIMENT.yaml",
            help="Optics; the demonstration's if not given. For fpm also the frames: a slot of its microscope.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="base|fast|FILE",
            help="Weights: a .safetensors file, or those that come with livephase by their name; "
            "base if not given.",
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="FPM.yaml",
            help="Of neuph, for real light: the experiment (method: fpm) of a recording LED by LED of the field that "
            "--experiment takes its patterns' frames of; its Fourier ptychography is what NeuPh and DPC are held "
            "against.",
        ),
    ] = None,
    srcnn: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Weights of SRCNN, the learned baseline; its row stays empty if livephase has none and none is given.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="For the tables as JSON and Markdown, and plots or pictures; none if not given. Of dl_srqpi, and of "
            "neuph with --reference.",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A minute's look: fewer and smaller fields.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score a method: a network on specimens that it never saw, fpm on frames that it was not shown.

    The full tables of a network take up to 40 minutes on two cores.
    """
    from pipeline.evaluation import evaluate as evaluate_method
    from pipeline.evaluation.fpm import fpm_text
    from pipeline.evaluation.markdown import tables_text
    from pipeline.evaluation.neuph.evaluate import neuph_text
    from pipeline.evaluation.neuph.real import real_text
    from pipeline.experiment import load_experiment
    from pipeline.lifecycle.demo import demo_experiment

    loaded = demo_experiment(method) if experiment is None else load_experiment(experiment)
    texts = {"fpm": fpm_text, "neuph": real_text if reference else neuph_text}
    result = evaluate_method(
        method,
        loaded,
        weights=weights,
        reference=None if reference is None else load_experiment(reference),
        srcnn=srcnn,
        out=out,
        quick=quick,
        report=lambda line: print(line, file=sys.stderr),
    )
    _print(result, as_json, texts.get(method, tables_text)(result))


@app.command()
def bench(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="camera, dl_srqpi, neuph, ring, service or stream."),
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="On the disk to measure; the current folder if not given."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure this machine: ratios against a baseline of the same run."""
    from pipeline.bench import bench_text, run_bench

    result = run_bench(name, folder or Path.cwd())
    _print(result, as_json, bench_text(name, result))


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
    _print([f.as_dict() for f in findings], as_json, "\n".join(f.text() for f in findings))
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
    _print(found.as_dict(), as_json, found.text())


@app.command()
def schema() -> None:
    """Print the JSON Schema of experiment files, for editors that complete and check YAML."""
    from pipeline.experiment import Experiment

    print(json.dumps(Experiment.model_json_schema(), indent=2))


_Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        help="The service's folder; LIVEPHASE_HOME, or livephase in your own folder, if not given.",
    ),
]


@app.command()
def serve(
    home: _Home = None,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on. Other machines reach it if it is not 127.0.0.1."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8770,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name that browsers may call it by; repeatable."),
    ] = None,
    open_metrics: Annotated[
        bool, typer.Option(help="Whether /metrics needs no token from this machine.")
    ] = True,
) -> None:
    """Serve the microscope: control API, the page, live images and metrics, until Ctrl+C.

    At a terminal the page's address with its token is printed. Ctrl+C or SIGTERM stops a run that goes on and
    waits until it has drained; a second one leaves the backlog to a resume.
    """
    from pipeline.server.home import default_home
    from pipeline.server.serve import serve as serve_forever

    serve_forever(
        home or default_home(),
        host,
        port,
        allow_hosts=tuple(allow_host or ()),
        open_metrics=open_metrics,
    )


_Run = Annotated[
    Path | None,
    typer.Argument(metavar="[RUN]", help="A run folder; the run of the service if not given."),
]


def _service(home: Path | None) -> Client:
    from pipeline.server.client import Client
    from pipeline.server.home import default_home

    return Client.of_home(home or default_home())


@app.command()
def address(home: _Home = None) -> None:
    """Print the page's address with its token, ready to click. Who knows it may do everything."""
    print(_service(home).page)


@app.command()
def start(
    experiment: ExperimentFile,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the run; of date and experiment if not given."),
    ] = None,
    home: _Home = None,
) -> None:
    """Begin a run of the service. Paths in the experiment are relative to its file."""
    from pipeline.experiment import dump_experiment, load_experiment

    text = dump_experiment(load_experiment(experiment))
    print(f"begun: {_service(home).begin(text, name)}")


@app.command()
def runs(home: _Home = None, as_json: AsJson = False) -> None:
    """List the service's runs, the newest first."""
    found = _service(home).runs()
    lines = [f"{r.state:12} {r.name}  ({r.method}, {r.timepoints} timepoints)" for r in found.runs]
    _print(found.model_dump(mode="json"), as_json, "\n".join(lines) or "no runs yet")


@app.command()
def status(run: _Run = None, home: _Home = None, as_json: AsJson = False) -> None:
    """Show a run, or the service and its run: the state, and figures while it goes on."""
    if run is not None:
        from pipeline.lifecycle.remote import run_status

        data = run_status(run)
        shown = data
    else:
        found = _service(home).status()
        data = found.model_dump(mode="json")
        shown = {f"service {k}": v for k, v in data["service"].items()} | (data["run"] or {})
    lines = [f"{k}: {v}" for k, v in shown.items() if k not in ("alarms", "suspended")]
    if shown.get("suspended"):
        lines.append(shown["suspended"])
    lines += [f"alarm: {alarm['text']}" for alarm in shown.get("alarms", [])]
    _print(data, as_json, "\n".join(lines))


def _ask(run: Path | None, home: Path | None, request: str) -> None:
    if run is None:
        print(_service(home).ask(request))
        return
    from pipeline.lifecycle.remote import ask

    print(ask(run, request))


@app.command()
def pause(run: _Run = None, home: _Home = None) -> None:
    """Pause a run that is going on: light off, clock held, everything stored."""
    _ask(run, home, "pause")


@app.command()
def resume(run: _Run = None, home: _Home = None) -> None:
    """Go on with a paused run. (A run that was stopped or killed: `livephase run … --resume`.)"""
    _ask(run, home, "resume")


@app.command()
def stop(run: _Run = None, home: _Home = None) -> None:
    """Stop a run after the timepoint it is at; it can be resumed."""
    _ask(run, home, "stop")


@app.command()
def abort(run: _Run = None, home: _Home = None) -> None:
    """End a run at once and mark it aborted; what is complete is kept."""
    _ask(run, home, "abort")


def _act(run: Path, kind: str, *numbers: float) -> None:
    from pipeline import actions
    from pipeline.lifecycle.remote import act

    try:
        action = getattr(actions, kind)(*numbers)
    except ValueError as error:
        raise LivephaseError(
            str(error), "give a number with its sign, such as 0.5 or -0.5"
        ) from None
    print(act(run, action))


_SIGNED = {"ignore_unknown_options": True}  # -0.5 is a number


@app.command()
def interval(
    run: RunArgument, seconds: Annotated[float, typer.Argument(metavar="SECONDS")]
) -> None:
    """Change the interval of a run that is going on, from its next timepoint on."""
    _act(run, "SetInterval", seconds)


@app.command(context_settings=_SIGNED)
def refocus(run: RunArgument, um: Annotated[float, typer.Argument(metavar="UM")]) -> None:
    """Move the focus of a run that is going on; +: the plane in focus lies farther downstream."""
    _act(run, "Refocus", um)


@app.command(context_settings=_SIGNED)
def move(
    run: RunArgument,
    dx: Annotated[float, typer.Argument(metavar="DX", help="µm along x.")],
    dy: Annotated[float, typer.Argument(metavar="DY", help="µm along y.")],
) -> None:
    """Move every place that a run looks at by so many µm."""
    _act(run, "Move", dx, dy)


def _finish(result: Any, as_json: bool = False) -> None:
    """Print how a run ended; exit with the status that says so."""
    _print(result.report, as_json, result.text())
    if result.error is not None:
        raise result.error


def _end(error: LivephaseError) -> NoReturn:
    """Say a failure in a sentence, and exit with its status."""
    # No capital first: it may be a path, a key or a file name.
    text = str(error)
    print(f"livephase: {text}{'' if text.endswith(('.', '?', '!')) else '.'}", file=sys.stderr)
    sys.exit(error.exit_code)


def main() -> None:
    """Entry point of the command `livephase`."""
    for stream in (sys.stdout, sys.stderr):
        # Windows redirects in a code page that has neither λ nor ≥.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")
    try:
        app()
    except LivephaseError as error:
        _end(error)
    except OSError as error:
        where = error.filename or "a file"
        _end(
            LivephaseError(
                f"{where} can't be used ({error.strerror or error})",
                "check the path, its permissions and the disk",
            )
        )
    except KeyboardInterrupt:
        sys.exit(130)
