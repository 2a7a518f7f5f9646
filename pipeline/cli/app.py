"""The command that the verbs belong to."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline import __version__

app = typer.Typer(
    name="livephase",
    help="From camera to quantitative phase while the cells still move.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


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
