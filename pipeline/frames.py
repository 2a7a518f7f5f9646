"""The vocabulary of the whole house: keys, slots, plans, measurements, records.

A *frame* is one exposure. Its `FrameKey` says which exposure of the plan it is;
the key, never an arrival count, decides where the frame is stored.

A *slot* is all frames of one timepoint and one position: a contiguous array
``[K, Y, X]``, the unit that is acquired, stored, checked and committed. Frame
``k`` of a slot is ``channel * foci + focus``: the slot's memory is the
``[c, z, y, x]`` of the store.

A *measurement* is the subset of a slot that one reconstruction needs, chosen
by the method.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray


class SlotKey(NamedTuple):
    """One timepoint at one position: the key of a ledger record."""

    timepoint: int
    position: int


class FrameKey(NamedTuple):
    """One planned exposure: the unit of account."""

    timepoint: int
    position: int
    channel: int
    focus: int

    @property
    def slot(self) -> SlotKey:
        """The slot that this frame belongs to."""
        return SlotKey(self.timepoint, self.position)


class Region(NamedTuple):
    """A rectangle of the field in camera pixels, from its first corner on."""

    y: float
    x: float
    height: float
    width: float


class FrameStatus(IntEnum):
    """What became of a planned frame. In the end it is WRITTEN or MISSING."""

    PENDING = 0
    WRITTEN = 1
    MISSING = 2


class MissingReason(IntEnum):
    """Why a planned frame is missing. Values are on disk: append, never renumber."""

    NONE = 0
    DROPPED = 1  # a gap in the camera's own frame numbers
    OVERFLOW = 2  # the camera's buffer overflowed
    TIMEOUT = 3  # the camera did not deliver in time
    DISCONNECTED = 4  # a device went away
    INTERRUPTED = 5  # the acquiring process died within the slot and the run was closed
    STOPPED = 6  # never exposed: the run was stopped or aborted before
    SOURCE = 7  # a replayed recording does not have it
    DOSE = 8  # not exposed: the position has had all the light that the experiment allows


_REASONS: dict[int, str] = {
    MissingReason.NONE: "missing for no recorded reason",
    MissingReason.DROPPED: "dropped by the camera, whose own numbers have a gap here",
    MissingReason.OVERFLOW: "lost in the camera's full buffer",
    MissingReason.TIMEOUT: "not delivered by the camera in time",
    MissingReason.DISCONNECTED: "not taken, as a device was away",
    MissingReason.INTERRUPTED: "lost, as acquisition died within the timepoint",
    MissingReason.STOPPED: "never exposed, as the run was ended before",
    MissingReason.SOURCE: "not in the recording that was read",
    MissingReason.DOSE: "not exposed, as the position has had all the light that is allowed",
}


def reason_in_words(number: int) -> str:
    """Why a frame is missing, after "it was" or "3 frames:"; also of a number that a later version wrote."""
    return _REASONS.get(number, f"missing for reason {number}, which this version does not know")


# What the hardware said of one frame; one row per frame in the ring and in the
# ledger. `led` is the index of the channel that the hardware reports lit (-1:
# the hardware does not say), times are seconds, NaN where unknown.
FRAME_RECORD = np.dtype(
    [
        ("image_number", "<i8"),  # the camera's own counter, -1 where it has none
        ("time_utc", "<f8"),
        ("time_monotonic", "<f8"),
        ("focus_um", "<f4"),
        ("buffer_fill", "<f4"),  # share of the camera's buffer in use, 0 … 1
        ("led", "<i2"),
        ("status", "u1"),  # FrameStatus
        ("reason", "u1"),  # MissingReason
    ]
)


def empty_records(frames: int) -> NDArray[np.void]:
    """`FRAME_RECORD` rows of frames that nobody has exposed yet, shape ``[frames]``."""
    records = np.zeros(frames, FRAME_RECORD)
    records["image_number"] = -1
    records["led"] = -1
    for field in ("time_utc", "time_monotonic", "focus_um"):
        records[field] = np.nan
    return records


@dataclass(frozen=True)
class Position:
    """A place on the specimen, in µm of the stage; None: where the stage stands, it is not moved."""

    name: str
    x_um: float | None = None
    y_um: float | None = None


@dataclass(frozen=True)
class PlannedChannel:
    """One illumination state: a named pattern, its exposure time and brightness."""

    name: str
    exposure_ms: float
    brightness: float

    def frame_s(self, readout_s: float) -> float:
        """Least seconds from one frame of it to the next; a sensor reads one out while it exposes the next."""
        return max(self.exposure_ms / 1e3, readout_s)


@dataclass(frozen=True)
class Plan:
    """Every frame that a run is to deliver, and in which order.

    Parameters
    ----------
    timepoints, positions, channels, foci_um
        The axes of the acquisition. `foci_um` are relative to the position's focus.
    frame_shape
        ``(y, x)`` of one frame in camera pixels (after binning).
    bit_depth
        Bits per pixel that the camera delivers.
    interval_s
        From one timepoint's start to the next; 0 means as fast as possible.
    slot_order
        ``"tp"``: all positions at each timepoint; ``"pt"``: the whole time series at one position, then the next.
    frame_order
        ``"cz"``: foci innermost; ``"zc"``: channels innermost. Order of exposure only:
        where a frame is stored does not depend on it.
    """

    timepoints: int
    positions: tuple[Position, ...]
    channels: tuple[PlannedChannel, ...]
    foci_um: tuple[float, ...]
    frame_shape: tuple[int, int]
    bit_depth: int
    interval_s: float = 0.0
    slot_order: Literal["tp", "pt"] = "tp"
    frame_order: Literal["cz", "zc"] = "cz"

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The pixels' type: one byte up to 8 bits, two above."""
        return np.dtype(np.uint8) if self.bit_depth <= 8 else np.dtype(np.uint16)

    @property
    def frames_per_slot(self) -> int:
        """K: frames in one slot."""
        return len(self.channels) * len(self.foci_um)

    @property
    def slot_shape(self) -> tuple[int, int, int]:
        """``(K, Y, X)``."""
        return (self.frames_per_slot, *self.frame_shape)

    @property
    def slot_bytes(self) -> int:
        """Bytes of one slot's pixels."""
        return int(np.prod(self.slot_shape)) * self.dtype.itemsize

    @property
    def slots(self) -> int:
        """How many slots the run has."""
        return self.timepoints * len(self.positions)

    @property
    def frames(self) -> int:
        """How many frames the run has."""
        return self.slots * self.frames_per_slot

    def slot_keys(self) -> Iterator[SlotKey]:
        """Every slot in the order of acquisition."""
        if self.slot_order == "tp":
            for t in range(self.timepoints):
                for p in range(len(self.positions)):
                    yield SlotKey(t, p)
        else:
            for p in range(len(self.positions)):
                for t in range(self.timepoints):
                    yield SlotKey(t, p)

    def has(self, slot: SlotKey) -> bool:
        """Whether the slot is part of the plan."""
        return 0 <= slot.timepoint < self.timepoints and 0 <= slot.position < len(self.positions)

    def slot_number(self, slot: SlotKey) -> int:
        """Which slot of the whole run this is in the order of acquisition, counted from 0."""
        if self.slot_order == "tp":
            return slot.timepoint * len(self.positions) + slot.position
        return slot.position * self.timepoints + slot.timepoint

    def begins_timepoint(self, slot: SlotKey) -> bool:
        """Whether no slot of its timepoint comes before it."""
        return self.slot_order == "pt" or slot.position == 0

    def frame_keys(self, slot: SlotKey) -> Iterator[FrameKey]:
        """Every frame of a slot in the order of exposure."""
        n_c, n_z = len(self.channels), len(self.foci_um)
        if self.frame_order == "cz":
            for c in range(n_c):
                for z in range(n_z):
                    yield FrameKey(*slot, c, z)
        else:
            for z in range(n_z):
                for c in range(n_c):
                    yield FrameKey(*slot, c, z)

    def index(self, key: FrameKey) -> int:
        """Where in its slot ``[K, Y, X]`` a frame is kept: ``channel * foci + focus``."""
        return key.channel * len(self.foci_um) + key.focus


@dataclass(frozen=True)
class Measurement:
    """What one reconstruction takes out of a slot and what it gives back.

    Parameters
    ----------
    frames
        Indices along the slot's K axis, in the order in which the method wants them.
    outputs
        Names of the images it yields, the first of them ``"phase"`` (radians).
    upsampling
        Output pixels per camera pixel along each axis.
    accepts_aliasing
        Whether the camera may sample more coarsely than the objective's passband.
    accepts_gaps
        Whether it reconstructs a slot of which some frames are missing.
    weights_sha256
        Of the file of weights that it would compute with; None where it has none. A run is
        not resumed with other weights.
    """

    frames: tuple[int, ...]
    outputs: tuple[str, ...] = ("phase",)
    upsampling: int = 1
    accepts_aliasing: bool = False
    accepts_gaps: bool = False
    weights_sha256: str | None = None
