"""Ends a run when a condition on its figures holds."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from pipeline.actions import Action, Pause, Snapshot, Stop
from pipeline.controllers.contract import Result, read_settings
from pipeline.controllers.figures import NAMES, phase_figures
from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment, Strict, nearest

_PUBLISHED = (
    *("residual", "unexplained", "alarm", "scale_uncertainty", "latency_s"),
    *("missing", "acquired", "written", "elapsed_s", "timepoint"),
    *NAMES,
)
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_TERM = re.compile(r"\s*([a-z_]+)\s*(>=|<=|>|<)\s*([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*")


_THEN: dict[str, Action] = {"stop": Stop(), "pause": Pause(), "snapshot": Snapshot()}


class StopWhenSettings(Strict):
    """What a user may choose."""

    condition: str
    """Comparisons of a figure with a number, joined by `and` or by `or`: ``residual > 5 or missing >= 10``."""
    for_results: PositiveInt = 3
    """So many results in a row it has to hold."""
    then: Literal["stop", "pause", "snapshot"] = "stop"


class Condition:
    """A condition on named figures. Nothing of it is ever executed.

    Raises
    ------
    ExperimentError
        If it can't be read.
    """

    def __init__(self, text: str) -> None:
        parts = re.split(r"\b(and|or)\b", text)
        self._joins = set(parts[1::2])
        if len(self._joins) > 1:
            raise ExperimentError(
                f"the condition '{text}' mixes `and` with `or`", "use one of them only"
            )
        self._terms = [self._term(part, text) for part in parts[::2]]

    @staticmethod
    def _term(part: str, text: str) -> tuple[str, str, float]:
        match = _TERM.fullmatch(part)
        if match is None:
            raise ExperimentError(
                f"'{part.strip()}' in the condition '{text}' can't be read",
                "write a figure, > >= < or <=, and a number: residual > 5",
            )
        name, sign, number = match.groups()
        if name not in _PUBLISHED:
            raise ExperimentError(
                f"the condition '{text}' names the unknown figure '{name}'",
                nearest(name, _PUBLISHED),
            )
        return name, sign, float(number)

    @property
    def names(self) -> list[str]:
        """The figures that it needs."""
        return [name for name, _, _ in self._terms]

    def holds(self, figures: Mapping[str, float]) -> bool:
        """A figure that is not there, or not a number, fulfils nothing."""
        each = [
            _COMPARISONS[sign](figures.get(name, float("nan")), number)
            for name, sign, number in self._terms
        ]
        return any(each) if "or" in self._joins else all(each)


class StopWhen:
    """Counts results for which the condition holds."""

    looks_at: ClassVar[Literal["results", "probes"]] = "results"

    def __init__(self, experiment: Experiment, settings: Mapping[str, Any]) -> None:
        self.settings = read_settings(StopWhenSettings, "stop_when", settings)
        self._condition = Condition(self.settings.condition)
        self._wavelength_um = experiment.optics.wavelength_um
        self._held = 0
        self.seen: dict[str, float] = {}

    def on_result(self, result: Result) -> Sequence[Action]:
        """Stop, pause or a snapshot, once it has held for long enough."""
        figures = dict(result.figures) | {
            "elapsed_s": result.due_s,
            "timepoint": float(result.timepoint),
        }
        if result.phase is not None and set(NAMES) & set(self._condition.names):
            figures |= phase_figures(result.phase, result.pixel_um, self._wavelength_um)
        self.seen = {name: figures.get(name, float("nan")) for name in self._condition.names}
        self._held = self._held + 1 if self._condition.holds(figures) else 0
        if self._held < self.settings.for_results:
            return []
        self._held = 0
        return [_THEN[self.settings.then]]
