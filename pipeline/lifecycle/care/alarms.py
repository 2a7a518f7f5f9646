"""The alarms: what each is raised by, and what it tells the user to do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from pipeline.experiment import AlarmName, Care
from pipeline.lifecycle.care.figures import Figures

Severity = Literal["warning", "critical"]

# A camera that waits for its next timepoint may come this share of the interval late.
_LATE_SHARE = 0.1


@dataclass(frozen=True)
class Limits:
    """What the experiment says of when an alarm is one."""

    care: Care
    focus_um: float


@dataclass(frozen=True)
class Alarm:
    """One alarm.

    Parameters
    ----------
    level
        1 or more: it is one, if that lasts `on_for_s` seconds. NaN: not known.
    text
        Cause and fix.
    off
        It is over when the level stays below that (for `care.well_for_s`).
    counts
        The level counts events, so it is over when there were none: at least twice the interval, too.
    shown_by_frames
        Only frames can show that it is over, so it can't go while the run is paused.
    """

    name: AlarmName
    severity: Severity
    level: Callable[[Figures, Limits], float]
    text: Callable[[Figures, Limits], str]
    on_for_s: float = 0.0
    off: float = 1.0
    counts: bool = False
    shown_by_frames: bool = False


def frame_limit_s(f: Figures, limits: Limits) -> float:
    """How long no frame may come."""
    return f.step_s + max(limits.care.stalled_after_s, _LATE_SHARE * f.interval_s)


def _over(needed: float, there: float) -> float:
    """How much of what is there is needed; infinite where there is nothing."""
    return needed / there if there else math.inf


_FIX_MISSING: Final = {
    "dropped": "check the camera's cable, or lower its rate",
    "overflow": "give it a larger buffer (microscope.buffer_mb), or a faster disk",
    "timeout": "check the camera's trigger and exposure",
    "disconnected": "check power and cable of the device that went away",
    "source": "the recording does not have them",
    "dose": "their positions have had all the light of safety.dose_limit_s",
}


def _missing(f: Figures, _: Limits) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in f.missing.items())
    fixes = [_FIX_MISSING[reason] for reason in f.missing if reason in _FIX_MISSING]
    return f"frames are missing in this session ({reasons}), each is recorded with its reason: {'; '.join(fixes)}"


def _overflow(f: Figures, _: Limits) -> str:
    return (
        "the camera's buffer overflowed: a larger buffer (microscope.buffer_mb), a lower rate or a "
        f"faster disk keeps its frames ({f.camera_fill:.0%} of it in use, {f.ring_fill:.0%} of the ring)"
    )


def _queue(f: Figures, _: Limits) -> str:
    if f.camera_fill > f.ring_fill:
        return (
            f"the camera's own buffer is {f.camera_fill:.0%} full: this machine is too busy to take the frames; close "
            "other programs, or lower the rate"
        )
    return (
        f"the ring is {f.ring_fill:.0%} full: storage is slower than the camera; use a faster disk, "
        "output.compression lz4, a lower rate, or a larger output.ring_gb for what passes"
    )


def _stalled(f: Figures, limits: Limits) -> str:
    return (
        f"no frame has come for {f.frame_age_s:.0f} s, at most {frame_limit_s(f, limits):.3g} s are planned: check the "
        "camera, its trigger and the exposure; the run goes on by itself when frames come"
    )


def _no_progress(f: Figures, _: Limits) -> str:
    return (
        f"nothing was acquired, stored or reconstructed for {f.progress_age_s:.0f} s: log.jsonl tells what each stage "
        "did last; `livephase stop`, then `--resume`, begins anew without losing a frame"
    )


def _latency(f: Figures, _: Limits) -> str:
    return (
        f"phase images take {f.latency_s:.3g} s, longer than the interval of {f.interval_s:.3g} s: nothing is lost, "
        "they are made up for later; use a GPU, more reconstruction.workers, a faster method or a longer interval"
    )


def _residual(f: Figures, _: Limits) -> str:
    return (
        f"the residual is {f.residual_ratio:.3g} times what it was at the beginning: the light, the focus or the "
        "specimen is no longer what was calibrated; look at the images, refocus, check the light, calibrate again"
    )


def _focus(f: Figures, limits: Limits) -> str:
    return (
        f"the specimen is {f.focus_error_um:.3g} µm out of focus, {limits.focus_um:.3g} µm are tolerated: let the "
        "stage settle, refocus, or give the focus controller longer limits"
    )


def _disk_filling(f: Figures, _: Limits) -> str:
    left = (
        f", it lasts for {_duration(f.disk_left_s)} and the run takes {_duration(f.run_left_s)} more"
        if math.isfinite(f.disk_left_s)
        else ""
    )
    return (
        f"the disk is filling up: {f.disk.free / 1e9:.3g} GB are free, {f.disk_free_share:.1%} of it{left}; make "
        "space, or stop what else writes to it"
    )


def _disk_full(f: Figures, _: Limits) -> str:
    return (
        f"the disk is nearly full: {f.disk.free / 1e9:.3g} GB are free and {f.disk_reserve_bytes / 1e9:.3g} GB are "
        "needed to end in good order; make space"
    )


def _gpu_hot(f: Figures, limits: Limits) -> str:
    return (
        f"a GPU is at {f.gpu.hottest_c or math.nan:.0f} °C, {limits.care.gpu_hot_c:.0f} °C or more is too hot: check "
        "its fans and the air around it, or what else runs on it"
    )


def _gpu_lost(f: Figures, _: Limits) -> str:
    return (
        f"{f.gpu.lost} GPU(s) that were there do not answer any more: `nvidia-smi` and the system's log say why; "
        "frames are stored all the same, and `--resume` reconstructs them when it is back"
    )


def _restarted(f: Figures, _: Limits) -> str:
    stages = ", ".join(f"{stage} {count} times" for stage, count in f.restarted.items())
    return (
        f"a stage died and was started again ({stages}): no frame is lost; log.jsonl has the reason, often it is "
        "memory: lower output.ring_gb or reconstruction.workers"
    )


def _silent(f: Figures, limits: Limits) -> str:
    still = [s for s in f.silent if s.silent_s >= limits.care.silent_after_s]
    which = ", ".join(f"{s.name} for {s.silent_s:.0f} s" for s in still)
    return (
        f"a stage shows no sign of life ({which}): a driver or a disk hangs; check the device, the mount and "
        "log.jsonl, or kill the process: record and reconstruct are started again"
    )


def _dead(f: Figures, _: Limits) -> str:
    return (
        f"a stage is dead for good ({', '.join(f.dead)}): log.jsonl has the reason; when the run "
        "has ended, `--resume` goes on"
    )


ALARMS: Final = (
    Alarm(
        "missing_frames",
        "critical",
        lambda f, _: sum(f.newly_missing.values()),
        _missing,
        counts=True,
    ),
    Alarm(
        "overflow",
        "critical",
        lambda f, _: f.newly_missing.get("overflow", 0),
        _overflow,
        counts=True,
    ),
    Alarm(
        "queue_filling",
        "warning",
        lambda f, _: max(f.ring_fill, f.camera_fill) / 0.75,
        _queue,
        on_for_s=2.0,
        off=0.5 / 0.75,
    ),
    Alarm("camera_stalled", "critical", lambda f, c: f.frame_age_s / frame_limit_s(f, c), _stalled),
    Alarm(
        "no_progress",
        "critical",
        lambda f, c: f.progress_age_s / (f.step_s + c.care.no_progress_after_s),
        _no_progress,
    ),
    Alarm(
        "latency",
        "warning",
        # As fast as the camera goes: reconstruction may lag behind that, by design.
        lambda f, _: f.latency_s / f.interval_s if f.interval_s > 0 else 0.0,
        _latency,
        on_for_s=5.0,
        off=0.8,
    ),
    Alarm(
        "residual_drift",
        "warning",
        lambda f, c: f.residual_ratio / c.care.residual_ratio,
        _residual,
        off=0.9,
        shown_by_frames=True,
    ),
    Alarm(
        "focus_drift",
        "warning",
        lambda f, c: f.focus_error_um / c.focus_um,
        _focus,
        on_for_s=3.0,
        off=0.7,
        shown_by_frames=True,
    ),
    Alarm(
        "focus_lost",
        "critical",
        lambda f, c: f.focus_error_um / (2 * c.focus_um),
        _focus,
        on_for_s=3.0,
        off=0.5,
        shown_by_frames=True,
    ),
    Alarm(
        "disk_filling",
        "warning",
        lambda f, c: max(
            _over(f.run_left_s, f.disk_left_s), _over(c.care.disk_free_share, f.disk_free_share)
        ),
        _disk_filling,
        on_for_s=10.0,
        off=0.9,
    ),
    Alarm(
        "disk_nearly_full",
        "critical",
        lambda f, _: _over(f.disk_reserve_bytes, f.disk.free) if f.disk.total else math.nan,
        _disk_full,
        on_for_s=2.0,
        off=0.9,
    ),
    Alarm(
        "gpu_hot",
        "critical",
        lambda f, c: math.nan if f.gpu.hottest_c is None else f.gpu.hottest_c / c.care.gpu_hot_c,
        _gpu_hot,
        on_for_s=3.0,
        off=0.94,
    ),
    # A single look may be answered late.
    Alarm("gpu_lost", "critical", lambda f, _: f.gpu.lost, _gpu_lost, on_for_s=12.0),
    Alarm("stage_restarted", "warning", lambda f, _: f.newly_restarted, _restarted, counts=True),
    Alarm(
        "stage_silent",
        "critical",
        lambda f, c: max((s.silent_s for s in f.silent), default=0.0) / c.care.silent_after_s,
        _silent,
    ),
    Alarm("stage_dead", "critical", lambda f, _: len(f.dead), _dead),
)


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"
