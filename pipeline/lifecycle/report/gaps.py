"""Every gap of a run in words: which frames are missing and why, which phase images and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import FrameStatus, MissingReason, Plan, reason_in_words
from pipeline.lifecycle.report.html import table
from pipeline.store.reader import RunReader
from pipeline.wording import many, timepoints_in_words

# Frames that the run has not come to; no number of a `MissingReason`.
_PENDING = 255
_WRITTEN = 254

# `frames.zarr` and the ledger have them all; a page has room for these.
_MOST_ROWS = 16
_MOST_NAMES = 6
_MOST_STRIPS = 12
_STRIP_COLUMNS = 480
_SHADES = 5


@dataclass(frozen=True)
class Gap:
    """The same frames of some timepoints.

    Parameters
    ----------
    where
        Positions and channels in words; empty where it is all there is.
    timepoints
        Ranges of timepoints, first and last, from 0 on.
    frames
        How many in all.
    """

    where: str
    timepoints: tuple[tuple[int, int], ...]
    frames: int


def missing_frames(reader: RunReader) -> dict[int, list[Gap]]:
    """The gaps by `MissingReason`; only of frames whose fate is known."""
    return {
        reason: list(_gaps(reader.plan, fates == reason))
        for fates in (_fates(reader),)
        for reason in sorted(set(np.unique(fates).tolist()) - {_WRITTEN, _PENDING})
    }


def missing_phase(reader: RunReader) -> dict[str, NDArray[np.bool_]]:
    """Recorded slots without a phase image, ``[timepoints, positions]`` by what goes on after "2 images"."""
    frames = reader.raw_records.last("frames")
    whole = (frames["status"] == FrameStatus.WRITTEN).all(axis=-1)
    left = reader.committed() & ~reader.reconstructed()
    skipped = left & reader.skipped()
    found = {
        "could not be made, as frames are missing": left & ~skipped & ~whole,
        "could not be made of their frames: the log says why": skipped,
        "still to be made": left & ~skipped & whole,
    }
    return {why: slots for why, slots in found.items() if slots.any()}


def gaps_html(reader: RunReader, *, reconstructs: bool) -> str:
    """The section: a strip that shows where, and tables that say what and why."""
    fates = _fates(reader)
    parts = [_strips(reader, fates, reconstructs=reconstructs)]
    found = missing_frames(reader)
    for reason, gaps in found.items():
        frames = sum(gap.frames for gap in gaps)
        why = reason_in_words(reason)
        parts.append(f"<h3>{many(frames, 'frame')}: {escape(why)}</h3>{_gap_table(gaps)}")
    note = "Timepoints count from 1 here; in the stores, the log and the commands' options from 0."
    parts.insert(0, f'<p class="note">{note}</p>' if found else "<p>No frame is missing.</p>")
    if reconstructs:
        for why, slots in missing_phase(reader).items():
            gaps = list(_gaps(reader.plan, slots[..., None]))
            count = many(int(slots.sum()), "phase image")
            parts.append(f"<h3>{count} {escape(why)}</h3>{_gap_table(gaps, phase=True)}")
    return "".join(parts)


def _fates(reader: RunReader) -> NDArray[np.uint8]:
    """``[T, P, K]``: `_WRITTEN`, `_PENDING` or the `MissingReason`."""
    frames = reader.raw_records.last("frames")
    lost = frames["status"] == FrameStatus.MISSING
    fates = np.where(lost, frames["reason"], np.uint8(_WRITTEN)).astype(np.uint8)
    cut_short = reader.folder.state().cut_short
    fates[~reader.committed()] = MissingReason.STOPPED if cut_short else _PENDING
    return fates


def _gaps(plan: Plan, mask: NDArray[np.bool_]) -> Iterator[Gap]:
    """Timepoints that lack the same frames belong together; the first to appear comes first."""
    flat = mask.reshape(len(mask), -1)
    rows = np.flatnonzero(flat.any(axis=1))
    if not len(rows):
        return
    patterns, which = np.unique(np.packbits(flat[rows], axis=1), axis=0, return_inverse=True)
    which = which.reshape(-1)
    firsts = [int(rows[np.argmax(which == i)]) for i in range(min(len(patterns), 1000))]
    for i in np.argsort(firsts, kind="stable"):
        here = rows[which == i]
        breaks = np.flatnonzero(np.diff(here) > 1)
        begins, ends = here[np.r_[0, breaks + 1]], here[np.r_[breaks, len(here) - 1]]
        frames = len(here) * int(flat[here[0]].sum())
        ranges = tuple(zip(begins.tolist(), ends.tolist(), strict=True))
        yield Gap(_where(plan, mask[here[0]]), ranges, frames)


def _where(plan: Plan, lost: NDArray[np.bool_]) -> str:
    """``[P, K]`` (K 1: whole slots) in words; empty where it is everything."""
    by_frames: dict[bytes, list[int]] = {}
    for position, frames in enumerate(lost):
        if frames.any():
            by_frames.setdefault(frames.tobytes(), []).append(position)
    parts = []
    for positions in by_frames.values():
        places = ""
        if len(positions) < len(plan.positions):
            places = _names([plan.positions[p].name for p in positions], "positions")
        frames = lost[positions[0]]
        what = "" if frames.all() else _frames_in_words(plan, frames)
        parts.append(": ".join(text for text in (places, what) if text))
    return "; ".join(part for part in parts if part)


def _frames_in_words(plan: Plan, frames: NDArray[np.bool_]) -> str:
    grid = frames.reshape(len(plan.channels), len(plan.foci_um))
    whole = [c.name for c, foci in zip(plan.channels, grid, strict=True) if foci.all()]
    parts = [_names(whole, "channels")] if whole else []
    for channel, foci in zip(plan.channels, grid, strict=True):
        if foci.any() and not foci.all():
            heights = [f"{z:+g} µm" for z, gone in zip(plan.foci_um, foci, strict=True) if gone]
            parts.append(f"{channel.name} at {_names(heights, 'foci')}")
    if len(parts) > _MOST_NAMES:
        parts = [f"{int(frames.sum())} frames of {len(parts)} channels"]
    return ", ".join(parts)


def _names(names: Sequence[str], kind: str) -> str:
    if len(names) <= _MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[: _MOST_NAMES - 2])} … {names[-1]} ({len(names)} {kind})"


def _gap_table(gaps: Sequence[Gap], *, phase: bool = False) -> str:
    rest = ""
    if len(gaps) > _MOST_ROWS:
        gaps = sorted(gaps, key=lambda gap: -gap.frames)
        left = gaps[_MOST_ROWS:]
        first, last = min(g.timepoints[0][0] for g in left), max(g.timepoints[-1][1] for g in left)
        rest = (
            f'<p class="note">And {many(sum(g.frames for g in left), "image" if phase else "frame")} in '
            f"{len(left):,} other combinations, from timepoint {first + 1} to {last + 1}; frames.zarr in the run "
            "folder has the fate of every frame.</p>"
        )
    rows = [
        (
            f'<span class="which">{escape(g.where or "everything")}</span>',
            f"{g.frames:,}",
            escape(timepoints_in_words(g.timepoints)),
        )
        for g in gaps[:_MOST_ROWS]
    ]
    return table(("which", "images" if phase else "frames", "when"), rows) + rest


def _strips(reader: RunReader, fates: NDArray[np.uint8], *, reconstructs: bool) -> str:
    """A line for each position, frames over phase, from the first timepoint to the last."""
    plan = reader.plan
    settled = reader.reconstructed()
    lines = []
    for p, position in enumerate(plan.positions[:_MOST_STRIPS]):
        raw = np.where(fates[:, p] == _WRITTEN, 0, 1)
        raw[fates[:, p] == _PENDING] = 2
        name = escape(position.name) if len(plan.positions) > 1 else ""
        lines.append((f"{name} frames", _strip(raw)))
        if reconstructs:
            phase = np.where(settled[:, p], 0, np.where(reader.committed()[:, p], 1, 2))
            lines.append((f"{name} phase", _strip(phase[:, None])))
    rows = "".join(f"<span>{name.strip()}</span>{strip}" for name, strip in lines)
    more = len(plan.positions) - _MOST_STRIPS
    note = f'<p class="note">{many(more, "more position")} not shown.</p>' if more > 0 else ""
    key = "".join(
        f'<i class="key" style="background:var(--{colour})"></i>{text}'
        for colour, text in (("ok", "there"), ("bad", "missing"), ("wait", "not there as yet"))
    )
    return (
        f'<p class="note">{key}</p><div class="strips">{rows}<div class="x"><span>timepoint 1</span>'
        f"<span>{plan.timepoints:,}</span></div></div>{note}"
    )


def _strip(kinds: NDArray[np.int_]) -> str:
    """``[T, n]`` of 0 there, 1 missing, 2 not yet; the more is missing of a column, the higher is the red."""
    timepoints = len(kinds)
    columns = min(timepoints, _STRIP_COLUMNS)
    begins = np.arange(columns) * timepoints // columns
    each = np.diff(np.append(begins, timepoints))
    lost = np.add.reduceat((kinds == 1).mean(axis=1), begins) / each
    wait = np.logical_or.reduceat((kinds == 2).any(axis=1), begins)
    shade = np.ceil(lost * _SHADES).astype(np.intp)
    look = np.where(shade > 0, shade, np.where(wait, -1, 0))
    edges = np.r_[0, np.flatnonzero(np.diff(look)) + 1, columns]
    rects = "".join(
        _rect(int(look[a]), a, b - a)
        for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    )
    return (
        f'<svg viewBox="0 0 {columns} 1" preserveAspectRatio="none" shape-rendering="crispEdges" '
        f'aria-hidden="true">{rects}</svg>'
    )


def _rect(look: int, x: int, width: int) -> str:
    if look <= 0:
        return f'<rect class="s{2 if look else 0}" x="{x}" y="0" width="{width}" height="1"/>'
    # A little is missing of a long stretch: still to be seen.
    height = 0.3 + 0.7 * look / _SHADES
    there = f'<rect class="s0" x="{x}" y="0" width="{width}" height="1"/>' if height < 1 else ""
    return f'{there}<rect class="s1" x="{x}" y="{1 - height:.2f}" width="{width}" height="{height:.2f}"/>'
