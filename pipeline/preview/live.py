"""`livephase live`: look after look, the newest only; Ctrl+C ends it, and the light is off.

Each look is taken when the one before has been shown: nothing queues, however slow the reconstruction or
the terminal. The light is on during a look's own exposures only.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from drivers.taking import Microscope
from pipeline.experiment import Experiment
from pipeline.frames import SlotKey
from pipeline.instrument import check_fit, resolve_calibration
from pipeline.preview.figures_text import look_text
from pipeline.preview.files import check_out, write_look
from pipeline.preview.looking import Look, Looker
from pipeline.preview.snap import looked_through
from pipeline.stages.interrupt import ended_like_ctrl_c

Show = Callable[[Look, str], None]


def live(
    experiment: Experiment | Path | str,
    show: Callable[[Look, int], None],
    *,
    channel: str | None = None,
    position: str | None = None,
    frames: int | None = None,
    fps: float | None = None,
    reconstruct: bool = True,
) -> int:
    """Take look after look until Ctrl+C, or `frames` of them; returns how many.

    Parameters
    ----------
    show
        Called with each look and its number from 0. The next one waits for it, in the dark.
    fps
        At most so many looks a second; as fast as the devices and `show` go if not given.

    A simulator and a recording go on with their next timepoint from look to look.

    Raises
    ------
    LivephaseError
        As `snap`.
    """
    experiment, place = looked_through(experiment, channel, position)
    calibration = resolve_calibration(experiment)
    remarks = check_fit(experiment, calibration)
    timepoints = experiment.plan().timepoints
    taken = 0
    try:
        with ended_like_ctrl_c(), Microscope(experiment) as microscope:
            looker = Looker(microscope, experiment, calibration, reconstruct=reconstruct)
            while frames is None or taken < frames:
                began = time.monotonic()
                look = looker.look(SlotKey(taken % timepoints, place))
                show(look.with_remarks(*remarks), taken)
                taken += 1
                if fps is not None and taken != frames:
                    time.sleep(max(0.0, began + 1 / fps - time.monotonic()))
    except KeyboardInterrupt:
        # The way out. The shot has put the light out on its way here, and the microscope is closed.
        pass
    return taken


def live_command(
    path: Path,
    *,
    channel: str | None,
    position: str | None,
    frames: int | None,
    fps: float | None,
    out: Path | None,
    reconstruct: bool,
) -> None:
    """See the verb's help. Raises `LivephaseError`."""
    if out is not None:
        check_out(out)
    experiment, _ = looked_through(path, channel, position)
    last: list[tuple[Look, str]] = []
    with _display(experiment, out) as display:
        began = time.monotonic()

        def show(look: Look, number: int) -> None:
            rate = (number + 1) / max(time.monotonic() - began, 1e-9)
            status = f"look {number + 1}  {rate:.1f}/s  light so far {look.light_s:.2f} s"
            display(look, status)
            last[:] = [(look, status)]

        taken = live(
            experiment,
            show,
            position=position,
            frames=frames,
            fps=fps,
            reconstruct=reconstruct,
        )
    if last:
        look, status = last[0]
        print(look_text(look))
        print(f"{status}; the light is off")
    elif not taken:
        print("ended before the first look; the light is off")


@contextmanager
def _display(experiment: Experiment, out: Path | None) -> Iterator[Show]:
    """Where the looks go: a file that is written anew, the terminal, or lines."""
    if out is not None:

        def to_file(look: Look, status: str) -> None:
            write_look(look, experiment, out, experiment.name)
            _line(look, f"{status}  {out}")

        yield to_file
    elif sys.stdout.isatty():
        with _terminal() as show:
            yield show
    else:
        yield _line


def _line(look: Look, status: str) -> None:
    """A look in one line, for log files."""
    medians = "  ".join(f"{f.channel} {f.median:.0f} ({f.focus:.3g})" for f in look.figures)
    residual = "" if look.residual is None else f"  residual {look.residual:.3g}"
    print(f"{status}  {medians}{residual}", file=sys.stderr, flush=True)


@contextmanager
def _terminal() -> Iterator[Show]:
    """On a screen of its own, which gives way to what was there before."""
    # rich is wanted by the terminal's picture only.
    from rich.console import Console, Group  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from pipeline.preview.terminal import look_picture  # noqa: PLC0415

    console = Console()
    with Live(console=console, screen=True, auto_refresh=False) as screen:

        def show(look: Look, status: str) -> None:
            text = f"{look_text(look)}\n{status}  Ctrl+C ends"
            lines = Text(text, no_wrap=True, overflow="crop")
            rows = max(2, console.height - text.count("\n") - 2)
            screen.update(Group(look_picture(look, rows), lines), refresh=True)

        yield show
