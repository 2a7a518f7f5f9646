"""Verbs about networks and figures: train, evaluate, bench."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import app
from pipeline.cli.options import AsJson, print_result


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
            "name, or a .safetensors file. Of neuph also another --network's: what both have is taken.",
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
            help="Simulated specimens; 400, or 150 to fine-tune, if not given; 900 of neuph.",
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
    print_result(result, as_json, "\n".join(f"{k}: {v}" for k, v in result.items()))


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
    from pipeline.evaluation.neuph.real import real_text
    from pipeline.evaluation.neuph.text import neuph_text
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
    print_result(result, as_json, texts.get(method, tables_text)(result))


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
    print_result(result, as_json, bench_text(name, result))
