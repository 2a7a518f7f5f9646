"""When a run raises an alarm, and which alarms pause it by themselves."""

from __future__ import annotations

from typing import Final, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, PositiveFloat, field_validator

from pipeline.experiment.strict import Strict

AlarmName = Literal[
    "missing_frames",
    "overflow",
    "queue_filling",
    "camera_stalled",
    "no_progress",
    "latency",
    "residual_drift",
    "focus_drift",
    "focus_lost",
    "disk_filling",
    "disk_nearly_full",
    "gpu_hot",
    "gpu_lost",
    "stage_restarted",
    "stage_silent",
    "stage_dead",
]
ALARM_NAMES: Final[tuple[AlarmName, ...]] = get_args(AlarmName)


class Care(Strict):
    """What a run watches itself for. It changes nothing of what a run holds, and may differ from session to session."""

    suspend: tuple[AlarmName, ...] = ("disk_nearly_full", "gpu_hot", "focus_lost")
    """Alarms that pause the run, light off, until it is well again; empty: none does."""
    well_for_s: PositiveFloat = 60.0
    """An alarm is over, and a suspended run goes on, when all was well for so long."""
    try_again_s: PositiveFloat = 600.0
    """Suspended for what only its own frames can show (focus, residual), a run takes some again after this time."""
    stalled_after_s: PositiveFloat = 10.0
    """No frame for so much longer than the plan's own pace: the camera is stalled."""
    silent_after_s: PositiveFloat = 60.0
    """A stage without a sign of life for so long hangs. Longer than a sick disk's fsync or one reconstruction takes."""
    no_progress_after_s: PositiveFloat = 600.0
    """Nothing acquired, stored or reconstructed for so much longer than the plan's own pace."""
    residual_ratio: float = Field(default=1.5, gt=1)
    """Residual, in units of the run's own at its beginning, that counts as a drift."""
    focus_limit_um: PositiveFloat | None = None
    """Focus error that counts as a drift, twice of it as lost; none: the depth of field, n λ / NA²."""
    gpu_hot_c: PositiveFloat = 87.0
    """Temperature of the hottest GPU, in °C. Most slow themselves down from here on."""
    disk_free_share: float = Field(default=0.05, gt=0, lt=1)
    """Less of the disk free than this share of it: it is filling up."""
    webhook_url: str | None = None
    """Alarms are sent here as they come and go: POST of ``{run, alarm, state, text, time_utc}``. http or https."""

    @field_validator("webhook_url")
    @classmethod
    def _web_only(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(
                    "webhook_url takes http:// or https:// and a host, as in https://example.org/hook"
                )
        return value
