"""The one table of everything that is counted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from pipeline.experiment.care import ALARM_NAMES, AlarmName
from pipeline.frames import MissingReason

# Fine, for percentiles right to some 6 %: 20 bounds a decade from 0.1 ms to 100 s.
BOUNDS_PER_DECADE: Final = 20
BOUNDS_S: Final = tuple(round(10 ** (i / BOUNDS_PER_DECADE - 4), 9) for i in range(121))
# Coarse, for Prometheus: every bucket is a time series of its own.
EXPORT_EVERY: Final = 5


@dataclass(frozen=True)
class Metric:
    """One metric.

    Parameters
    ----------
    name
        As `StageWriter` takes it.
    kind
        Counters grow, gauges are set, histograms observe seconds.
    help
        A line for Prometheus.
    merge
        How the gauges of several stages make one: the one set last, or their sum.
    per_stage
        Whether each stage's value is shown apart, labelled by the stage.
    default
        Value of a gauge that nobody has set.
    family, labels
        Prometheus name without ``livephase_`` (and ``_total``) where it isn't `name`, and labels.
    states
        Names of a gauge's values 0, 1, …: exported as one series a state, 1 where it holds.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    merge: Literal["newest", "sum"] = "newest"
    per_stage: bool = False
    default: float = 0.0
    family: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    states: tuple[str, ...] = ()

    @property
    def exported(self) -> str:
        """Prometheus name; ``_total`` of counters is added by the format."""
        return f"livephase_{self.family or self.name}"

    @property
    def cells(self) -> int:
        """Words of eight bytes it takes in a stage's lane."""
        # A gauge: value and time. A histogram: buckets, overflow, sum.
        return {"counter": 1, "gauge": 2, "histogram": len(BOUNDS_S) + 2}[self.kind]


def missing_metric(reason: MissingReason) -> str:
    """Name of the counter of frames missing for a reason."""
    return f"frames_missing_{reason.name.lower()}"


def alarm_metric(name: AlarmName) -> str:
    """Name of the gauge that says whether an alarm is active."""
    return f"alarm_active_{name}"


