"""What may be asked of a run while it goes on: by a person, the service or a controller.

Whoever asks, an action takes effect between two timepoints only, within the limits of the experiment's `control:`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class _Finite:
    def __post_init__(self) -> None:
        for field in fields(self):
            if not math.isfinite(getattr(self, field.name)):
                raise ValueError(f"{field.name} has to be a number")


@dataclass(frozen=True)
class Refocus(_Finite):
    """Move the plane in focus of every frame to come; +z: downstream of the specimen."""

    dz_um: float


@dataclass(frozen=True)
class SetInterval(_Finite):
    """From one timepoint to the next, from here on. The number of timepoints stays."""

    interval_s: float


@dataclass(frozen=True)
class Move(_Finite):
    """Look at places so much farther along x and y, at every position."""

    dx_um: float
    dy_um: float


@dataclass(frozen=True)
class Snapshot:
    """Keep the newest phase image as a picture of its own."""


@dataclass(frozen=True)
class Pause:
    """Pause after this timepoint: light off, clock held. A person lets it go on."""


@dataclass(frozen=True)
class Stop:
    """Stop after this timepoint; what is recorded is still reconstructed."""


Action = Refocus | SetInterval | Move | Snapshot | Pause | Stop

KINDS: tuple[type[Action], ...] = (Refocus, SetInterval, Move, Snapshot, Pause, Stop)
_NAMES: dict[type[Action], str] = {
    Refocus: "refocus",
    SetInterval: "set_interval",
    Move: "move",
    Snapshot: "snapshot",
    Pause: "pause",
    Stop: "stop",
}


def name_of(action: Action) -> str:
    """As logs have it."""
    return _NAMES[type(action)]


def as_dict(action: Action) -> dict[str, Any]:
    """For JSON: its name, and its numbers by their names with units."""
    return {"action": name_of(action), **asdict(action)}


def from_dict(content: Mapping[str, Any]) -> Action:
    """The inverse of `as_dict`.

    Raises
    ------
    ValueError
        If it is no action.
    """
    kinds = {name: kind for kind, name in _NAMES.items()}
    kind = kinds.get(str(content.get("action")))
    if kind is None:
        raise ValueError(f"'{content.get('action')}' is no action: known: {', '.join(kinds)}")
    values = {field.name: float(content[field.name]) for field in fields(kind)}
    return kind(**values)
