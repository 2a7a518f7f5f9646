"""A run in a paragraph, for somebody who knows nothing of it."""

from __future__ import annotations

from typing import Any

from pipeline.frames import reason_in_words
from pipeline.lifecycle.report.gaps import Gap, missing_frames, missing_phase
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunState
from pipeline.wording import lasting, many, timepoints_in_words

# What a reader without the scale's feeling is told.
_EXPLAINED, _MOSTLY = 1.5, 5.0
_FEW_RANGES = 4


def summary(reader: RunReader, report: dict[str, Any]) -> str:
    """The paragraph, as text."""
    return " ".join(
        sentence
        for sentence in (
            _state(report),
            _frames(reader, report),
            _phase(reader, report),
            _trust(report),
            _restarts(report),
        )
        if sentence
    )


def needs_attention(report: dict[str, Any]) -> bool:
    """Whether something went otherwise than planned."""
    return report["state"] in (RunState.FAILED, RunState.ABORTED, RunState.INTERRUPTED)


def _state(report: dict[str, Any]) -> str:
    sessions = report["stages"]["sessions"]
    error = next((s["error"] for s in reversed(sessions) if s["error"]), None)
    return {
        RunState.DONE: "The run is complete.",
        RunState.STOPPED: "The run was stopped on request before its end; it can be resumed.",
        RunState.ABORTED: "The run was aborted.",
        RunState.FAILED: f"The run failed{f': {error}' if error else ''}. What was stored until then is valid.",
        RunState.INTERRUPTED: "The run was cut off: its processes were killed or the machine went down. "
        "What was stored until then is valid, and the run can be resumed.",
        RunState.RUNNING: "The run is going on; this is a report of what there is so far.",
    }[RunState(report["state"])]


def _frames(reader: RunReader, report: dict[str, Any]) -> str:
    plan = reader.plan
    places = f" at {many(len(plan.positions), 'position')}" if len(plan.positions) > 1 else ""
    over = f" of {many(plan.timepoints, 'timepoint')}{places}"
    planned, written, pending = (report[k] for k in ("planned", "written", "pending"))
    if written == planned:
        return f"All {many(planned, 'frame')}{over} are stored."
    text = (
        f"{written:,} of {planned:,} planned frames{over} {'is' if written == 1 else 'are'} stored"
    )
    if pending:
        so_far = "still to come" if report["state"] == RunState.RUNNING else "not taken as yet"
        text += f", {pending:,} {'is' if pending == 1 else 'are'} {so_far}"
    lost = missing_frames(reader)
    if not lost:
        return text + "; none is missing."
    verb = "is" if report["missing"] == 1 else "are"
    reasons = [
        f"{sum(g.frames for g in gaps):,} {reason_in_words(number)}{_when(gaps)}"
        for number, gaps in lost.items()
    ]
    return f"{text}; {report['missing']:,} {verb} missing: {', '.join(reasons)}."


def _when(gaps: list[Gap]) -> str:
    """The timepoints, where they are few enough for a sentence."""
    ranges = sorted({r for gap in gaps for r in gap.timepoints})
    return f" ({timepoints_in_words(ranges)})" if len(ranges) <= _FEW_RANGES else ""


def _phase(reader: RunReader, report: dict[str, Any]) -> str:
    if report["method"] == "none":
        return "It was to be recorded only: there is no phase."
    made = report["reconstructed"]
    text = (
        f"{many(made, 'phase image')} {'was' if made == 1 else 'were'} made by {report['method']}"
    )
    first = report["first_result_s"]
    if made and first is not None:
        text += f", the first {lasting(first)} after the start"
    without = [f"{int(slots.sum()):,} more {why}" for why, slots in missing_phase(reader).items()]
    if without:
        text += f"; {', '.join(without)}"
    return text + "."


def _trust(report: dict[str, Any]) -> str:
    parts = []
    residual = report["residual"]
    if residual is not None:
        said = (
            "the images explain the measured light down to the camera's noise"
            if residual < _EXPLAINED
            else "the images explain most of the measured light, but not all of it"
            if residual < _MOSTLY
            else "much of the measured light is not explained by the images: look before you measure"
        )
        parts.append(f"With a residual of {residual:.3g} (1 is noise alone), {said}.")
    alarms = report["alarms"]
    if isinstance(alarms, int) and alarms:
        parts.append(f"{many(alarms, 'image')} want{'s' if alarms == 1 else ''} looking at.")
    if report["uncalibrated"]:
        parts.append(f"Not calibrated: {', '.join(report['uncalibrated'])}.")
    return " ".join(parts)


def _restarts(report: dict[str, Any]) -> str:
    sessions = report["stages"]["sessions"]
    total = sum(sum(s["restarts"].values()) for s in sessions)
    parts = []
    if len(sessions) > 1:
        parts.append(f"It took {len(sessions)} sessions.")
    if total:
        parts.append(f"A process was restarted {total} time{'s' if total > 1 else ''} on the way.")
    return " ".join(parts)
