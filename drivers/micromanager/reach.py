"""How far a device gets by itself through the values of successive frames, before software has to step in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def shortest_period(values: Sequence[Any]) -> int:
    """Least q for which ``values[i] == values[i % q]`` everywhere: what a device that wraps around has to hold.

    The last repeat may be a part of one. (The failure function of Knuth, Morris and Pratt, 1977.)
    """
    border = [0] * len(values)
    for i in range(1, len(values)):
        k = border[i - 1]
        while k and values[i] != values[k]:
            k = border[k - 1]
        border[i] = k + (values[i] == values[k])
    return len(values) - border[-1] if values else 0


def endless_period(values: Sequence[Any]) -> int:
    """As `shortest_period`, for values that are run through again and again: it divides their number."""
    period = shortest_period(values)
    return period if period and len(values) % period == 0 else len(values)


def is_constant(values: Sequence[Any]) -> bool:
    """Whether all frames have the same value."""
    return all(value == values[0] for value in values)


def constant_run(values: Sequence[Any]) -> int:
    """How many of the first frames have the same value."""
    return next((i for i, value in enumerate(values) if value != values[0]), len(values))


@dataclass(frozen=True)
class Reach:
    """A device that holds so many values and steps on at the camera's triggers, from the last to the first.

    Parameters
    ----------
    holds
        Most values; 1, or 0 where it can't be sequenced at all: software sets it.
    why
        What keeps it from doing more; for people.
    """

    holds: int = 1
    why: str = ""

    @property
    def is_refused(self) -> bool:
        """Whether it can't be sequenced at all (one that holds a single value can, to no use)."""
        return self.holds == 0

    @property
    def name(self) -> str:
        """How it is stepped, for people."""
        return "hardware" if self.holds > 1 else "software"

    def longest(self, values: Sequence[Any]) -> int:
        """How many of these frames, from the first, it does in one go."""
        holds = max(self.holds, 1)
        low, high = 1, len(values)
        if shortest_period(values) <= holds:
            return high
        # Each further value can only lengthen the period: search by halves.
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (
                (middle, high) if shortest_period(values[:middle]) <= holds else (low, middle)
            )
        return low

    def passes(self, values: Sequence[Any]) -> int | None:
        """How often it runs through all of these in one go; None: without end."""
        return None if endless_period(values) <= max(self.holds, 1) else 1

    def describe(self, values: Sequence[Any], *, again: bool) -> str:
        """How it takes these frames, for people."""
        if is_constant(values):
            return "constant" if self.holds > 1 else "constant, set by software"
        period = endless_period(values) if again else shortest_period(values)
        return f"hardware, {period} of at most {self.holds} loaded"


@dataclass(frozen=True)
class FirmwareReach(Reach):
    """A light whose own firmware is told the sequence of a burst, or of one slot.

    Parameters
    ----------
    most_passes
        Where the firmware repeats the sequence: how often at most. None: it runs through it once, and the sequence
        is that of the whole burst.
    """

    most_passes: int | None = None

    @property
    def name(self) -> str:
        """How it is stepped."""
        return "firmware"

    def longest(self, values: Sequence[Any]) -> int:
        """A sequence no longer than the firmware takes, or any number of frames in one light."""
        return min(len(values), max(constant_run(values), self.holds))

    def passes(self, values: Sequence[Any]) -> int | None:
        """As often as the firmware repeats, or as fit into its one sequence."""
        if is_constant(values):
            return None
        return self.most_passes or max(self.holds // len(values), 1)

    def describe(self, values: Sequence[Any], *, again: bool) -> str:  # noqa: ARG002 - as Reach has it
        """How it takes these frames."""
        if is_constant(values):
            return "constant"
        return f"firmware, {len(values)} of at most {self.holds} written"


@dataclass(frozen=True)
class BuiltInReach(Reach):
    """A light whose firmware has one sequence of `holds` frames, and no other.

    Parameters
    ----------
    most_passes
        How often it is run through at most.
    """

    most_passes: int = 1

    @property
    def name(self) -> str:
        """How it is stepped."""
        return "firmware"

    def longest(self, values: Sequence[Any]) -> int:
        """Whole passes of the sequence; that they are its own is checked once all cuts are known."""
        return min(len(values), max(constant_run(values), self.holds * self.most_passes))

    def passes(self, values: Sequence[Any]) -> int | None:
        """As often as the firmware repeats it."""
        if is_constant(values):
            return None
        return max(self.most_passes * self.holds // len(values), 1)

    def describe(self, values: Sequence[Any], *, again: bool) -> str:  # noqa: ARG002 - as Reach has it
        """How it takes these frames."""
        return "constant" if is_constant(values) else f"firmware, its own {self.holds}"