METRICS: Final = (
    Metric("frames_planned", "gauge", "Frames that the run is to deliver."),
    Metric("frames_acquired", "counter", "Frames that the camera delivered."),
    Metric("frames_reacquired", "counter", "Frames lost in a crash and taken again."),
    Metric("frames_written", "counter", "Frames durable in the raw store."),
    *(
        Metric(
            missing_metric(reason),
            "counter",
            "Planned frames that will never be there, by reason.",
            family="frames_missing",
            labels=(("reason", reason.name.lower()),),
        )
        for reason in MissingReason
        if reason is not MissingReason.NONE
    ),
    Metric("probe_frames", "counter", "Frames taken beside the plan, to probe the focus."),
    Metric("slots_published", "counter", "Timepoints and positions handed over by acquisition."),
    Metric("slots_committed", "counter", "Timepoints and positions recorded in the raw ledger."),
    Metric("slots_reconstructed", "counter", "Phase images recorded in the phase ledger."),
    Metric("slots_skipped", "counter", "Not reconstructed: frames are missing or unusable."),
    Metric("bytes_written", "counter", "Bytes of raw pixels made durable, before compression."),
    Metric(
        "ring_fill", "gauge", "Share of the ring that is not stored yet.", family="ring_fill_ratio"
    ),
    Metric("ring_full_waits", "counter", "Times that acquisition had to wait for storage."),
    Metric("ring_overtaken", "counter", "Reads of the ring that the writer overtook."),
    Metric("ring_passed_over", "counter", "Slots left to the raw store by live reconstruction."),
    Metric(
        "camera_buffer_fill",
        "gauge",
        "Share of the camera's own buffer in use.",
        family="camera_buffer_fill_ratio",
    ),
    Metric("driver_messages", "counter", "Messages of the camera or its simulator to the user."),
    Metric("light_on", "gauge", "1 while the specimen is lit."),
    Metric("exposing", "gauge", "1 from the beginning of a burst of frames to its end."),
    Metric(
        "light_seconds", "gauge", "How long the specimen was lit, up to when it last went dark."
    ),
    Metric(
        "reconstruction_queue",
        "gauge",
        "Recorded timepoints and positions that wait for their phase.",
        merge="sum",
    ),
    Metric(
        "handoff_seconds", "histogram", "From a slot's last frame until a reconstructor sees it."
    ),
    Metric("reconstruction_seconds", "histogram", "One reconstruction."),
    Metric(
        "region_seconds",
        "histogram",
        "From a slot's last frame until the region that is looked at is there, where tiles make the field.",
    ),
    Metric(
        "tiles_pending",
        "gauge",
        "Tiles of timepoints that are begun and not finished.",
        merge="sum",
    ),
    Metric("latency_seconds", "histogram", "From a slot's last frame until its phase is there."),
    Metric("commit_seconds", "histogram", "From a shard's submission until it is in the ledger."),
    Metric(
        "residual",
        "gauge",
        "Reduced chi-squared of the newest phase against the measured light.",
        default=math.nan,
    ),
    Metric(
        "unexplained",
        "gauge",
        "Share of the measured structure that the newest phase does not predict.",
        family="unexplained_ratio",
        default=math.nan,
    ),
    Metric(
        "alarm",
        "gauge",
        "Above 1: the newest phase wants looking at.",
        default=math.nan,
    ),
    Metric("alarms", "counter", "Phase images whose alarm was above 1."),
    Metric(
        "phase_scale_uncertainty",
        "gauge",
        "Relative standard uncertainty of the phase's scale from the calibrated focus.",
        default=math.nan,
    ),
    Metric("stage_up", "gauge", "1 while the stage's process lives.", per_stage=True),
    Metric("stage_restarts", "counter", "Times that a stage was started again.", per_stage=True),
    Metric(
        "run_state",
        "gauge",
        "State of the run: 1 where it holds.",
        # As `pipeline.control.RunState`.
        states=(
            "idle",
            "arming",
            "running",
            "paused",
            "draining",
            "done",
            "stopped",
            "aborted",
            "failed",
        ),
    ),
    Metric(
        "disk_free_bytes", "gauge", "Free bytes on the disk of the run folder.", default=math.nan
    ),
    # What alerts and the dashboard ask for besides: the supervisor sets them once a second (`lifecycle/care`).
    *(
        Metric(
            alarm_metric(name),
            "gauge",
            "1 while the alarm is active.",
            family="alarm_active",
            labels=(("alarm", name),),
        )
        for name in ALARM_NAMES
    ),
    Metric("suspended", "gauge", "1 while an alarm has paused the run."),
    Metric("suspensions", "counter", "Times that an alarm has paused the run."),
    Metric(
        "care_looked_timestamp_seconds",
        "gauge",
        "When the run last looked after itself, since the epoch.",
        default=math.nan,
    ),
    Metric(
        "latency_recent_seconds",
        "gauge",
        "Below it are 99 % of the last minute's latencies; or how long a result is waited for by now.",
    ),
    Metric(
        "frames_pending", "gauge", "Frames of this session that are neither stored nor missing."
    ),
    Metric("frames_per_second", "gauge", "Frames that the camera delivers, over the last seconds."),
    Metric(
        "frame_age_seconds", "gauge", "Since the camera's newest frame; 0 while none is wanted."
    ),
    Metric(
        "interval_seconds",
        "gauge",
        "From one timepoint to the next, as ordered; 0: as fast as the camera goes.",
        default=math.nan,
    ),
    Metric("run_left_seconds", "gauge", "What the acquisition still takes.", default=math.nan),
    Metric(
        "light_dose_seconds",
        "gauge",
        "Seconds of full brightness at the position that had most of them.",
    ),
    Metric(
        "disk_free_ratio", "gauge", "Share of the run folder's disk that is free.", default=math.nan
    ),
    Metric(
        "disk_left_seconds",
        "gauge",
        "Until the disk is full, as it has been filling lately.",
        default=math.nan,
    ),
    Metric("gpu_temperature_celsius", "gauge", "Of the hottest NVIDIA GPU.", default=math.nan),
    Metric(
        "focus_error_um",
        "gauge",
        "Distance of the specimen from the focus that is kept, as last measured.",
        default=math.nan,
    ),
    Metric(
        "actions_applied",
        "counter",
        "Times that what people and controllers asked for took effect.",
    ),
)
