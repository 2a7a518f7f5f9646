"""Online control: what results may ask of the microscope, how far, and who asks."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from pipeline.experiment.strict import Strict


class ControlLimits(Strict):
    """How far anybody, controllers and people alike, may take the microscope from the plan."""

    refocus_um: PositiveFloat = 10.0
    """Most of one action."""
    refocus_total_um: PositiveFloat = 50.0
    """Farthest from the plan's foci."""
    move_um: PositiveFloat = 200.0
    """Most of one action, along x and y."""
    move_total_um: PositiveFloat = 2000.0
    """Farthest from the plan's places, along x and y."""
    interval_least_s: PositiveFloat = 0.1
    interval_most_s: PositiveFloat = 86_400.0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.interval_least_s > self.interval_most_s:
            raise ValueError("interval_least_s is more than interval_most_s: swap them")
        return self


class FocusProbe(Strict):
    """A short series through focus, taken between timepoints for controllers to look at; it is no part of the plan."""

    every: PositiveInt = 5
    """Timepoints from one to the next."""
    foci_um: tuple[float, ...] = Field(default=(-3.0, -1.5, 1.5, 3.0), min_length=3)
    """As `sequence.foci_um`."""
    channel: str | None = None
    """Of `illumination.channels`; none: the first one that is taken."""

    @model_validator(mode="after")
    def _foci_differ(self) -> Self:
        if len(set(self.foci_um)) != len(self.foci_um):
            raise ValueError("probe.foci_um names a focus twice: remove the repeat")
        return self


class Deadband(Strict):
    """Smaller corrections than these are not made."""

    refocus_um: NonNegativeFloat = 0.0
    move_um: NonNegativeFloat = 0.0
    interval_share: NonNegativeFloat = 0.0
    """Relative change of the interval."""


class ControllerEntry(Strict):
    """A controller of this run, and how far it is trusted."""

    use: str
    """Name of an entry point in the group `livephase.controllers`: keep_focus, adaptive_interval, stop_when, …"""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The controller's own, checked by the controller."""
    dry_run: bool = False
    """Only write down what it would do."""
    damping: float = Field(default=1.0, gt=0, le=1)
    """Share of each refocus and move that is made."""
    deadband: Deadband = Field(default_factory=Deadband)
    deadline_s: PositiveFloat = 10.0
    """A decision that takes longer is dropped."""


class OnlineControl(Strict):
    """Results steer the microscope. Without this section only people do."""

    limits: ControlLimits = Field(default_factory=ControlLimits)
    probe: FocusProbe | None = None
    controllers: tuple[ControllerEntry, ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [entry.use for entry in self.controllers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"control.controllers names '{name}' twice: use it once")
        return self
