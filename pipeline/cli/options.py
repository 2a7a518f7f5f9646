"""What several verbs share: their arguments, and how they end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

ExperimentFile = Annotated[
    Path, typer.Argument(metavar="EXPERIMENT.yaml", help="The experiment file.")
]
RunOut = Annotated[Path, typer.Option("--out", metavar="RUN", help="The run folder.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def print_result(data: Any, as_json: bool, text: str) -> None:
    """The data as JSON, or the text."""
    print(json.dumps(data) if as_json else text)


def finish(result: Any, as_json: bool = False) -> None:
    """Print how a run ended; exit with the status that says so."""
    print_result(result.report, as_json, result.text())
    if result.error is not None:
        raise result.error
