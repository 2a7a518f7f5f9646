"""Looks more often while something happens: cells round up, divide or move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from pipeline.actions import Action, SetInterval
from pipeline.controllers.contract import Result, read_settings
from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment, Strict

# Finer than this nothing is compared: noise averages out, and a cell has dozens of patches.
_PATCH_UM = 2.0


class AdaptiveIntervalSettings(Strict):
    """What a user may choose."""

    fast_s: PositiveFloat
    slow_s: PositiveFloat
    round_rad: PositiveFloat = 0.6
    """By how much the thickest places have to rise above what is usual for this field to be cells that round up."""
    moving: PositiveFloat = 0.35
    """Change of the field within `slow_s`, relative to its own structure, above which it is moving."""
    quiet_results: PositiveInt = 2
    """So many quiet results in a row before the interval grows, by `growth` each time."""
    growth: float = Field(default=1.5, gt=1)


class AdaptiveInterval:
    """Fast while the field changes or cells round up; step by step back to the slow one when all is quiet."""

    looks_at: ClassVar[Literal["results", "probes"]] = "results"

    def __init__(self, experiment: Experiment, settings: Mapping[str, Any]) -> None:
        self.settings = read_settings(AdaptiveIntervalSettings, "adaptive_interval", settings)
        if self.settings.fast_s >= self.settings.slow_s:
            raise ExperimentError(
                "control.controllers.adaptive_interval: fast_s is not shorter than slow_s",
                "swap them",
            )
        if not experiment.sequence.interval_s:
            raise ExperimentError(
                "adaptive_interval changes the interval, and the sequence has none",
                "set sequence.interval_s to the interval to begin with",
            )
        self._before: dict[int, tuple[NDArray[np.float32], float]] = {}
        self._usual: dict[int, list[float]] = {}
        self._quiet = 0
        self.seen: dict[str, float] = {}

    def on_result(self, result: Result) -> Sequence[Action]:
        """Another interval, if it is to change."""
        if result.phase is None:
            return []
        patches = _patches(result.phase, result.pixel_um)
        thick = float(np.quantile(patches, 0.998))
        usual = self._usual.setdefault(result.position, [])
        rise = thick - float(np.median(usual)) if usual else 0.0
        change = self._change(result.position, patches, result.due_s)
        self.seen = {"rise_rad": rise, "change": change, "interval_s": result.interval_s}
        if rise > self.settings.round_rad or change > self.settings.moving:
            self._quiet = 0
            wanted = self.settings.fast_s
        else:
            # Only quiet times say what is usual.
            usual.append(thick)
            del usual[:-50]
            self._quiet += 1
            wanted = result.interval_s
            if self._quiet >= self.settings.quiet_results:
                wanted = max(wanted, self.settings.fast_s) * self.settings.growth
        wanted = min(max(wanted, self.settings.fast_s), self.settings.slow_s)
        return [SetInterval(wanted)] if abs(wanted - result.interval_s) > 1e-9 else []

    def _change(self, position: int, patches: NDArray[np.float32], due_s: float) -> float:
        """Of the field since the last look, as much as it were in `slow_s`, relative to its structure."""
        before = self._before.get(position)
        self._before[position] = patches, due_s
        if before is None or before[0].shape != patches.shape or due_s <= before[1]:
            return 0.0
        difference = float(np.std(patches - before[0]))
        # What moves little looks like a growing shift: in proportion to time.
        per_slow = min(self.settings.slow_s / (due_s - before[1]), 10.0)
        structure = max(float(np.std(patches)), 1e-6)
        return difference / structure * per_slow


def _patches(phase: NDArray[np.float32], pixel_um: float) -> NDArray[np.float32]:
    """Means over patches of some µm."""
    n = max(1, round(_PATCH_UM / pixel_um))
    y, x = (size // n for size in phase.shape)
    means = phase[: y * n, : x * n].reshape(y, n, x, n).mean((1, 3))
    return np.asarray(means, np.float32)
