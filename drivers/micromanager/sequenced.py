"""The three things that Micro-Manager can step through at a camera's triggers, under one set of names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from drivers.micromanager.core import CORE_ERRORS, Core
from drivers.micromanager.reach import Reach
from drivers.micromanager.refusals import said


class Sequenced(Protocol):
    """Something with a value that can be set, and perhaps stepped through a loaded sequence."""

    label: str

    def name(self) -> str:
        """What it is, for people."""
        ...

    def set(self, value: Any) -> None:
        """Set a value now."""
        ...

    def is_sequenceable(self) -> bool:
        """Whether the device can be loaded with a sequence."""
        ...

    def most(self) -> int:
        """How many values it holds."""
        ...

    def load(self, values: Sequence[Any]) -> None:
        """Load a sequence."""
        ...

    def start(self) -> None:
        """Step on at each trigger from now on, from the first value."""
        ...

    def stop(self) -> None:
        """Step no more."""
        ...


class PropertyValue:
    """One property of one device."""

    def __init__(self, core: Core, label: str, name: str) -> None:
        self._core, self.label, self._name = core, label, name

    def name(self) -> str:
        """Device and property."""
        return f"'{self.label}.{self._name}'"

    def set(self, value: Any) -> None:
        """Set a text, or a number."""
        self._core.set_property(self.label, self._name, _text(value))

    def get(self) -> str:
        """What it says it is."""
        return str(self._core.get_property(self.label, self._name))

    def is_sequenceable(self) -> bool:
        """Whether it takes a property sequence."""
        return bool(self._core.is_property_sequenceable(self.label, self._name))

    def most(self) -> int:
        """Longest property sequence."""
        return int(self._core.get_property_sequence_max_length(self.label, self._name))

    def load(self, values: Sequence[Any]) -> None:
        """Load a property sequence."""
        self._core.load_property_sequence(self.label, self._name, [_text(v) for v in values])

    def start(self) -> None:
        """Start it."""
        self._core.start_property_sequence(self.label, self._name)

    def stop(self) -> None:
        """Stop it."""
        self._core.stop_property_sequence(self.label, self._name)


class StagePosition:
    """The position of a stage."""

    def __init__(self, core: Core, label: str) -> None:
        self._core, self.label = core, label

    def name(self) -> str:
        """The stage."""
        return f"'{self.label}'"

    def set(self, value: float) -> None:
        """Send it there."""
        self._core.set_position(self.label, value)

    def is_sequenceable(self) -> bool:
        """Whether it takes a stage sequence."""
        return bool(self._core.is_stage_sequenceable(self.label))

    def most(self) -> int:
        """Longest stage sequence."""
        return int(self._core.get_stage_sequence_max_length(self.label))

    def load(self, values: Sequence[float]) -> None:
        """Load a stage sequence."""
        self._core.load_stage_sequence(self.label, list(values))

    def start(self) -> None:
        """Start it."""
        self._core.start_stage_sequence(self.label)

    def stop(self) -> None:
        """Stop it."""
        self._core.stop_stage_sequence(self.label)


class CameraExposure:
    """The exposure time of the camera, in ms."""

    def __init__(self, core: Core, label: str) -> None:
        self._core, self.label = core, label

    def name(self) -> str:
        """The camera's exposure."""
        return f"the exposure of '{self.label}'"

    def set(self, value: float) -> None:
        """Set it."""
        self._core.set_exposure(value)

    def is_sequenceable(self) -> bool:
        """Whether it takes an exposure sequence."""
        return bool(self._core.is_exposure_sequenceable(self.label))

    def most(self) -> int:
        """Longest exposure sequence."""
        return int(self._core.get_exposure_sequence_max_length(self.label))

    def load(self, values: Sequence[float]) -> None:
        """Load an exposure sequence."""
        self._core.load_exposure_sequence(self.label, list(values))

    def start(self) -> None:
        """Start it."""
        self._core.start_exposure_sequence(self.label)

    def stop(self) -> None:
        """Stop it."""
        self._core.stop_exposure_sequence(self.label)


def hardware_reach(device: Sequenced) -> Reach:
    """How far a device gets by its triggers, and what keeps it from more. Asks only."""
    try:
        if not device.is_sequenceable():
            return Reach(0, f"Micro-Manager says that {device.name()} can't be sequenced")
        most = device.most()
    except CORE_ERRORS as error:
        return Reach(0, f"{device.name()} does not say whether it can be sequenced ({said(error)})")
    return Reach(most, f"{device.name()} holds a sequence of no more than {most}")


def _text(value: Any) -> str:
    """A property's value as Micro-Manager writes it: numbers without an exponent or a tail of digits."""
    if isinstance(value, float):
        return f"{value:.9f}".rstrip("0").rstrip(".")
    return str(value)
