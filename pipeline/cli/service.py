"""The service, and the verbs that talk to it or to a run that goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.app import app
from pipeline.cli.options import AsJson, ExperimentFile, print_result

if TYPE_CHECKING:
    from pipeline.server.client import Client

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
    print_result(found.model_dump(mode="json"), as_json, "\n".join(lines) or "no runs yet")


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
    print_result(data, as_json, "\n".join(lines))


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
