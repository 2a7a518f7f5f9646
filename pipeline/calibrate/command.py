"""`livephase calibrate` at a terminal: asks, tells, ends with a status."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pipeline.calibrate.history import CalibrationFolder
from pipeline.calibrate.result import Answer, SessionResult
from pipeline.calibrate.session import calibrate
from pipeline.calibrate.showing import show, shown_text
from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment, load_experiment

_INTERRUPTED = 130


def calibrate_command(
    experiment: Path | None,
    steps: tuple[str, ...],
    out: Path | None,
    *,
    options: tuple[str, ...],
    grating_um: float | None,
    yes: bool,
    show_folder: Path | None,
    restore: str | None,
    as_json: bool,
) -> None:
    """See the verb's help.

    Raises
    ------
    LivephaseError
        Also if a step refused its data, after all others were measured.
    """
    loaded = None if experiment is None else load_experiment(experiment)
    if show_folder is not None:
        _show(show_folder, loaded, as_json)
        return
    if restore is not None:
        if out is None:
            raise ExperimentError("--restore needs a folder", "give --out FOLDER, too")
        CalibrationFolder(out).restore(restore)
        _show(out, loaded, as_json)
        return
    if loaded is None:
        raise ExperimentError(
            "no experiment is given", "`livephase calibrate EXPERIMENT.yaml --out FOLDER`"
        )
    chosen = _options(options)
    if grating_um is not None:
        chosen.setdefault("pixel_size", {})["period_um"] = str(grating_um)

    def say(line: str) -> None:
        # stdout is one JSON object's or a person's, who reads both.
        print(line, file=sys.stderr, flush=True)

    result = calibrate(
        loaded, out, steps=steps, options=chosen, ask=None if yes else _ask_at_terminal, say=say
    )
    print(json.dumps(result.as_dict()) if as_json else _text(result, loaded))
    if result.stopped:
        sys.exit(_INTERRUPTED)
    if result.error is not None:
        raise result.error


def _show(folder: Path, experiment: Experiment | None, as_json: bool) -> None:
    shown = show(folder, experiment)
    print(json.dumps(shown) if as_json else shown_text(shown))


def _options(texts: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """``dark.frames=64`` → ``{"dark": {"frames": "64"}}``."""
    options: dict[str, dict[str, str]] = {}
    for text in texts:
        place, equals, value = text.partition("=")
        step, dot, name = place.partition(".")
        if not (equals and dot):
            raise ExperimentError(
                f"--option '{text}' is not an option", "write STEP.NAME=VALUE, as dark.frames=64"
            )
        options.setdefault(step, {})[name] = value
    return options


def _ask_at_terminal(request: str) -> Answer:
    if not sys.stdin.isatty():
        raise ExperimentError(
            f"there is nobody to ask to {request}",
            "run it in a terminal, or name the steps whose subject lies there and add --yes",
        )
    print(f"\n> {request}.\n> Enter goes on, s leaves it out, q ends: ", end="", file=sys.stderr)
    sys.stderr.flush()
    try:
        answer = input().strip().lower()
    except EOFError:
        return Answer.STOP
    return {"s": Answer.SKIP, "q": Answer.STOP}.get(answer[:1], Answer.READY)


def _text(result: SessionResult, experiment: Experiment) -> str:
    """What is known now, and how the next run comes to use it."""
    if not CalibrationFolder(result.folder).exists():
        return f"nothing was measured: {result.folder} holds no calibration"
    lines = [shown_text(show(result.folder, experiment))]
    source = experiment.calibration
    if source.folder is None or Path(source.folder).resolve() != result.folder.resolve():
        balanced = ", exposures: calibrated" if result.calibration.balanced_exposure_ms else ""
        lines.append(f"use it:  calibration: {{source: folder, folder: {result.folder}{balanced}}}")
    return "\n".join(lines)
