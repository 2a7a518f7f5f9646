"""What a controller is: a class that looks at results and answers with actions.

It runs in a process of its own, which may be slow, hang or crash: the run goes on. What it asks for is damped, held
against the experiment's `control.limits`, written to `actions.jsonl` and done between two timepoints.

To add one, write a class that follows `Controller` in a package of your own and name it in that package's entry
points, group ``livephase.controllers``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pipeline.actions import Action
from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment, Strict


@dataclass(frozen=True)
class Probe:
    """Frames ``[K, Y, X]``, raw counts of the field's middle, of `control.probe`'s foci."""

    frames: NDArray[np.unsignedinteger]
    foci_um: tuple[float, ...]


@dataclass(frozen=True)
class Result:
    """What is to be seen of one timepoint and position.

    Parameters
    ----------
    phase
        ``[Y, X]`` radians; None of a probe.
    pixel_um
        Of the phase image.
    figures
        What is published: of the image (residual, unexplained, alarm, latency_s, …) and of the run (missing,
        acquired, written).
    due_s
        When the timepoint was due, in seconds from the series' start.
    interval_s, focus_um
        What held when it was taken: the interval, and what the plan's foci were moved by.
    probe
        For controllers that look at probes.
    """

    timepoint: int
    position: int
    phase: NDArray[np.float32] | None = None
    pixel_um: float = 1.0
    figures: Mapping[str, float] = field(default_factory=dict)
    due_s: float = 0.0
    interval_s: float = 0.0
    focus_um: float = 0.0
    probe: Probe | None = None


@runtime_checkable
class Controller(Protocol):
    """Made anew for every session: what it remembers may be lost at any moment.

    Attributes
    ----------
    looks_at
        ``"results"``: phase images, the newest only. ``"probes"``: every probe of the focus.
    seen
        What the last answer rests on, by name: it goes to `actions.jsonl`.
    """

    looks_at: ClassVar[Literal["results", "probes"]]
    seen: Mapping[str, float]

    def __init__(self, experiment: Experiment, settings: Mapping[str, Any]) -> None:
        """Quick, and touches nothing. Raises `ExperimentError` for settings or an experiment that can't work."""
        ...

    def on_result(self, result: Result) -> Sequence[Action]:
        """What is to be done, if anything."""
        ...


Settings = TypeVar("Settings", bound=Strict)


def read_settings(model: type[Settings], name: str, settings: Mapping[str, Any]) -> Settings:
    """A controller's own settings as its model.

    Raises
    ------
    ExperimentError
        For an unknown key or an impossible value.
    """
    try:
        return model.model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(["control.controllers", name, *(str(part) for part in first["loc"])])
        raise ExperimentError(
            f"{key}: {first['msg'].removeprefix('Value error, ')}",
            f"controller {name} knows {', '.join(model.model_fields)}",
        ) from error
