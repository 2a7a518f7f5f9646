"""Keeps the specimen in focus by probes through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat

from pipeline.actions import Action, Refocus
from pipeline.controllers.contract import Result, read_settings
from pipeline.controllers.through_focus import FocusFinder
from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment, Strict


class KeepFocusSettings(Strict):
    """What a user may choose."""

    target_um: float = 0.0
    """The true focus that a commanded 0 is to have."""
    anticipate: bool = True
    """Correct half of the drift that is to be expected until the next probe, too."""
    least_explained: float = Field(default=0.3, ge=0, le=1)
    """A probe is believed if a phase object explains this share of its contrast."""
    most_um: PositiveFloat | None = None
    """A probe that finds the focus farther away is not believed; none: half of the probe's own reach."""


class KeepFocus:
    """Finds in each probe where the focus is, and moves it back.

    The phase's own residual could not tell: a wrong z hardly shows in it.
    """

    looks_at: ClassVar[Literal["results", "probes"]] = "probes"

    def __init__(self, experiment: Experiment, settings: Mapping[str, Any]) -> None:
        self.settings = read_settings(KeepFocusSettings, "keep_focus", settings)
        probe = experiment.control.probe
        if probe is None:
            raise ExperimentError(
                "keep_focus finds the focus in probes, and the experiment takes none",
                "add `probe: {every: 5}` to `control:`",
            )
        if not min(probe.foci_um) < 0 < max(probe.foci_um):
            raise ExperimentError(
                "control.probe.foci_um lie on one side of the focus",
                "take planes on both sides, such as [-3, -1.5, 1.5, 3]",
            )
        self._every = probe.every
        channel = probe.channel or experiment.channel_names[0]
        foci = np.asarray(probe.foci_um)
        self._finder = FocusFinder(experiment, channel, foci)
        self._dark = getattr(experiment.microscope.camera, "offset_counts", 0.0)
        self._most_um = self.settings.most_um or float(np.abs(foci).max()) / 2
        self._before: tuple[int, float] | None = None
        self._rate_um = 0.0  # of drift, a timepoint
        self.seen: dict[str, float] = {}

    def on_result(self, result: Result) -> Sequence[Action]:
        """A refocus, where the probe can be believed."""
        if result.probe is None:
            return []
        found = self._finder.find(result.probe.frames, self._dark)
        self.seen = {"defocus_um": found.z_um, "explained": found.explained}
        away = found.z_um - self.settings.target_um
        if found.explained < self.settings.least_explained or abs(away) > self._most_um:
            return []
        self._learn(result.timepoint, found.z_um - result.focus_um)
        self.seen["drift_um_per_timepoint"] = self._rate_um
        ahead = self._rate_um * (self._every - 1) / 2 if self.settings.anticipate else 0.0
        return [Refocus(-(away + ahead))]

    def _learn(self, timepoint: int, drifted_um: float) -> None:
        """How fast it drifts: what was corrected meanwhile is not part of it."""
        if self._before is not None and timepoint > self._before[0]:
            rate = (drifted_um - self._before[1]) / (timepoint - self._before[0])
            self._rate_um = rate if self._rate_um == 0 else (self._rate_um + rate) / 2
        self._before = timepoint, drifted_um
