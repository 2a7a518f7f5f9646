"""What every recording offers, whatever its file format."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import FrameKey, MissingReason


@dataclass(frozen=True)
class RecordedFrame:
    """What a recording knows of one frame beside its pixels; NaN and -1 where it does not.

    `time_s` is on any clock, for pacing; `time_utc` is seconds since the epoch. `led` is the
    channel that the hardware reported lit, `reason` why a missing frame is missing.
    """

    image_number: int = -1
    time_s: float = math.nan
    time_utc: float = math.nan
    focus_um: float = math.nan
    led: int = -1
    reason: MissingReason = MissingReason.SOURCE


class Recording(ABC):
    """Frames that were recorded before, found by key and never by arrival.

    Attributes
    ----------
    path
        Where it was read from; for messages.
    frame_shape, dtype
        ``(y, x)`` and type of the stored pixels.
    bit_depth
        Of the camera that took it, where the recording says so.
    timepoints, positions, channels, foci
        How many there are. The keys given to `frame` count within these.
    channel_names, foci_um
        Where known; None where only the order tells them apart.
    pixel_um
        At the sample, where known.
    remarks
        What the user should hear about how it was read, one sentence each.
    """

    path: Path
    frame_shape: tuple[int, int]
    dtype: np.dtype[Any]
    bit_depth: int | None = None
    timepoints: int
    positions: int = 1
    channels: int = 1
    foci: int = 1
    channel_names: tuple[str, ...] | None = None
    foci_um: tuple[float, ...] | None = None
    pixel_um: float | None = None
    remarks: tuple[str, ...] = ()

    @abstractmethod
    def frame(self, key: FrameKey) -> NDArray[Any] | None:
        """Pixels ``[Y, X]``, read only; None where the recording lacks this frame.

        Raises
        ------
        DriverError
            If the frame should be there but can't be read.
        """

    def about(self, key: FrameKey) -> RecordedFrame:  # noqa: ARG002 - most formats say nothing
        """What is known of one frame."""
        return RecordedFrame()

    def close(self) -> None:  # noqa: B027 - most formats hold nothing open
        """Let files go. Safe to call again."""


def describe(key: FrameKey) -> str:
    """A frame in words, for messages."""
    return (
        f"timepoint {key.timepoint}, position {key.position}, "
        f"channel {key.channel}, focus {key.focus}"
    )
