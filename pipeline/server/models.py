"""What goes over the wire, as OpenAPI shows it and the Python client types it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# An experiment is a page of text; what is larger is something else.
_MOST_TEXT = 1_000_000


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ExperimentText(_Asked):
    """An experiment to look at."""

    experiment: str = Field(max_length=_MOST_TEXT)
    """YAML. Paths in it are relative to the folder ``experiments`` of the service's home."""


class NewRun(ExperimentText):
    """A run to begin."""

    name: str | None = Field(default=None, max_length=100)
    """Of the run and its folder; of date and experiment if not given."""


class Interval(_Asked):
    """From one timepoint's start to the next."""

    interval_s: float = Field(ge=0, le=7 * 86_400)


class Refocus(_Asked):
    """Move the plane in focus, from the next timepoint on; +z: downstream of the specimen."""

    dz_um: float = Field(ge=-1000, le=1000)


class Move(_Asked):
    """Move the stage, from the next timepoint on."""

    dx_um: float = Field(ge=-100_000, le=100_000)
    dy_um: float = Field(ge=-100_000, le=100_000)


class CalibrationWish(ExperimentText):
    """A calibration to make while no run goes on."""

    steps: list[str] = Field(default_factory=list, max_length=20)
    """As of `livephase calibrate`; all that the experiment has a use for if empty."""


class Snap(_Asked):
    """A snapshot: of the run that goes on, or, while none does, of an experiment's first timepoint."""

    experiment: str | None = Field(default=None, max_length=_MOST_TEXT)


class Said(BaseModel):
    """What will be done, for people."""

    text: str


class Files(BaseModel):
    """What was written, as addresses of this service."""

    files: list[str]


class Named(BaseModel):
    """A run."""

    name: str


class ErrorText(BaseModel):
    """What is wrong."""

    cause: str
    fix: str = ""
    path: str | None = None


class Failure(BaseModel):
    """The body of every answer of 400 and above."""

    error: ErrorText


class FieldProblem(BaseModel):
    """What is wrong with one key of an experiment."""

    path: str
    message: str
    line: int | None = None


class Verdict(BaseModel):
    """Of an experiment."""

    ok: bool
    errors: list[FieldProblem] = Field(default_factory=list)
    needs: dict[str, Any] | None = None
    """As `livephase run --dry-run --json`."""
    text: list[str] = Field(default_factory=list)
    """The same in lines, for people."""
    warnings: list[str] = Field(default_factory=list)


class Example(BaseModel):
    """An experiment to begin with."""

    name: str
    title: str
    yaml: str


class Examples(BaseModel):
    """All of them."""

    examples: list[Example]


class Latency(BaseModel):
    """From a slot's last frame until its phase is there."""

    p50: float | None = None
    p99: float | None = None


class ActiveAlarm(BaseModel):
    """An alarm that is on."""

    name: str
    severity: str
    text: str
    since_utc: float


class RunStatus(BaseModel):
    """A run, as it is now."""

    name: str
    experiment: str
    method: str
    state: str
    timepoint: int | None
    position: int | None
    timepoints: int
    positions: list[str]
    channels: list[str]
    foci_um: list[float]
    frame_shape: list[int]
    frames_planned: int
    frames_acquired: int = 0
    frames_written: int = 0
    frames_missing: int = 0
    missing_by_reason: dict[str, int] = Field(default_factory=dict)
    reconstructed: int = 0
    frames_per_s: float | None = None
    left_s: float | None = None
    latency_s: Latency = Field(default_factory=Latency)
    queue: int = 0
    tiles_pending: int = 0
    ring_fill: float = 0.0
    residual: float | None = None
    unexplained: float | None = None
    alarm: float | None = None
    scale_uncertainty: float | None = None
    light_s: float = 0.0
    """How long the specimen was lit in this session."""
    light_dose_s: float = 0.0
    """Seconds of full brightness at the position that had most of them."""
    light_on: bool = False
    disk_free_bytes: float | None = None
    disk_left_s: float | None = None
    restarts: dict[str, int] = Field(default_factory=dict)
    interval_s: float
    focus_um: float = 0.0
    """Of the plane in focus, from where the experiment has it."""
    stage_um: tuple[float, float] = (0.0, 0.0)
    """Of the stage, from where the experiment has it."""
    focus_error_um: float | None = None
    """As a controller measured it last."""
    actions_applied: int = 0
    pixel_um: float
    alarms: list[ActiveAlarm] = Field(default_factory=list)
    suspended: str | None = None
    error: str | None = None
    can_resume: bool = False


class ServiceFacts(BaseModel):
    """The service itself."""

    version: str
    uptime_s: float
    state: Literal["idle", "busy", "stopping"]
    doing: str | None = None
    """What it is busy with, where that is no run."""
    methods: list[str]
    clients: int


class Status(BaseModel):
    """Service and run together."""

    service: ServiceFacts
    run: RunStatus | None


class RunSummary(BaseModel):
    """A run in the list."""

    name: str
    experiment: str
    method: str
    state: str
    created_utc: float | None
    timepoints: int
    frames_planned: int
    frames_written: int | None = None
    frames_missing: int | None = None
    reconstructed: int | None = None
    has_report: bool
    can_resume: bool


class Runs(BaseModel):
    """All runs, the newest first."""

    runs: list[RunSummary]


class StoredImages(BaseModel):
    """For each position ranges ``[first, last]`` of timepoints."""

    raw: list[list[list[int]]]
    phase: list[list[list[int]]]


class RunDetails(RunSummary):
    """A run and what of it can be looked at."""

    positions: list[str]
    channels: list[str]
    foci_um: list[float]
    raw_shape: list[int]
    phase_shape: list[int] | None
    outputs: list[str]
    levels: int
    pixel_um: float
    stored: StoredImages


class EventLine(BaseModel):
    """Something that happened."""

    seq: int
    time_utc: float
    level: str
    source: str
    text: str


class EventList(BaseModel):
    """Since a number."""

    events: list[EventLine]


class LogLines(BaseModel):
    """The end of a run's log, parsed."""

    lines: list[dict[str, Any]]
