"""What becomes of a wish: damped, held against deadbands and limits. Pure: no processes, no files."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.actions import Action, Move, Refocus, SetInterval
from pipeline.control import Target
from pipeline.experiment import ControllerEntry, Experiment

_LEAST_UM = 1e-9


@dataclass(frozen=True)
class Bounded:
    """`target` is where to go, None where nothing is done; `why` says how the wish was bent, or why it was dropped."""

    target: Target | None
    why: str = ""


def bounded(  # noqa: PLR0911 - one for each reason
    action: Action, held: Target, experiment: Experiment, entry: ControllerEntry | None
) -> Bounded:
    """The next target, one number on.

    Parameters
    ----------
    held
        Where everything is to be so far.
    entry
        Of the controller that asks; None for a person, who is neither damped nor held to a deadband.
    """
    reason = impossible(action, experiment)
    if reason:
        return Bounded(None, reason)
    limits = experiment.control.limits
    damping = 1.0 if entry is None else entry.damping
    number = held.number + 1
    if isinstance(action, Refocus):
        dead = 0.0 if entry is None else entry.deadband.refocus_um
        if abs(action.dz_um) < dead:
            return Bounded(None, f"within the deadband of {dead:g} µm")
        focus_um = _toward(
            held.focus_um, damping * action.dz_um, limits.refocus_um, limits.refocus_total_um
        )
        return _made(
            held._replace(number=number, focus_um=focus_um),
            held,
            abs(focus_um - held.focus_um - damping * action.dz_um) > _LEAST_UM,
            f"clamped to {focus_um - held.focus_um:+.4g} µm",
        )
    if isinstance(action, Move):
        dead = 0.0 if entry is None else entry.deadband.move_um
        if max(abs(action.dx_um), abs(action.dy_um)) < dead:
            return Bounded(None, f"within the deadband of {dead:g} µm")
        x, y = (
            _toward(at, damping * d, limits.move_um, limits.move_total_um)
            for at, d in zip(held.stage_um, (action.dx_um, action.dy_um), strict=True)
        )
        went = (x - held.stage_um[0], y - held.stage_um[1])
        short = max(abs(went[0] - damping * action.dx_um), abs(went[1] - damping * action.dy_um))
        return _made(
            held._replace(number=number, stage_um=(x, y)),
            held,
            short > _LEAST_UM,
            f"clamped to ({went[0]:+.4g}, {went[1]:+.4g}) µm",
        )
    assert isinstance(action, SetInterval)
    interval_s = min(max(action.interval_s, limits.interval_least_s), limits.interval_most_s)
    dead = 0.0 if entry is None else entry.deadband.interval_share
    if abs(interval_s - held.interval_s) < dead * held.interval_s:
        return Bounded(None, f"within the deadband of {dead:.0%}")
    return _made(
        held._replace(number=number, interval_s=interval_s),
        held,
        interval_s != action.interval_s,
        f"clamped to {interval_s:g} s",
    )


def impossible(action: Action, experiment: Experiment) -> str:
    """Why an experiment can't do such a thing at all; empty where it can."""
    sequence, driver = experiment.sequence, experiment.microscope.driver
    if isinstance(action, Refocus | Move) and driver == "replay":
        return "a recording can't be refocused or moved"
    if isinstance(action, SetInterval):
        if not sequence.interval_s:
            return "the sequence has no interval (sequence.interval_s)"
        if sequence.slot_order == "pt" and len(sequence.positions) > 1:
            return "positions are taken one after the other (slot_order: pt): each has a time of its own"
    return ""


def _toward(at: float, step: float, most: float, farthest: float) -> float:
    """From `at` by `step`, at most `most`, and no farther from 0 than `farthest`."""
    return min(max(at + min(max(step, -most), most), -farthest), farthest)


def _made(target: Target, held: Target, is_clamped: bool, how: str) -> Bounded:
    if target._replace(number=held.number) == held:
        return Bounded(None, "it is at its limit" if is_clamped else "nothing changes")
    return Bounded(target, how if is_clamped else "")
