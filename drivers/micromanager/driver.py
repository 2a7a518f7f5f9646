"""A microscope that Micro-Manager drives: camera, light, lens and stage through bursts."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

import numpy as np

from drivers.driver import (
    Arrived,
    CameraInfo,
    CameraTimeoutError,
    Destination,
    Driver,
    Lost,
)
from drivers.micromanager.asking import Asker
from drivers.micromanager.connect import configuration_file, connect, disconnect
from drivers.micromanager.core import Core
from drivers.micromanager.instrument import Instrument, Offset, fit
from drivers.micromanager.popping import Popped
from drivers.micromanager.programme import Segment
from drivers.micromanager.safe import Dark, needed_to_be_dark, needed_to_be_safe
from pipeline.course import Course
from pipeline.errors import DriverError
from pipeline.experiment import Experiment
from pipeline.experiment.micromanager import MicroManagerMicroscope
from pipeline.frames import MissingReason, SlotKey

log = logging.getLogger("livephase")


class MicroManagerDriver(Driver):
    """Micro-Manager's core, in this process or a running one.

    The plan is cut into segments (`Programme`), each one burst of the camera through which the devices step by
    themselves. Between two of them, software sets what has to be set. Frames are labelled by their
    ImageNumber within the segment.

    The light stays on when a burst ends by itself: who arms the bursts knows when the next one comes.
    `light_off` in the middle of a burst ends it: the next `next_frame` raises `DriverError`, as frames in
    the dark would be worthless and look like frames.
    """

    _segments: Iterator[Segment]
    """Still to come in the burst."""
    _segment: Segment | None
    """The one that the camera is in."""
    _number: int
    """Its frame that comes next."""
    _last: int
    """Its first frame that is not wanted any more."""
    _held: Popped | None
    """Popped, but not handed over: its place is not known to be free, or a gap comes before it."""

    def __init__(self, experiment: Experiment) -> None:
        self._course: Course | None = None
        self._take_up(experiment)
        self._core: Core | None = None
        self._instrument: Instrument | None = None
        self._found: dict[str, str] = {}
        self._dark = Dark()
        self._messages: list[str] = []
        self._remarked: set[str] = set()
        self._clear()

    def preflight(self) -> None:
        """What can be refused without the devices."""
        configuration_file(self._microscope)
        Instrument.preflight(self._microscope, self._plan)

    def reprogram(self, experiment: Experiment) -> CameraInfo:
        """Another plan on the same devices; they are not loaded anew."""
        microscope = experiment.microscope
        if not isinstance(microscope, MicroManagerMicroscope) or _devices(microscope) != _devices(
            self._microscope
        ):
            raise DriverError(
                "the experiment is another microscope's: its connection, devices or setup differ",
                "open a driver of its own for it",
            )
        if self._segment is not None:
            self._abandon()
        self._take_up(experiment)
        if self._core is None:
            return self.open()
        return self._set_up(self._core)

    def steer(self, course: Course) -> None:
        """Lens and stage positions moved, checked against their limits first; sequences are loaded at the next arm."""
        before = self._course
        self._course = course
        try:
            if self._instrument is not None:
                self._instrument.steer(self._offset())
        except DriverError:
            self._course = before
            raise

    def _offset(self) -> Offset:
        """What every focus and place is moved by."""
        if self._course is None:
            return Offset()
        return Offset(self._course.last.focus_um, self._course.last.stage_um)

    def open(self) -> CameraInfo:
        """Load the devices, hold them against the experiment, and find out what they can be sequenced by."""
        self.close()
        try:
            self._core = connect(self._microscope)
            self._found = {}
            info = self._set_up(self._core)
            # A configuration may light up as it is loaded, and whoever had the devices before may have left it on.
            self._opened().light.off()
            return info
        except BaseException:
            self.close()
            raise

    def arm(self, slots: Sequence[SlotKey]) -> None:
        """Begin the first segment: devices set, light on, camera started."""
        instrument = self._opened()
        if not slots:
            raise DriverError("a burst over no slots was asked for", "arm with at least one slot")
        for slot in slots:
            if not self._plan.has(slot):
                raise DriverError(f"{slot} is not in the plan", "arm only with slots of the plan")
        if self._segment is not None:
            self._abandon()
        instrument.check_frames()
        self._clear()
        self._dark.clear(self._microscope.patience.device_s)
        # Whoever had the devices since the last burst may have changed them.
        instrument.forget()
        self._segments = instrument.programme.segments(tuple(slots))
        try:
            self._begin(next(self._segments))
        except BaseException:
            self._abandon()
            raise

    def next_frame(self, destination: Destination) -> Arrived | Lost | None:
        """Pop the next frame, or account for those that are missing before it."""
        try:
            return self._next(destination)
        except DriverError:
            self._abandon()
            raise

    def stop_burst(self) -> None:
        """End the burst after the slot now being exposed; at once between two slots.

        The camera may be ahead by what waits in the core's buffer: those slots were exposed and are handed over.
        """
        self._stopping = True
        segment, instrument = self._segment, self._instrument
        if segment is None or instrument is None or segment.part.start > 0:
            return
        exposed = self._number if self._held is None else self._held.number + 1
        exposed += instrument.camera.waiting()
        size = len(segment.part.states)
        if size == self._plan.frames_per_slot:
            self._last = min(self._last, -(-exposed // size) * size)
        elif exposed == 0:
            self._last = 0

    def light_off(self) -> None:
        """Light out, camera stopped, lens to its safe place; each device though another does not answer."""
        instrument = self._instrument
        if instrument is not None:
            self._dark.fall(instrument.light, instrument.lens, instrument.camera)

    def make_safe(self) -> None:
        """Connect to light and lens only, put the light out and the lens to its safe place."""
        self.close()
        microscope, trouble = self._microscope, None
        try:
            core = connect(microscope, only=needed_to_be_safe(microscope))
        except DriverError as error:
            if microscope.light is None or microscope.lens is None:
                raise
            # A lens that does not come up must not keep the light on.
            trouble = error
            core = connect(microscope, only=needed_to_be_dark(microscope.light, microscope))
        try:
            asker = Asker(core, microscope.patience, lambda: None, self._messages.append)
            light = Instrument.light_of(asker, microscope, {})
            lens = None if trouble else Instrument.lens_of(asker, microscope)
            self._dark.fall(light, lens, None)
        finally:
            disconnect(core, microscope)
        if trouble is not None:
            raise trouble

    def close(self) -> None:
        """Everything off, devices let go. A light that can't be put out is logged: nobody is left to catch it."""
        core, self._core = self._core, None
        if core is None:
            return
        try:
            self.light_off()
        except DriverError as error:
            log.error("closing the microscope: %s", error)
            self._messages.append(str(error))
        finally:
            self._instrument = None
            self._clear()
            disconnect(core, self._microscope)

    def bursts(self, slots: Sequence[SlotKey]) -> list[str]:
        """The segments that the devices will be run through, a line for each kind, and why they end."""
        was_open = self._core is not None
        if not was_open:
            self.open()
        try:
            instrument = self._opened()
            instrument.check_frames()
            return instrument.programme.describe(slots)
        finally:
            if not was_open:
                self.close()

    def messages(self) -> list[str]:
        """What the user should hear of since the last call."""
        messages, self._messages[:] = list(self._messages), []
        return messages

    def _take_up(self, experiment: Experiment) -> None:
        microscope = experiment.microscope
        assert isinstance(microscope, MicroManagerMicroscope)
        self._microscope = microscope
        self._plan = experiment.plan()

    def _set_up(self, core: Core) -> CameraInfo:
        asker = Asker(core, self._microscope.patience, self._check_light, self._messages.append)
        stands = None if self._instrument is None else self._instrument.stands
        self._instrument = Instrument(
            asker, self._microscope, self._plan, self._found, self._offset(), stands
        )
        # A run that probes its focus goes to and fro between two plans: once is enough.
        remarks = [r for r in self._instrument.remarks() if r not in self._remarked]
        self._remarked.update(remarks)
        self._messages += remarks
        return self._instrument.info

    def _opened(self) -> Instrument:
        if self._instrument is None:
            raise DriverError("the microscope is not open", "call open() before arm()")
        return self._instrument

    def _clear(self) -> None:
        """No burst."""
        self._segments = iter(())
        self._segment = self._held = None
        self._number = self._last = 0
        self._stopping = False

    def _begin(self, segment: Segment) -> None:
        self._opened().begin(segment)
        self._segment, self._number, self._last = segment, 0, segment.frames
        self._held = None

    def _next(self, destination: Destination) -> Arrived | Lost | None:
        instrument = self._instrument
        while True:
            segment = self._segment
            if segment is None or instrument is None:
                return None
            if self._number >= self._last:
                self._go_on(segment, instrument)
                continue
            self._check_light()
            popped = self._held or instrument.camera.pop()
            # Another thread may have put the light out during the exposure.
            self._check_light()
            if popped is None:
                return self._broken_off(segment, instrument)
            self._held = popped
            number = popped.number
            if (
                self._stopping
                and not instrument.camera.was_stopped
                and number + popped.waiting >= self._last
            ):
                instrument.camera.stop()
            if number != self._number:
                return self._gap(segment, number)
            key = segment.key(number)
            pixels = destination(key)
            np.copyto(pixels, fit(popped.pixels, pixels))
            self._held = None
            self._number = number + 1
            now = time.monotonic()
            return Arrived(
                key,
                number,
                time.time() - (now - popped.exposed),
                popped.exposed,
                self._plan.foci_um[key.focus] + self._offset().focus_um,
                instrument.led(key),
                min((popped.waiting - 1) / instrument.camera.capacity, 1.0),
            )

    def _gap(self, segment: Segment, number: int) -> Lost:
        """The frames that the camera counted and did not deliver. What was popped waits for the next call."""
        if not self._number < number < segment.frames:
            raise DriverError(
                f"the camera numbered a frame {number}, after {self._number} of {segment.frames} in its burst",
                "its frames can't be told apart: update Micro-Manager, and report this with the run's log.jsonl",
            )
        until = min(number, self._last)
        keys = tuple(segment.key(i) for i in range(self._number, until))
        self._number = until
        return Lost(keys, MissingReason.DROPPED)

    def _go_on(self, segment: Segment, instrument: Instrument) -> None:
        """After a segment's last frame: the next one, or the end of the burst."""
        cut = self._last < segment.frames
        self._segment = None
        instrument.halt(cut=cut)
        following = None if cut else next(self._segments, None)
        if following is None or (self._stopping and following.part.start == 0):
            self._clear()
            return
        self._check_light()
        self._begin(following)

    def _broken_off(self, segment: Segment, instrument: Instrument) -> Lost:
        """The camera stopped before its last frame: the rest of the slot is lost, and the burst over."""
        camera = instrument.camera
        reason = MissingReason.DROPPED
        if camera.has_overflowed():
            reason = MissingReason.OVERFLOW
            self._messages.append(
                f"the camera's buffer of {camera.capacity} frames overflowed: storage is slower than the "
                "camera; raise microscope.connection.buffer_mb, or lower the frame rate"
            )
        elif not camera.was_stopped:
            if self._number == 0:
                raise CameraTimeoutError(
                    f"'{camera.label}' stopped before the first frame of a burst",
                    "check its trigger mode (it has to run by itself) and its cable",
                )
            self._messages.append(
                f"'{camera.label}' stopped by itself after {self._number} of {segment.frames} frames"
            )
        keys = instrument.programme.rest_of_slot(segment.key(self._number))
        self._segment = None
        instrument.halt(cut=True)
        self._clear()
        return Lost(keys, reason)

    def _check_light(self) -> None:
        if self._dark.is_set():
            raise DriverError("the light went off during a burst", "arm again to go on")

    def _abandon(self) -> None:
        """After a failure: no burst, no light. That it failed is said already; a light that stays on as well."""
        self._clear()
        try:
            self.light_off()
        except DriverError as error:
            log.error("after a failed burst: %s", error)
            self._messages.append(str(error))


def _devices(microscope: MicroManagerMicroscope) -> tuple[object, ...]:
    """What decides which devices are there."""
    return (
        microscope.connection,
        microscope.config_file,
        microscope.devices,
        microscope.setup,
        microscope.camera_device,
    )
