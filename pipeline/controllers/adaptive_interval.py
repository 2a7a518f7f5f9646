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
# What lies lower is background and what a method makes of it.
_ABOVE_RAD = 0.2
# Of the usual scatter, above which something is unusual.
_SIGMAS = 4.0
# Quiet results that say what is usual.
_REMEMBERED = 8


class AdaptiveIntervalSettings(Strict):
    """What a user may choose."""

    fast_s: PositiveFloat
    slow_s: PositiveFloat
    concentration_share: PositiveFloat = 0.08
    """Cells round up where the mass-weighted mean phase rises above what is usual by this share."""
    moving: PositiveFloat = 0.8
    """Change of the field from one look to the next, relative to its own structure, above which it is moving."""
    quiet_results: PositiveInt = 2
    """So many quiet results in a row before the interval grows, by `growth` each time."""
    growth: float = Field(default=1.5, gt=1)
    most_fast_results: PositiveInt = 30
    """After so many in a row what is seen counts as usual: a culture may have changed for good."""


class AdaptiveInterval:
    """Fast while the field changes or cells round up; step by step back to the slow one when all is quiet.

    A cell that rounds up for its division keeps its dry mass on a smaller area. So the sum of φ² over the sum of φ, the
    mean phase as the mass sees it, rises within minutes and stays up until the daughters have spread; crawling and
    growing hardly move it. What is usual, and how far it scatters, is learned from quiet results.
    """

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
        self._before: dict[int, NDArray[np.float32]] = {}
        self._usual: dict[int, list[float]] = {}
        self._quiet = self._busy = 0
        self.seen: dict[str, float] = {}

    def on_result(self, result: Result) -> Sequence[Action]:
        """Another interval, if it is to change."""
        if result.phase is None:
            return []
        patches = _patches(result.phase, result.pixel_um)
        usual = self._usual.setdefault(result.position, [])
        concentration = float((patches**2).sum() / max(float(patches.sum()), 1e-6))
        rise, scatter = _rise(concentration, usual)
        change = self._change(result.position, patches)
        self.seen = {"concentration_rad": concentration, "rise_share": rise, "change": change}
        enough = max(self.settings.concentration_share, _SIGMAS * scatter)
        if (rise > enough or change > self.settings.moving) and (
            self._busy < self.settings.most_fast_results
        ):
            self._busy, self._quiet = self._busy + 1, 0
            wanted = self.settings.fast_s
        else:
            if self._busy >= self.settings.most_fast_results:
                usual.clear()
            usual.append(concentration)
            del usual[:-_REMEMBERED]
            self._busy, self._quiet = 0, self._quiet + 1
            wanted = result.interval_s
            if self._quiet >= self.settings.quiet_results:
                wanted *= self.settings.growth
        wanted = min(max(wanted, self.settings.fast_s), self.settings.slow_s)
        return [SetInterval(wanted)] if abs(wanted - result.interval_s) > 1e-9 else []

    def _change(self, position: int, patches: NDArray[np.float32]) -> float:
        """Of the field since the last look, relative to its structure."""
        before = self._before.get(position)
        self._before[position] = patches
        if before is None or before.shape != patches.shape:
            return 0.0
        return float(np.std(patches - before)) / max(float(np.std(patches)), 1e-6)


def _rise(value: float, usual: Sequence[float]) -> tuple[float, float]:
    """Of a value above the usual ones, and their own scatter from one to the next: relative, both."""
    if len(usual) < 2:
        return 0.0, 0.0
    middle = float(np.median(usual))
    scatter = 1.48 * float(np.median(np.abs(np.diff(usual)))) if len(usual) > 3 else 0.0
    return (value - middle) / max(middle, 1e-6), scatter / max(middle, 1e-6)


def _patches(phase: NDArray[np.float32], pixel_um: float) -> NDArray[np.float32]:
    """Means over patches of some µm of what rises above the background."""
    n = max(1, round(_PATCH_UM / pixel_um))
    y, x = (size // n for size in phase.shape)
    phase = np.maximum(phase - np.float32(_ABOVE_RAD), 0)
    means = phase[: y * n, : x * n].reshape(y, n, x, n).mean((1, 3))
    return np.asarray(means, np.float32)
