"""`livephase export`: from words to a file, with what is missing said."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.errors import ExperimentError
from pipeline.export.movie import export_movie
from pipeline.export.ome_tiff import export_ome_tiff
from pipeline.export.selection import What, parse_range, parse_timepoints
from pipeline.stages.priority import come_after_the_camera
from pipeline.wording import many, timepoints_in_words

_SAY_EVERY_S = 10.0
_MOST_LINES = 20
_MOST_PLANES = 6


def export_command(
    run: Path,
    *,
    movie: Path | None,
    ome_tiff: Path | None,
    what: What | None,
    fps: float,
    position: str | None,
    channel: str | None,
    timepoints: str | None,
    value_range: str | None,
    max_px: int,
    force: bool,
) -> tuple[dict[str, Any], str]:
    """Write what was asked for; for programs and for people. What is missing goes to stderr, too.

    Raises
    ------
    LivephaseError
        With the cause and the fix.
    """
    if movie is None and ome_tiff is None:
        raise ExperimentError(
            "nothing to export to", "give --movie FILE.mp4, --ome-tiff FILE.ome.tif, or both"
        )
    # A run may be going on beside it.
    come_after_the_camera("export")
    result: dict[str, Any] = {}
    lines: list[str] = []
    if movie is not None:
        made = export_movie(
            run,
            movie,
            what=what,
            fps=fps,
            position=position,
            channel=channel,
            timepoints=parse_timepoints(timepoints),
            value_range=parse_range(value_range),
            max_px=max_px,
            force=force,
            on_frame=_saying("frames"),
        )
        result["movie"] = made
        lines.append(_movie_text(made))
        for gap in made["missing"]:
            _warn(f"{gap['kind']}: {_when(gap['timepoints'])}: {gap['why']} (shown as missing)")
    if ome_tiff is not None:
        made = export_ome_tiff(
            run,
            ome_tiff,
            what=what,
            positions=None if position is None else [position],
            channels=None if channel is None else [channel],
            timepoints=parse_timepoints(timepoints),
            force=force,
            on_plane=_saying("planes"),
        )
        result["ome_tiff"] = made
        lines.append(_tiff_text(made))
        _warn_of_planes(made)
    return result, "\n".join(lines)


def _movie_text(made: dict[str, Any]) -> str:
    y, x = made["shape"]
    scales = ", ".join(
        f"{kind} {low:.4g} to {high:.4g}" for kind, (low, high) in made["ranges"].items()
    )
    lost = {t for gap in made["missing"] for a, b in gap["timepoints"] for t in range(a, b + 1)}
    shown = f", {len(lost)} of them shown as missing" if lost else ""
    return (
        f"written: {made['file']}, {many(made['frames'], 'timepoint')}{shown}, {x} x {y} pixels, "
        f"{made['fps']:g} a second, {made['bytes'] / 1e6:.2f} MB; {scales}"
    )


def _tiff_text(made: dict[str, Any]) -> str:
    images = "; ".join(
        f"{i['name']}: {i['axes']} {' x '.join(map(str, i['shape']))} {i['dtype']}"
        for i in made["images"]
    )
    lost = sum(b - a + 1 for gaps in made["missing"].values() for gap in gaps for a, b in gap["t"])
    missing = f", {lost} of them missing" if lost else ""
    planes = many(made["planes"], "plane")
    return f"written: {made['file']}, {planes}{missing}, {made['bytes'] / 1e6:.2f} MB; {images}"


def _warn_of_planes(made: dict[str, Any]) -> None:
    """What is missing of an OME-TIFF, the same timepoints together, in the run's own count."""
    first = made["timepoints"][0]
    found: dict[tuple[str, str, str], list[str]] = {}
    for image in made["images"]:
        for gap in made["missing"].get(image["name"], []):
            when = _when([[a + first, b + first] for a, b in gap["t"]])
            focus = f" (focus {gap['z']})" if image["shape"][2] > 1 else ""
            planes = found.setdefault((image["name"], when, gap["why"]), [])
            planes.append(image["channels"][gap["c"]] + focus)
    for (name, when, why), planes in list(found.items())[:_MOST_LINES]:
        more = f" and {len(planes) - _MOST_PLANES} more" if len(planes) > _MOST_PLANES else ""
        _warn(f"{name}: {', '.join(planes[:_MOST_PLANES])}{more}: {when}: {why}")
    if len(found) > _MOST_LINES:
        _warn(f"and {len(found) - _MOST_LINES} more; the file's annotation lists all")


def _when(timepoints: list[list[int]]) -> str:
    return timepoints_in_words([(a, b) for a, b in timepoints])


def _warn(text: str) -> None:
    print(f"missing: {text}", file=sys.stderr)


def _saying(things: str) -> Callable[[int, int], None]:
    """Says now and then how far it is, if that takes long enough to wonder."""
    said = time.monotonic()

    def say(done: int, of: int) -> None:
        nonlocal said
        if time.monotonic() - said > _SAY_EVERY_S:
            said = time.monotonic()
            print(f"{done:,} of {of:,} {things}", file=sys.stderr)

    return say
