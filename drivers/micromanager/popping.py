"""The camera: started for a burst, its frames popped out of the core's buffer one by one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.driver import CameraTimeoutError
from drivers.micromanager.asking import Asker
from drivers.micromanager.core import CORE_ERRORS, TaggedImage
from pipeline.errors import DriverError

# A camera that says that it has stopped may still be handing over its last frames.
_GRACE_S = 0.05
# How often an empty buffer is looked at: short exposures are waited for closely, long ones don't keep a core busy.
_SHORTEST_NAP_S = 0.0002
_LONGEST_NAP_S = 0.002
# An overflow may empty the buffer between a look and a pop, but not again and again.
_EMPTY_POPS = 100


class Popped(NamedTuple):
    """A frame out of the buffer.

    Parameters
    ----------
    number
        The camera's own, from 0 in each burst; frames that were lost are counted.
    exposed
        When, on the monotonic clock.
    waiting
        Frames in the buffer before it was popped, itself included.
    """

    number: int
    pixels: NDArray[np.unsignedinteger]
    exposed: float
    waiting: int


class BurstCamera:
    """One camera through its bursts.

    Parameters
    ----------
    label
        Of Micro-Manager's camera device.
    """

    def __init__(self, asker: Asker, label: str) -> None:
        self.label = label
        self._asker = asker
        self._core = asker.core
        self._frames = 0
        self._exposure_s = 0.0
        self._started = 0.0
        self._popped = 0
        self._next = 0
        self._next_if_it_counts_on = 0
        self._cut_short = False
        self._capacity = 1

    @property
    def capacity(self) -> int:
        """Frames that the core's buffer holds."""
        return self._capacity

    @property
    def was_stopped(self) -> bool:
        """Whether the burst was stopped before its last frame."""
        return self._cut_short

    def start(self, frames: int, exposure_ms: float, make_ready: Callable[[], None]) -> None:
        """Begin a burst of `frames`, none longer than `exposure_ms`.

        `make_ready` brings what steps at the camera's triggers to the first frame. It is called while the camera
        stands still, and again where a start failed: one that was half made may have given triggers.
        """
        core = self._core
        self._frames, self._exposure_s = frames, exposure_ms / 1e3
        self._popped, self._cut_short = 0, False
        self._next_if_it_counts_on = self._next

        def start() -> None:
            # Half started at a first try, or left running by whoever had it before.
            if core.is_sequence_running():
                core.stop_sequence_acquisition()
            make_ready()
            core.start_sequence_acquisition(frames, 0.0, True)

        self._asker.ask(self.label, "start", start)
        self._started = time.monotonic()
        self._capacity = max(int(core.get_buffer_total_capacity()), 1)

    def waiting(self) -> int:
        """Frames that were exposed and not popped yet."""
        try:
            return int(self._core.get_remaining_image_count())
        except CORE_ERRORS as error:
            raise self._asker.refused(self.label, "say how many frames wait", error) from error

    def pop(self) -> Popped | None:
        """The next frame; waits for it. None: the camera has stopped, and nothing is left.

        Raises
        ------
        CameraTimeoutError
            If it runs on but delivers nothing.
        DriverError, DeviceDisconnectedError
            If the core can't be asked, or the burst was ended from elsewhere.
        """
        core = self._core
        try:
            for _ in range(_EMPTY_POPS):
                waiting = core.get_remaining_image_count() or self._wait()
                if not waiting:
                    return None
                try:
                    image = core.pop_next_tagged_image()
                except (IndexError, *CORE_ERRORS) as error:
                    if not _says_empty(error):
                        raise
                    time.sleep(_SHORTEST_NAP_S)
                    continue
                if self._may_be_overwritten():
                    self._asker.tell(
                        f"the core's buffer of {self._capacity} frames was full: a frame in it may have been "
                        "overwritten while it was taken out, and is not kept; raise "
                        "microscope.connection.buffer_mb, or lower the frame rate"
                    )
                    continue
                return self._labelled(image, waiting)
        except CORE_ERRORS as error:
            # A burst that somebody ended may make any call fail: that is said, then.
            self._asker.check()
            raise self._asker.refused(self.label, "hand over a frame", error) from error
        raise DriverError(
            f"'{self.label}' says that frames wait, and gives none",
            "restart Micro-Manager, then `--resume`",
        )

    def _may_be_overwritten(self) -> bool:
        """Whether the camera may have written a later frame over the pixels just popped.

        The core frees a frame's place before the frame is copied out of it. Nobody else takes frames out, so
        the buffer was at no moment of the copy fuller than it is afterwards.
        """
        core = self._core
        full = self._capacity - 1
        if core.get_remaining_image_count() < full:
            return False
        # After an overflow the camera stands still: it writes no more, and had no place to write to before.
        return bool(core.is_sequence_running()) or core.get_remaining_image_count() > full

    def has_overflowed(self) -> bool:
        """Whether the core's buffer was too full for a frame."""
        try:
            return bool(self._core.is_buffer_overflowed())
        except CORE_ERRORS as error:
            raise self._asker.refused(self.label, "say why it stopped", error) from error

    def stop(self) -> None:
        """Expose no more; what is in the buffer stays."""
        self._cut_short = True
        self._asker.ask(self.label, "stop", self._core.stop_sequence_acquisition)

    def finish(self) -> None:
        """After the last frame: the camera is ready for another burst."""
        # Stopping costs some cameras milliseconds, and most have stopped by themselves.
        if self._asker.ask(self.label, "say whether it runs", self._core.is_sequence_running):
            self._asker.ask(self.label, "stop", self._core.stop_sequence_acquisition)

    def leave(self) -> None:
        """From any thread, whatever goes on: expose no more."""
        asker = self._asker.insistent()
        asker.ask(self.label, "stop", self._core.stop_sequence_acquisition)

    def _wait(self) -> int:
        """Wait for a frame; how many wait then, 0 when none will come any more."""
        core, patience = self._core, self._asker.patience
        now = time.monotonic()
        if self._popped:
            patient_s, began = patience.frame_s, now
        else:
            patient_s, began = patience.first_frame_s, self._started
        deadline = began + patient_s + self._exposure_s
        nap_s = min(max(self._exposure_s / 50, _SHORTEST_NAP_S), _LONGEST_NAP_S)
        stopped: float | None = None
        while True:
            self._asker.check()
            runs = core.is_sequence_running()
            waiting = core.get_remaining_image_count()
            if waiting:
                return waiting
            now = time.monotonic()
            if runs:
                stopped = None
                # Some cameras run on though the buffer takes nothing any more.
                if core.is_buffer_overflowed():
                    self._asker.ask(self.label, "stop", core.stop_sequence_acquisition)
                    return core.get_remaining_image_count()
            elif stopped is None:
                stopped = now
            elif now - stopped > _GRACE_S:
                return 0
            if now > deadline:
                raise self._timeout(patient_s)
            time.sleep(nap_s)

    def _labelled(self, image: TaggedImage, waiting: int) -> Popped:
        now = time.monotonic()
        tags = image.tags
        number = tags.get("ImageNumber")
        if number is None:
            raise DriverError(
                f"'{self.label}' gives frames without an ImageNumber, and can't be trusted with their order",
                "use a newer Micro-Manager (MMCore 11 or later)",
            )
        number = int(number)
        if not self._popped and 0 < number == self._next_if_it_counts_on:
            raise DriverError(
                f"'{self.label}' numbers its frames on from the burst before, so that lost ones can't be told",
                "use MMCore 12.5 or later (`livephase doctor` says which one there is)",
            )
        self._next = number + 1
        elapsed_ms = tags.get("ElapsedTime-ms")
        # Never later than it was popped, whatever the camera's clock says.
        exposed = now if elapsed_ms is None else min(self._started + float(elapsed_ms) / 1e3, now)
        self._popped += 1
        return Popped(number, image.pix, exposed, waiting)

    def _timeout(self, patient_s: float) -> CameraTimeoutError:
        which = f"frame {self._popped + 1} of {self._frames}" if self._popped else "first frame"
        name = "frame_s" if self._popped else "first_frame_s"
        return CameraTimeoutError(
            f"'{self.label}' did not deliver the {which} of a burst within {patient_s:g} s beyond its exposure",
            "check its trigger mode (it has to run by itself) and its cable, or raise "
            f"microscope.patience.{name}",
        )


def _says_empty(error: Exception) -> bool:
    """Whether a pop found nothing: pymmcore has an error of its own for that, Java a sentence."""
    return isinstance(error, IndexError) or "buffer is empty" in str(error)
