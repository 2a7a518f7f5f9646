"""A run as a movie: a frame for each timepoint, also for those that are missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ExperimentError
from pipeline.export.encoder import MOVIE_ENDINGS, Encoder
from pipeline.export.lettering import Rgb, absent, blank, shortened, text_width, write
from pipeline.export.panels import Panel, in_focus, resized, seen_slots
from pipeline.export.selection import Selection, What, pick, select
from pipeline.export.target import check_target, new_file
from pipeline.frames import SlotKey
from pipeline.wording import ranges

# A picture smaller than this is enlarged by a whole number: words need room, and players blur.
_LEAST_PX = 400
_MOST_FPS = 240


def export_movie(
    run: Path | str,
    out: Path | str,
    *,
    what: What | None = None,
    fps: float = 10.0,
    position: str | int | None = None,
    channel: str | int | None = None,
    timepoints: tuple[int | None, int | None] | None = None,
    value_range: tuple[float, float] | None = None,
    max_px: int = 1080,
    force: bool = False,
    on_frame: Callable[[int, int], None] = lambda _done, _of: None,
) -> dict[str, Any]:
    """Write a movie with scale bar, colour bar, timepoint and elapsed time.

    Each timepoint is one frame. One of which there is no picture is shown as missing, with the reason;
    none is left out or filled in. All frames have one scale of brightness.

    Parameters
    ----------
    run
        The run folder; also of a run that goes on: what is stored so far.
    out
        ``.mp4`` (H.264), ``.webm`` (VP9) or ``.gif``.
    what
        Phase, camera frames, or both side by side; phase where the run has any if not given.
    fps
        Timepoints shown a second.
    position, channel
        Name or number from 0; the first if not given. A channel is one of the light for camera frames, and
        one of the method's images for phase.
    timepoints
        First, and the one behind the last, from 0 on.
    value_range
        Of the colours: radians of phase, or counts where only camera frames are shown; chosen so that few
        pixels lie outside if not given.
    max_px
        Longest side of the pictures together.
    force
        Write over a file that is there.
    on_frame
        Called with the frames written so far and in all.

    Returns
    -------
    dict
        ``file``, ``bytes``, ``frames``, ``fps``, ``shape`` (y, x), ``what``, ``position``, ``channels``,
        ``timepoints`` (first and one behind the last), ``ranges`` by kind, ``missing`` (ranges of
        timepoints by kind and reason).

    Raises
    ------
    LivephaseError
        With the cause and the fix; no part of a file is left.
    """
    out = Path(out)
    check_target(out, MOVIE_ENDINGS, "--movie", force=force)
    if not 0 < fps <= _MOST_FPS:
        raise ExperimentError(f"{fps} frames a second can't be", f"give up to {_MOST_FPS}")
    if max_px < 64:
        raise ExperimentError(f"--max-px {max_px} leaves nothing to see", "give 64 or more")
    chosen = select(run, what, timepoints, None if position is None else [position])
    with chosen.reader:
        panels = _panels(chosen, channel, max_px)
        keys = [SlotKey(t, chosen.positions[0]) for t in chosen.timepoints]
        for panel in panels:
            panel.scale_by(seen_slots(panel, keys))
        if value_range is not None:
            panels[-1].low, panels[-1].high = value_range
        film = _Film(chosen, panels)
        with new_file(out) as temporary, Encoder(temporary, film.shape, fps) as encoder:
            for done, key in enumerate(keys, 1):
                encoder.add(film.frame(key))
                on_frame(done, len(keys))
            encoder.finish()
        return {
            "file": str(out),
            "bytes": out.stat().st_size,
            "frames": len(keys),
            "fps": fps,
            "shape": list(film.shape),
            "what": list(chosen.kinds),
            "position": chosen.reader.plan.positions[chosen.positions[0]].name,
            "channels": [panel.label for panel in panels],
            "timepoints": [chosen.timepoints.start, chosen.timepoints.stop],
            "ranges": {panel.kind: [panel.low, panel.high] for panel in panels},
            "missing": film.missing(),
        }


def _panels(chosen: Selection, channel: str | int | None, max_px: int) -> list[Panel]:
    reader, plan = chosen.reader, chosen.reader.plan
    most = max_px // len(chosen.kinds)
    panels = []
    if "raw" in chosen.kinds:
        number = 0 if channel is None else pick(channel, [c.name for c in plan.channels], "channel")
        focus = in_focus(plan.foci_um)
        height = f", {plan.foci_um[focus]:+g} µm" if len(plan.foci_um) > 1 else ""
        frame = number * len(plan.foci_um) + focus
        label = f"{plan.channels[number].name}{height}"
        panels.append(Panel(chosen, "raw", frame, label, "counts", most))
    if "phase" in chosen.kinds:
        outputs = reader.outputs()
        number = 0
        if channel is not None and "raw" not in chosen.kinds:
            number = pick(channel, outputs, "image")
        unit = "rad" if outputs[number] == "phase" else ""
        panels.append(Panel(chosen, "phase", number, outputs[number], unit, most))
    return panels


class _Film:
    """What the frames have in common, and how each is put together."""

    def __init__(self, chosen: Selection, panels: Sequence[Panel]) -> None:
        self._chosen, self._panels = chosen, panels
        # The last panel is phase where there is any: what else there is comes to its size.
        y, x = panels[-1].shape
        enlarge = max(1, -(-_LEAST_PX // max(y, x)))
        # Even sides, as the video formats share colours between four pixels; a last odd row is left out.
        self._picture = (y * enlarge // 2 * 2, x * enlarge // 2 * 2)
        self._enlarged = (y * enlarge, x * enlarge)
        self._gap = 4
        width = len(panels) * self._picture[1] + (len(panels) - 1) * self._gap
        self._px = int(np.clip(width // 42, 11, 22))
        self._legend = self._side_by_side([p.legend(self._picture[1], self._px) for p in panels])
        self._began = self._first_time()
        self._title = self._named()
        longest = self._times(chosen.timepoints[-1], 359_999.0)
        both = text_width(self._title, self._px) + text_width(longest, self._px) + 3 * self._px
        self._lines = 1 if both <= width else 2
        line = round(self._px * 1.5)
        self._head = (line * self._lines + self._px // 2 + 1) // 2 * 2
        foot = (self._legend.shape[0] + 1) // 2 * 2
        self.shape = (self._head + self._picture[0] + foot, width)
        self._missing: dict[tuple[str, str], list[int]] = {}

    def frame(self, key: SlotKey) -> Rgb:
        """The frame of a timepoint."""
        image = blank(*self.shape)
        self._write_head(image, key)
        pictures = self._side_by_side([self._picture_of(panel, key) for panel in self._panels])
        image[self._head : self._head + self._picture[0]] = pictures
        image[self._head + self._picture[0] :][: len(self._legend)] = self._legend
        return image

    def missing(self) -> list[dict[str, Any]]:
        """What was shown as missing so far."""
        return [
            {"kind": kind, "why": why, "timepoints": [list(r) for r in ranges(numbers)]}
            for (kind, why), numbers in self._missing.items()
        ]

    def _picture_of(self, panel: Panel, key: SlotKey) -> Rgb:
        why = panel.why_not(key)
        if why is not None:
            self._missing.setdefault((panel.kind, why), []).append(key.timepoint)
            thing = "frame" if panel.kind == "raw" else panel.label
            lines = (f"timepoint {key.timepoint + 1}: no {thing}", why)
            return absent(*self._picture, lines, self._px)
        image = resized(panel.coloured(panel.values(key)), self._enlarged)
        return image[: self._picture[0], : self._picture[1]]

    def _side_by_side(self, images: Sequence[Rgb]) -> Rgb:
        gap = blank(images[0].shape[0], self._gap)
        parts = [part for image in images for part in (image, gap)]
        return np.concatenate(parts[:-1], axis=1)

    def _write_head(self, image: Rgb, key: SlotKey) -> None:
        px, width = self._px, self.shape[1]
        times = self._times(key.timepoint, self._chosen.time_utc(key) - self._began)
        room = width - px if self._lines == 2 else width
        title = shortened(self._title, px, room)
        write(image, title, px // 2, px // 4, px)
        if self._lines == 1:
            write(image, times, width - px // 2, px // 4, px, from_right=True)
        else:
            write(image, times, px // 2, px // 4 + round(px * 1.5), px)

    def _named(self) -> str:
        reader = self._chosen.reader
        positions = reader.plan.positions
        place = f" · {positions[self._chosen.positions[0]].name}" if len(positions) > 1 else ""
        return f"{reader.experiment.name}{place}"

    def _times(self, timepoint: int, elapsed_s: float) -> str:
        of = self._chosen.reader.plan.timepoints
        text = f"timepoint {timepoint + 1} / {of}"
        if math.isfinite(self._began):
            known = math.isfinite(elapsed_s)
            text += f"   {_stopwatch(elapsed_s) if known else 'time not known'}"
        return text

    def _first_time(self) -> float:
        """When the run's first frame at this position was taken; NaN where no time is known."""
        recorded = self._chosen.reader.committed()[:, self._chosen.positions[0]]
        for t in np.flatnonzero(recorded).tolist():
            time_utc = self._chosen.time_utc(SlotKey(t, self._chosen.positions[0]))
            if math.isfinite(time_utc):
                return time_utc
        return math.nan


def _stopwatch(seconds: float) -> str:
    """``h:mm:ss.s``."""
    tenths = round(max(0.0, seconds) * 10)
    hours, rest = divmod(tenths, 36_000)
    minutes, rest = divmod(rest, 600)
    return f"{hours}:{minutes:02d}:{rest // 10:02d}.{rest % 10}"
