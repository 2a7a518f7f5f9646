"""Everything that can be refused before hardware moves: the method, the light, the disk, the memory."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

from drivers.registry import open_driver
from pipeline.calibration import Calibration
from pipeline.controllers import make_controller
from pipeline.errors import ExperimentError, RunFolderError
from pipeline.experiment import Experiment
from pipeline.experiment.probing import probe_experiment
from pipeline.frames import Measurement
from pipeline.instrument import check_fit, missing_aspects
from pipeline.methods.registry import find_method
from pipeline.ring import slots_for
from pipeline.stages.dose import frame_light_s, planned_light_s
from pipeline.store.layout import slot_period_s, timepoints_per_shard

# Phase is float32 that hardly compresses; its pyramid adds a third.
_PYRAMID_SHARE = 4 / 3
# The disk must not run full to the last byte: the system needs some, and ledgers and reports come last.
_DISK_RESERVE_BYTES = 500_000_000
# A recorder may die and come back within this time without the camera losing a frame.
_RING_SECONDS = 10.0


@dataclass(frozen=True)
class Estimate:
    """What a run will need, before it starts. Bytes are upper bounds: compression is not counted on.

    `light_dose_s` is the light that each position gets, in seconds of full brightness.
    `probe_frames` and `probe_light_s` come on top, for probes of the focus.
    `bursts` says how the devices will be sequenced, where their driver knows.
    """

    frames: int
    method: str
    timepoints: int
    positions: int
    raw_bytes: int
    phase_bytes: int
    duration_s: float
    frame_rate_hz: float
    ring_slots: int
    ring_bytes: int
    disk_free_bytes: int
    light_dose_s: float
    warnings: tuple[str, ...]
    bursts: tuple[str, ...] = ()
    probe_frames: int = 0
    probe_light_s: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def text(self) -> str:
        """For a person."""
        lines = [
            f"frames:    {self.frames} ({self.timepoints} timepoints, {self.positions} positions)",
            f"method:    {self.method}",
            f"duration:  {timedelta(seconds=round(self.duration_s))} at {self.frame_rate_hz:.3g} frames/s",
            f"light:     {self.light_dose_s:.3g} s of full brightness on each position"
            + (
                f", and {self.probe_light_s:.3g} s for {self.probe_frames} frames that probe the focus"
                if self.probe_frames
                else ""
            ),
            f"raw:       up to {self.raw_bytes / 1e9:.3g} GB",
            f"phase:     up to {self.phase_bytes / 1e9:.3g} GB",
            f"memory:    {self.ring_bytes / 1e9:.3g} GB for {self.ring_slots} timepoints in flight",
            f"disk left: {self.disk_free_bytes / 1e9:.3g} GB before, "
            f"{(self.disk_free_bytes - self.raw_bytes - self.phase_bytes) / 1e9:.3g} GB after",
        ]
        lines += [
            f"{'bursts:' if i == 0 else '':10} {burst}" for i, burst in enumerate(self.bursts)
        ]
        return "\n".join([*lines, *(f"warning:   {w}" for w in self.warnings)])


def with_bursts(need: Estimate, experiment: Experiment) -> Estimate:
    """`need`, with how the devices will be sequenced over the whole plan: connects to them, lights and moves nothing.

    Raises
    ------
    DriverError
        If they can't be reached, or can't do it.
    """
    driver = open_driver(experiment)
    try:
        bursts = driver.bursts(tuple(experiment.plan().slot_keys()))
    finally:
        driver.close()
    return replace(need, bursts=tuple(bursts))


def chosen_measurement(experiment: Experiment) -> Measurement | None:
    """The frames that the experiment's method takes; None where it records only.

    Raises
    ------
    ExperimentError
        If the method refuses the experiment, or the camera samples too coarsely for it.
    """
    name = experiment.reconstruction.method
    if name == "none":
        return None
    measurement = find_method(name).measurement(experiment)
    limit = experiment.field_sampling_um
    if experiment.pixel_um > limit and not measurement.accepts_aliasing:
        raise ExperimentError(
            f"the camera pixel of {experiment.pixel_um:.3g} µm at the sample is coarser than "
            f"λ / 2NA = {limit:.3g} µm, and the method {name} does not accept aliased frames",
            "use a higher magnification or less binning, or a pixel-super-resolving method such as dl_srqpi",
        )
    output_um = experiment.pixel_um / measurement.upsampling
    if output_um > limit:
        need = -(-experiment.pixel_um // limit)
        raise ExperimentError(
            f"the output pixel of {output_um:.3g} µm is coarser than λ / 2NA = {limit:.3g} µm: "
            "the phase image does not hold what the objective passes",
            f"ask for an upsampling of {need:.0f} or more, or use a finer camera pixel",
        )
    return measurement


def shard_timepoints(experiment: Experiment) -> int:
    """Timepoints in a shard of a new run."""
    return timepoints_per_shard(
        experiment.plan(), experiment.output.shard_s, slot_period_s(experiment)
    )


def ring_slots(experiment: Experiment, per_shard: int) -> int:
    """Slots of the ring: ten seconds of frames within the budget, and room for the shards being filled.

    Parameters
    ----------
    per_shard
        Timepoints in a shard: `shard_timepoints` of a new run, what is on the disk of a resumed one.
    """
    plan = experiment.plan()
    interleaved = len(plan.positions) if plan.slot_order == "tp" else 1
    slot_s = slot_period_s(experiment) / interleaved
    # A short run needs no room for what it never takes.
    at_least = min(3 * per_shard * interleaved + 2, plan.slots + 1)
    if at_least * plan.slot_bytes > experiment.output.ring_gb * 1e9:
        raise ExperimentError(
            f"output.ring_gb {experiment.output.ring_gb} is too little: {at_least} timepoints of "
            f"{plan.slot_bytes / 1e6:.0f} MB are needed to fill one file while others are written",
            f"set output.ring_gb to {at_least * plan.slot_bytes / 1e9:.1f} or more, or output.shard_s lower",
        )
    slots = slots_for(
        plan,
        seconds=_RING_SECONDS,
        slot_s=slot_s,
        budget_bytes=int(experiment.output.ring_gb * 1e9),
        at_least=at_least,
        multiple_of=per_shard * interleaved,
    )
    return min(slots, max(plan.slots, 2))


def estimate(experiment: Experiment, out: Path) -> Estimate:
    """Check the experiment and say what it will need.

    Raises
    ------
    ExperimentError, RunFolderError
        With the fix, if the run can't work.
    """
    plan = experiment.plan()
    measurement = chosen_measurement(experiment)
    light_dose_s = check_dose(experiment)
    open_driver(experiment).preflight()
    for entry in experiment.control.controllers:
        make_controller(entry, experiment)
    warnings: list[str] = []
    slot_s = experiment.slot_s()
    round_s = slot_s * len(plan.positions)
    if plan.interval_s and round_s > plan.interval_s:
        warnings.append(
            f"a timepoint takes {round_s:.3g} s, longer than the interval of {plan.interval_s:.3g} s: "
            "timepoints will be late"
        )
    probe_frames, probe_light_s = _probes(experiment)
    step = max(plan.interval_s, round_s)
    phase_bytes = 0
    if measurement is not None:
        y, x = (n * measurement.upsampling for n in plan.frame_shape)
        phase_bytes = int(plan.slots * len(measurement.outputs) * y * x * 4 * _PYRAMID_SHARE)
    slots = ring_slots(experiment, shard_timepoints(experiment))
    ring_bytes = slots * plan.slot_bytes
    if slots * slot_s < _RING_SECONDS and slots < plan.slots and not plan.interval_s:
        warnings.append(
            f"the ring holds {slots * slot_s:.1f} s of frames, less than the {_RING_SECONDS:.0f} s that a recorder may "
            f"need to come back: raise output.ring_gb above {experiment.output.ring_gb}"
        )
    if ring_bytes > psutil.virtual_memory().available:
        raise ExperimentError(
            f"the ring needs {ring_bytes / 1e9:.1f} GB of memory and "
            f"{psutil.virtual_memory().available / 1e9:.1f} GB are free",
            "lower output.ring_gb or close other programs",
        )
    free = shutil.disk_usage(_existing_parent(out)).free
    return Estimate(
        frames=plan.frames,
        method=_described(experiment, measurement),
        timepoints=plan.timepoints,
        positions=len(plan.positions),
        raw_bytes=plan.slots * plan.slot_bytes,
        phase_bytes=phase_bytes,
        duration_s=(plan.timepoints - 1) * step + round_s,
        frame_rate_hz=plan.frames_per_slot / slot_s,
        ring_slots=slots,
        ring_bytes=ring_bytes,
        disk_free_bytes=free,
        light_dose_s=light_dose_s,
        warnings=tuple(warnings),
        probe_frames=probe_frames,
        probe_light_s=probe_light_s,
    )


def _probes(experiment: Experiment) -> tuple[int, float]:
    """Frames beside the plan, and the light that they cost."""
    probe = experiment.control.probe
    if probe is None:
        return 0, 0.0
    plan = probe_experiment(experiment, probe).plan()
    series = len(plan.positions) if plan.slot_order == "pt" else 1
    probes = -(-plan.timepoints // probe.every) * series
    return probes * plan.frames_per_slot, probes * float(frame_light_s(plan).sum())


def _described(experiment: Experiment, measurement: Measurement | None) -> str:
    """What is reconstructed from what, in a line."""
    if measurement is None:
        return "none: frames are recorded only"
    plan = experiment.plan()
    y, x = (n * measurement.upsampling for n in plan.frame_shape)
    return (
        f"{experiment.reconstruction.method}, {len(measurement.frames)} of {plan.frames_per_slot} "
        f"frames a timepoint to {' and '.join(measurement.outputs)} of {y} x {x} pixels, "
        f"{experiment.pixel_um / measurement.upsampling:.3g} µm each"
    )


def check_dose(experiment: Experiment) -> float:
    """Refuse a plan that gives a position more light than the experiment allows; the light that it gives.

    In seconds of full brightness: exposure times brightness, summed over the frames of a position.
    """
    limit_s, plan = experiment.safety.dose_limit_s, experiment.plan()
    light_s = planned_light_s(plan)
    if limit_s is not None and light_s > limit_s * (1 + 1e-9):
        most = int(limit_s * (1 + 1e-9) / (light_s / plan.timepoints))
        raise ExperimentError(
            f"the plan gives each position {light_s:.4g} s of light at full brightness, more than "
            f"safety.dose_limit_s of {limit_s:.4g} s",
            f"set sequence.timepoints to {most}, or lower exposure_ms or brightness of the channels"
            if most
            else "lower exposure_ms or brightness of the channels: not even one timepoint is within it",
        )
    return light_s


def check_disk(need: Estimate, committed_share: float = 0.0) -> None:
    """Refuse a run that the disk can't hold.

    Parameters
    ----------
    committed_share
        Share of the run that is on the disk already (a resumed run).
    """
    needed = (need.raw_bytes + need.phase_bytes) * (1 - committed_share) + _DISK_RESERVE_BYTES
    if needed > need.disk_free_bytes:
        raise RunFolderError(
            f"the run needs up to {needed / 1e9:.1f} GB and the disk has {need.disk_free_bytes / 1e9:.1f} GB left",
            "make space, choose another --out, or take fewer timepoints",
        )


def check_calibration(experiment: Experiment, calibration: Calibration) -> list[str]:
    """Refuse a calibration of another instrument; say what to mind of it, and what is not calibrated."""
    remarks = check_fit(experiment, calibration)
    missing = missing_aspects(experiment, calibration)
    if missing:
        remarks.append(
            f"not calibrated: {', '.join(missing)}: nominal values are used, `livephase calibrate` measures them"
        )
    return remarks


def _existing_parent(path: Path) -> Path:
    """The deepest folder of a path that exists: its disk is the one to ask."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path
