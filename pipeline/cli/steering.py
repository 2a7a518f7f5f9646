"""Verbs that steer a run that goes on: interval, refocus, move."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import app
from pipeline.cli.options import RunArgument
from pipeline.errors import LivephaseError


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
