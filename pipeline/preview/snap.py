"""`livephase snap`: one slot, without a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from drivers.taking import Microscope
from pipeline.experiment import Experiment, load_experiment
from pipeline.frames import SlotKey
from pipeline.instrument import (
    check_fit,
    missing_aspects,
    resolve_calibration,
    resolve_exposures,
)
from pipeline.preview.figures_text import look_text
from pipeline.preview.files import check_out, write_look
from pipeline.preview.looking import Look, Looker, only_channel, position_index
from pipeline.stages.interrupt import ended_like_ctrl_c


def snap(
    experiment: Experiment | Path | str,
    *,
    channel: str | None = None,
    position: str | None = None,
    reconstruct: bool = True,
) -> Look:
    """Take the frames of one slot, correct and reconstruct them; the light is off afterwards.

    Parameters
    ----------
    channel
        Only this one; all that the experiment takes if not given.
    position
        By name or by number from 0; the first if not given.
    reconstruct
        Whether to apply the experiment's method, where it has one.

    Raises
    ------
    LivephaseError
        If the experiment or its calibration does not fit, or the microscope fails.
    """
    experiment, place = looked_through(experiment, channel, position)
    calibration = resolve_calibration(experiment)
    remarks = check_fit(experiment, calibration)
    with ended_like_ctrl_c(), Microscope(experiment) as microscope:
        looker = Looker(microscope, experiment, calibration, reconstruct=reconstruct)
        look = looker.look(SlotKey(0, place))
    return look.with_remarks(*remarks)


def looked_through(
    experiment: Experiment | Path | str, channel: str | None, position: str | None
) -> tuple[Experiment, int]:
    """The experiment as a look takes it, and the number of the position. Raises `LivephaseError`."""
    if not isinstance(experiment, Experiment):
        experiment = load_experiment(Path(experiment))
    experiment = only_channel(resolve_exposures(experiment), channel)
    return experiment, position_index(experiment, position)


def look_dict(look: Look, experiment: Experiment) -> dict[str, Any]:
    """For JSON."""
    return {
        "experiment": experiment.name,
        "pixel_um": look.pixel_um,
        "figures": [f.as_dict() for f in look.figures],
        "outputs": list(look.outputs),
        "phase_rad": look.phase_range(),
        "residual": look.residual,
        "uncalibrated": missing_aspects(experiment, resolve_calibration(experiment)),
        "light_s": look.light_s,
        "remarks": list(look.remarks),
    }


def snap_command(
    path: Path,
    *,
    channel: str | None,
    position: str | None,
    out: Path | None,
    reconstruct: bool,
    as_json: bool,
) -> None:
    """See the verb's help. Raises `LivephaseError`."""
    if out is not None:
        check_out(out)
    experiment, _ = looked_through(path, channel, position)
    look = snap(experiment, position=position, reconstruct=reconstruct)
    written = [] if out is None else write_look(look, experiment, out, experiment.name)
    if as_json:
        files = [str(p) for p in written]
        print(json.dumps(look_dict(look, experiment) | {"files": files}))
        return
    if out is None and sys.stdout.isatty():
        from rich.console import Console  # noqa: PLC0415 - only a terminal's picture needs it

        from pipeline.preview.terminal import look_picture  # noqa: PLC0415

        console = Console()
        console.print(look_picture(look, rows=console.height // 2))
    print(look_text(look))
    for file in written:
        print(f"written: {file}")
