"""Which axis is which, in a file that does not say."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from pipeline.errors import ExperimentError
from pipeline.frames import Plan


def axes_by_shape(path: Path, leading: tuple[int, ...], plan: Plan, loop: bool) -> str:
    """Name the axes before ``[y, x]`` so that they explain the plan: some of ``"tcz"`` in this
    order.

    Channels and foci must have the plan's number exactly, and only an axis of length one may be
    absent: so there is never a choice between two readings. An axis of time may be longer than the
    plan, or shorter where the recording loops.

    Raises
    ------
    ExperimentError
        With the shape that would fit.
    """
    sizes = {"t": plan.timepoints, "c": len(plan.channels), "z": len(plan.foci_um)}
    for axes in combinations("tcz", len(leading)):
        lengths = dict(zip(axes, leading, strict=True))
        absent_are_single = all(
            sizes[a] == 1 or (a == "t" and loop) for a in sizes if a not in axes
        )
        stack_fits = all(lengths[a] == sizes[a] for a in "cz" if a in axes)
        time_fits = loop or lengths.get("t", 1) >= sizes["t"]
        if absent_are_single and stack_fits and time_fits:
            return "".join(axes)
    y, x = plan.frame_shape
    shape = f"[{sizes['t']}, {sizes['c']}, {sizes['z']}, {y}, {x}]"
    raise ExperimentError(
        f"{path.name} has {list(leading)} frames, which the experiment's "
        f"{sizes['t']} timepoints, {sizes['c']} channels and {sizes['z']} foci don't explain",
        f"give [t, c, z, y, x] = {shape} (axes of length 1 may be left out), or correct the "
        "sequence",
    )


def axes_by_count(path: Path, pages: int, plan: Plan, loop: bool) -> int:
    """Timepoints in a plain stack of pages ordered timepoint, channel, focus.

    The plan must explain the count exactly: a stack of another experiment would be read with its
    channels shifted.

    Raises
    ------
    ExperimentError
        With the number of pages that would fit.
    """
    per_slot = plan.frames_per_slot
    timepoints, rest = divmod(pages, per_slot)
    if rest or (timepoints != plan.timepoints and not (loop and timepoints)):
        raise ExperimentError(
            f"{path.name} is a plain stack of {pages} pages, but {plan.timepoints} timepoints x "
            f"{len(plan.channels)} channels x {len(plan.foci_um)} foci are "
            f"{plan.timepoints * per_slot}",
            "correct the sequence, or save as OME-TIFF, which says which page is what",
        )
    return timepoints
