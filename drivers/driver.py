"""The contract of every microscope: real, simulated or replayed.

A driver lives in the acquire process. Its life:

    open ─► arm(slots) ─► next_frame … next_frame (None: burst over) ─► arm(…) … ─► close
              ▲                  │ stop_burst(), light_off() at any time
              └──────────────────┘

Frames are keyed by what the hardware says, never by counting arrivals: the
driver learns the key of the frame it is about to hand over, asks the caller
for that frame's buffer and writes the pixels there, in place. A gap is
reported as `Lost`, never hidden; frames arrive in the order of exposure.

The caller puts the light out. A burst that ends, by itself, after `stop_burst` or by an overflow, leaves it as
it is: only the caller knows how soon the next one comes (`safety.dark_after_s`). It calls `light_off` where it
is to be dark, also after every error, and `close` at last, which puts the light out whatever went before. A
driver may do so earlier, when it opens devices or when one of them fails; nobody relies on that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.calibration import Calibration
from pipeline.course import Course
from pipeline.errors import DriverError
from pipeline.experiment import Experiment
from pipeline.frames import FrameKey, MissingReason, SlotKey

# Given the key of a frame, the place where its pixels belong: ``[Y, X]``, C-contiguous.
# May block while the ring is full; the camera's own buffer then fills meanwhile.
Destination = Callable[[FrameKey], NDArray[np.unsignedinteger]]


class DeviceDisconnectedError(DriverError):
    """A device went away: what was exposed is kept, the run stops and can be resumed."""


class CameraTimeoutError(DriverError):
    """The camera delivers nothing at all any more."""


@dataclass(frozen=True)
class CameraInfo:
    """What the opened camera really is; checked against the experiment before anything moves."""

    frame_shape: tuple[int, int]
    bit_depth: int
    name: str = ""


@dataclass(frozen=True)
class Arrived:
    """A frame was written into its destination.

    `led` is the index of the channel that is lit, -1 where that is not known or the hardware says otherwise. Times are
    seconds since the epoch and of the monotonic clock; `buffer_fill` is the share of the camera's buffer in use.
    """

    key: FrameKey
    image_number: int
    time_utc: float
    time_monotonic: float
    focus_um: float
    led: int = -1
    buffer_fill: float = 0.0


@dataclass(frozen=True)
class Lost:
    """Planned frames that will never arrive, with the reason."""

    keys: tuple[FrameKey, ...]
    reason: MissingReason


class Driver(ABC):
    """One microscope: camera, light and focus together."""

    can_come_back = True
    """Whether what failed may work when it is opened again. A recording stays as it is."""

    def preflight(self) -> None:  # noqa: B027 - a driver with nothing to look at needs none
        """Refuse what can be seen to be wrong without touching the hardware. Raises `LivephaseError`."""

    @abstractmethod
    def reprogram(self, experiment: Experiment) -> CameraInfo:
        """Take up another experiment of the same microscope, on devices that stay open.

        For snapshots and calibration, which change channels, exposures and foci from shot to shot.
        Not within a burst. Raises `DriverError` if it is another microscope's.
        """

    def steer(self, course: Course) -> None:
        """Take focus and place of every frame to come from `course`, and a simulated specimen's age.

        Called between two bursts, and good for all bursts after it, also after `reprogram`, whose foci and places are
        moved as well. Nothing moves before the next burst. A frame's record says the focus that was commanded: the
        plan's and what it was moved by.

        Raises
        ------
        DriverError
            If the microscope can't be steered so, or something would leave its limits: all stays as it was.
        """
        last = course.last
        if last.focus_um or any(last.stage_um):
            raise DriverError(
                "this microscope can't be refocused or moved while a run goes on",
                "leave that out, or use another driver",
            )

    @abstractmethod
    def open(self) -> CameraInfo:
        """Connect: nothing lights up, nothing moves. Raises `DriverError`."""

    @abstractmethod
    def arm(self, slots: Sequence[SlotKey]) -> None:
        """Prepare one burst over `slots`, in this order; light and camera start with it.

        Raises `DriverError` when a device refuses.
        """

    @abstractmethod
    def next_frame(self, destination: Destination) -> Arrived | Lost | None:
        """Wait for the next frame of the burst; None when the burst is over, with the light as it is.

        After a `Lost` that ends the burst early (overflow) the next call returns None, and the caller arms
        again at the next slot.

        Raises
        ------
        CameraTimeoutError, DeviceDisconnectedError, DriverError
            Nothing more will come; frames handed over so far are good.
        """

    @abstractmethod
    def stop_burst(self) -> None:
        """End the burst after the slot now being exposed; its frames still arrive through `next_frame`."""

    @abstractmethod
    def light_off(self) -> None:
        """Turn every light off and send the lens to its safe place; in a burst this ends it.

        Must work in any state, be quick and be safe to call again, also from another thread.
        """

    def make_safe(self) -> None:
        """Light off and lens at its safe place, from a driver that is not open; then let the devices go.

        For a process that was told that the one with the light on is dead: it connects to no more than it
        needs, as each second is one of light on the specimen.
        """
        try:
            self.open()
            self.light_off()
        finally:
            self.close()

    @abstractmethod
    def close(self) -> None:
        """Stop everything, light off, let the devices go. Safe to call again."""

    def bursts(self, slots: Sequence[SlotKey]) -> list[str]:  # noqa: ARG002 - a driver with nothing to sequence tells nothing
        """How the devices will be sequenced over `slots` and why, a line each, for `--dry-run`.

        May connect to the devices to ask them; lights and moves nothing.
        """
        return []

    def known_calibration(self) -> Calibration | None:
        """The instrument's true calibration, where the driver knows it (a simulator does)."""
        return None

    def messages(self) -> list[str]:
        """What the user should hear of since the last call ("can't keep up with 30 frames/s")."""
        return []
