"""A recording takes the microscope's place."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.driver import Arrived, CameraInfo, Destination, Driver, Lost
from drivers.recordings import PlannedRecording, RecordedFrame, open_recording
from pipeline.course import Course
from pipeline.errors import DriverError
from pipeline.experiment import Experiment, ReplayMicroscope
from pipeline.frames import FrameKey, MissingReason, SlotKey

# Behind the pace by more than this, the user hears of it: less is the scheduler's jitter.
_LATE_S = 0.5


@dataclass(frozen=True)
class _Frame:
    """A frame read ahead; `pixels` is None where the recording lacks it."""

    key: FrameKey
    pixels: NDArray[np.unsignedinteger] | None
    about: RecordedFrame


class ReplayDriver(Driver):
    """Frames of `experiment.microscope.source`, paced as its `pace` says.

    Pace *recorded* keeps the recording's own times where it has them, else the sequence's interval
    and exposures. A destination that blocks delays frames and loses none. One slot is read ahead,
    so that a slow disk does not show in the pace.

    Parameters
    ----------
    experiment
        With ``microscope.driver: replay``.

    Raises
    ------
    DriverError
        If the experiment's microscope is no replay.
    """

    can_come_back = False

    def __init__(self, experiment: Experiment) -> None:
        microscope = experiment.microscope
        if not isinstance(microscope, ReplayMicroscope):
            raise DriverError(
                f"microscope.driver is {microscope.driver}, not replay",
                "set microscope.driver: replay",
            )
        self._experiment = experiment
        self._microscope = microscope
        self._plan = experiment.plan()
        self._recording: PlannedRecording | None = None
        self._ahead: _ReadAhead | None = None
        self._slot: list[_Frame] = []  # frames of the current slot not yet handed over, last first
        self._schedule: _Schedule | None = None
        self._stop = threading.Event()
        self._late_said = False
        self._messages: list[str] = []

    def preflight(self) -> None:
        """Refuse a recording that is not there or does not fit the experiment."""
        open_recording(self._microscope.source, self._experiment).close()

    def reprogram(self, experiment: Experiment) -> CameraInfo:
        """Read the recording as another experiment sees it."""
        self.close()
        ReplayDriver.__init__(self, experiment)
        return self.open()

    def steer(self, course: Course) -> None:
        """Refuse: what is recorded is recorded. Its timepoints may come at other times."""
        last = course.last
        if last.focus_um or any(last.stage_um):
            raise DriverError(
                "a recording can't be refocused or moved: its frames are taken already",
                "steer runs of a microscope or of the simulator",
            )

    def open(self) -> CameraInfo:
        """Open the recording and match it to the experiment."""
        if self._recording is None:
            self._recording = open_recording(self._microscope.source, self._experiment)
            self._messages += self._recording.remarks
        return CameraInfo(
            self._plan.frame_shape,
            self._plan.bit_depth,
            f"replay of {self._recording.recording.path.name}",
        )

    def arm(self, slots: Sequence[SlotKey]) -> None:
        """Begin a burst: its first frame is due now."""
        if self._recording is None:
            raise DriverError("the replay is not open", "call open() before arm()")
        self._end_burst()
        self._stop.clear()
        self._late_said = False
        self._ahead = _ReadAhead(self._recording, slots)
        self._schedule = _Schedule(self._experiment, self._microscope.pace)

    def next_frame(self, destination: Destination) -> Arrived | Lost | None:
        """Hand over the next frame when it is due."""
        if self._ahead is None or self._schedule is None:
            return None
        begins = not self._slot
        if begins:
            following = None if self._stop.is_set() else self._ahead.next_slot()
            if following is None:
                self._end_burst()
                return None
            self._slot = following[::-1]
        frame = self._slot.pop()
        wait_s = self._schedule.wait_s(frame.key, frame.about.time_s)
        # The wait for a slot may be long: a stop ends it. A slot that is being exposed is finished.
        if not begins:
            time.sleep(max(wait_s, 0.0))
        elif self._stop.wait(max(wait_s, 0.0)):
            self._end_burst()
            return None
        self._say_if_late(-wait_s)
        if frame.pixels is None:
            return Lost((frame.key,), MissingReason.SOURCE)
        popped = time.monotonic()
        np.copyto(destination(frame.key), frame.pixels, casting="no")
        return self._arrived(frame, popped)

    def stop_burst(self) -> None:
        """End the burst after the slot that has begun."""
        self._stop.set()

    def light_off(self) -> None:
        """A recording needs no light."""

    def close(self) -> None:
        """End the burst and let the recording go."""
        self._stop.set()
        self._end_burst()
        if self._recording is not None:
            self._recording.close()
            self._recording = None

    def messages(self) -> list[str]:
        """How the recording was read, and whether its pace could be kept."""
        said, self._messages = self._messages, []
        return said

    def _arrived(self, frame: _Frame, popped: float) -> Arrived:
        about = frame.about
        return Arrived(
            key=frame.key,
            image_number=about.image_number,
            time_utc=(
                time.time() - (time.monotonic() - popped)
                if math.isnan(about.time_utc)
                else about.time_utc
            ),
            time_monotonic=popped,
            focus_um=(
                self._plan.foci_um[frame.key.focus]
                if math.isnan(about.focus_um)
                else about.focus_um
            ),
            led=about.led,
        )

    def _end_burst(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        self._slot = []

    def _say_if_late(self, late_s: float) -> None:
        if late_s > _LATE_S and not self._late_said and self._microscope.pace != "fast":
            self._late_said = True
            self._messages.append(
                f"the replay is {late_s:.1f} s behind its pace ({self._microscope.pace}): "
                "the recording is read, or its frames are taken, more slowly than that"
            )


class _Schedule:
    """When the frames of one burst are due."""

    def __init__(self, experiment: Experiment, pace: str | float) -> None:
        self._plan = experiment.plan()
        self._pace = pace
        readout_s = experiment.microscope.camera.readout_s
        self._frame_s = [channel.frame_s(readout_s) for channel in self._plan.channels]
        self._start = time.monotonic()
        self._frames = 0
        self._slot: SlotKey | None = None
        self._first_timepoint = 0
        self._next_s = 0.0  # when the frame after the last one is due by exposure times
        self._recorded_start_s = math.nan
        self._last_recorded_s = math.nan

    def wait_s(self, key: FrameKey, recorded_s: float) -> float:
        """Seconds until this frame is due, negative if it is late. Ask once a frame, in order."""
        due_s = self._due_s(key, recorded_s)
        self._frames += 1
        return self._start + due_s - time.monotonic()

    def _due_s(self, key: FrameKey, recorded_s: float) -> float:
        """Seconds after the beginning of the burst."""
        if self._pace == "fast":
            return 0.0
        if self._pace != "recorded":
            return self._frames / float(self._pace)
        by_sequence_s = self._by_sequence_s(key)
        # Frames that share one time (a recording may know only its timepoints') follow one another.
        if math.isnan(recorded_s) or recorded_s == self._last_recorded_s:
            return by_sequence_s
        self._last_recorded_s = recorded_s
        if math.isnan(self._recorded_start_s):
            self._recorded_start_s = recorded_s - by_sequence_s
        due_s = recorded_s - self._recorded_start_s
        self._next_s = due_s + self._frame_s[key.channel]
        return due_s

    def _by_sequence_s(self, key: FrameKey) -> float:
        if self._slot is None:
            self._first_timepoint = key.timepoint
        due_s = self._next_s
        if key.slot != self._slot:
            self._slot = key.slot
            passed = key.timepoint - self._first_timepoint
            due_s = max(due_s, passed * self._plan.interval_s)
        self._next_s = due_s + self._frame_s[key.channel]
        return due_s


class _ReadAhead:
    """Reads the slots of a burst in a thread of its own, one ahead of the caller."""

    def __init__(self, recording: PlannedRecording, slots: Sequence[SlotKey]) -> None:
        self._recording = recording
        self._ready: queue.Queue[list[_Frame] | Exception | None] = queue.Queue(maxsize=1)
        self._closed = threading.Event()
        # A daemon: a read that hangs on a lost network share must not keep the process alive.
        self._thread = threading.Thread(
            target=self._read, args=(tuple(slots),), name="replay read-ahead", daemon=True
        )
        self._thread.start()

    def next_slot(self) -> list[_Frame] | None:
        """The frames of the next slot in the order of exposure; None after the last.

        Raises
        ------
        LivephaseError
            What the reader raised, in the place of the slot that it could not read.
        """
        if self._closed.is_set():
            return None
        item = self._ready.get()
        if isinstance(item, Exception):
            self.close()
            raise item
        return item

    def close(self) -> None:
        """End the thread; waits for a read that is under way."""
        self._closed.set()
        # Room in the queue lets the thread see that it is over.
        with contextlib.suppress(queue.Empty):
            self._ready.get_nowait()
        self._thread.join()

    def _read(self, slots: tuple[SlotKey, ...]) -> None:
        recording = self._recording
        try:
            for slot in slots:
                frames = [
                    _Frame(key, recording.frame(key), recording.about(key))
                    for key in recording.plan.frame_keys(slot)
                ]
                if not self._put(frames):
                    return
            self._put(None)
        # Whatever goes wrong here belongs to the thread that asks for the slot, which raises it.
        except Exception as error:
            self._put(error)

    def _put(self, item: list[_Frame] | Exception | None) -> bool:
        if self._closed.is_set():
            return False
        self._ready.put(item)
        return not self._closed.is_set()
