"""The simulated microscope as a driver: bursts, pace, faults, light."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from drivers.driver import (
    Arrived,
    CameraInfo,
    CameraTimeoutError,
    Destination,
    DeviceDisconnectedError,
    Driver,
    Lost,
)
from drivers.simulator.clock import CameraClock
from drivers.simulator.faults import FaultPlan
from drivers.simulator.instrument import SimulatedInstrument
from drivers.simulator.lamp import Lamp
from drivers.simulator.order import frame_number, slot_number
from pipeline.calibration import Calibration
from pipeline.course import Course
from pipeline.errors import DriverError
from pipeline.experiment import Experiment
from pipeline.frames import FrameKey, MissingReason, SlotKey

# A background above this share of the camera's range leaves no room for the specimen.
_TOO_BRIGHT = 0.9


class SimulatorDriver(Driver):
    """A microscope made of physics.

    Frames and their losses depend on the experiment and on the frame's key alone, never on how a run was cut
    into bursts or sessions. The camera counts its images from 0 in each burst, lost ones included.
    The slot now being exposed begins when its first frame is asked for.

    `disconnect_at_frame`: the camera goes away before that frame. Opened again and armed
    with that frame's slot first, as a resumed run does, it is there again. In the run's first slot there
    is nothing to resume, and it goes away each time. Faults that have a probability in each try of a slot
    count the tries that failed before, in this driver.

    The light stays on when a burst ends, however it ends: who arms the bursts knows when the next one comes.
    `light_off` in the middle of a burst ends it: the next `next_frame` raises `DriverError`, as frames in
    the dark would be worthless and look like frames.
    """

    def __init__(self, experiment: Experiment) -> None:
        # Of this experiment and the one before: a run that probes its focus goes to and fro between two.
        self._known: list[tuple[Experiment, SimulatedInstrument, CameraClock]] = []
        self._course: Course | None = None
        self._open = False
        self._gone: str | None = None
        self._away_for = 0  # so often it is in vain opened again
        self._failed_tries: dict[SlotKey, int] = {}
        self._first_slot: SlotKey | None = None
        self._messages: list[str] = []
        self._said: set[str] = set()
        self._take_up(experiment)

    def _take_up(self, experiment: Experiment) -> None:
        """The experiment's plan, nothing armed."""
        known = [entry for entry in self._known if entry[0] == experiment]
        if not known:
            instrument = SimulatedInstrument(experiment, self._course)
            known = [(experiment, instrument, _clock(experiment))]
            self._known = [*self._known[-1:], *known]
        _, self.instrument, self._clock = known[0]
        self._microscope = self.instrument.microscope
        self._plan = experiment.plan()
        self._faults = FaultPlan(self._microscope, self._plan)
        self._readout_s = self._microscope.camera.readout_s
        lamp = self._microscope.lamp_file
        self._lamp = Lamp(None if lamp is None else Path(lamp))
        self._burst: Iterator[FrameKey] | None = None
        self._next: FrameKey | None = None
        self._slot: SlotKey | None = None  # the slot being exposed
        self._focus: int | None = None  # where the lens stands
        self._stopping = False
        self._image_number = 0

    @property
    def light_is_on(self) -> bool:
        """Whether the specimen is lit."""
        return self._lamp.is_on

    def reprogram(self, experiment: Experiment) -> CameraInfo:
        """The same instrument, by its seed, with another plan. What its faults have done so far stays."""
        # Of the camera that went away in this session: a plan that is taken up again goes on where it was.
        first = self._first_slot
        self.close()
        self._take_up(experiment)
        info = self.open()
        self._first_slot = first
        return info

    def steer(self, course: Course) -> None:
        """Focus and place of every frame to come, and the age of the specimen."""
        self._course = course
        for _, instrument, _ in self._known:
            instrument.steer(course)

    def open(self) -> CameraInfo:
        """Prepare the optics: importing torch takes seconds that the first frame need not pay."""
        if self._away_for:
            self._away_for -= 1
            raise DeviceDisconnectedError(
                "the simulated camera is still away", "switch it on and connect it"
            )
        self.instrument.prepare()
        self._open, self._gone, self._first_slot = True, None, None
        for warning in self._brightness_warnings():
            if warning not in self._said:
                self._said.add(warning)
                self._messages.append(warning)
        return CameraInfo(self._plan.frame_shape, self._plan.bit_depth, "simulator")

    def arm(self, slots: Sequence[SlotKey]) -> None:
        """Begin a burst, light on."""
        self._check_there()
        if not self._open:
            raise DriverError("the simulated microscope is not open", "call open() before arm()")
        if not slots:
            raise DriverError("a burst over no slots was asked for", "arm with at least one slot")
        plan = self._plan
        for slot in slots:
            if not (
                0 <= slot.timepoint < plan.timepoints and 0 <= slot.position < len(plan.positions)
            ):
                raise DriverError(f"{slot} is not in the plan", "arm only with slots of the plan")
        self._first_slot = self._first_slot or slots[0]
        self._burst = chain.from_iterable(map(plan.frame_keys, tuple(slots)))
        self._next = next(self._burst)
        self._slot = self._focus = None
        self._stopping = False
        self._image_number = 0
        self._lamp.switch(True)
        self._clock.start()

    def next_frame(self, destination: Destination) -> Arrived | Lost | None:
        """Expose the next frame of the burst, or lose it."""
        self._check_there()
        key = self._next
        burst = self._burst
        if key is None or burst is None or (self._stopping and key.slot != self._slot):
            self._end_burst()
            return None
        self._check_light()
        self._slot = key.slot
        self._mishap(key)
        reason = self._faults.lost(key)
        if reason == MissingReason.OVERFLOW:
            return self._overflow()
        period_s = self._plan.channels[key.channel].frame_s(self._readout_s)
        self._settle(key)
        self._next = next(burst, None)
        image_number, self._image_number = self._image_number, self._image_number + 1
        if reason is not None:
            self._clock.skip(period_s)
            return Lost((key,), reason)
        began = time.perf_counter()
        counts = self.instrument.frame(key)
        exposed = self._clock.deliver(period_s, time.perf_counter() - began)
        self._check_light()  # another thread may have turned it off during the exposure
        np.copyto(destination(key), counts)
        return Arrived(
            key,
            image_number,
            time_utc=time.time() - (time.monotonic() - exposed),
            time_monotonic=exposed,
            focus_um=self.instrument.focus_um(key),
            led=self.instrument.lit_channel(key),
            buffer_fill=self._clock.buffer_fill,
        )

    def stop_burst(self) -> None:
        """End the burst after the slot being exposed; at once between two slots."""
        self._stopping = True

    def light_off(self) -> None:
        """Turn the light off; in a burst this ends it."""
        self._lamp.switch(False)

    def make_safe(self) -> None:
        """Turn off a light that another process left on. Needs no optics, so no torch: it is quick."""
        self._lamp.switch(False)

    def close(self) -> None:
        """Light off, whatever the state; a wait for the next frame ends."""
        try:
            self.light_off()
        finally:
            self._clock.stop_waiting()
            self._end_burst()
            self._open = False

    def known_calibration(self) -> Calibration:
        """The true calibration; needs no open()."""
        return self.instrument.calibration()

    def messages(self) -> list[str]:
        """What the user should hear of since the last call."""
        complaint = self._clock.take_complaint()
        messages = self._messages + ([complaint] if complaint else [])
        self._messages = []
        return messages

    def _check_there(self) -> None:
        if self._gone is not None:
            raise DeviceDisconnectedError(self._gone, "reconnect it (open again), then `--resume`")

    def _end_burst(self) -> None:
        self._burst = self._next = None

    def _check_light(self) -> None:
        if not self.light_is_on:
            self._end_burst()
            raise DriverError("the light went off during a burst", "arm again to go on")

    def _overflow(self) -> Lost:
        """Everything that the overflow costs, in one piece; it is the burst's end."""
        lost: list[FrameKey] = []
        key = self._next
        while key is not None and self._faults.lost(key) == MissingReason.OVERFLOW:
            lost.append(key)
            key = next(self._burst, None) if self._burst else None
        self._next = None
        return Lost(tuple(lost), MissingReason.OVERFLOW)

    def _mishap(self, key: FrameKey) -> None:
        """Raise what befalls the camera before this frame, if anything."""
        number = frame_number(self._plan, key)
        within = number % self._plan.frames_per_slot
        faults, attempt = self._microscope.faults, self._failed_tries.get(key.slot, 0)
        resumed_here = key.slot == self._first_slot and slot_number(self._plan, key.slot) > 0
        if number in faults.break_at_frame and not resumed_here:
            raise RuntimeError(f"the simulated driver broke before frame {number} {tuple(key)}")
        by_number = number == faults.disconnect_at_frame and not resumed_here
        if by_number or within == self._faults.goes_away_at(key.slot, attempt):
            if not by_number:
                self._failed_tries[key.slot] = attempt + 1
                self._away_for = self._faults.away_for(key.slot, attempt)
            self._gone = f"the simulated camera went away before frame {number} {tuple(key)}"
            self._end_burst()
            self._check_there()
        if within == self._faults.stuck_at(key.slot, attempt):
            self._failed_tries[key.slot] = attempt + 1
            if self._microscope.paced:
                self._clock.pause(faults.stall_s)
            self._end_burst()
            raise CameraTimeoutError(
                f"the simulated camera is stuck before frame {number} {tuple(key)}",
                "check the camera and its trigger, then `--resume`",
            )

    def _settle(self, key: FrameKey) -> None:
        """Wait for what is slow before this frame: the lens, and a camera that stalls."""
        faults = self._microscope.faults
        if key.focus != self._focus:
            self._clock.pause(faults.slow_lens_ms / 1e3)
            self._focus = key.focus
        if faults.stall_at_frame == frame_number(self._plan, key):
            self._clock.pause(faults.stall_s)
        self._check_light()

    def _brightness_warnings(self) -> list[str]:
        calibration, camera = self.instrument.calibration(), self._microscope.camera
        top = 2**camera.bit_depth - 1
        warnings = []
        for channel in self._plan.channels:
            if not self.instrument.is_brightfield(channel.name):
                continue
            counts = float(calibration.flat[channel.name].max()) + camera.offset_counts
            if counts > _TOO_BRIGHT * top:
                warnings.append(
                    f"the background of channel '{channel.name}' is {counts:.0f} counts of a camera "
                    f"that ends at {top}: lower its exposure_ms or brightness, or raise "
                    "camera.gain_e_per_count"
                )
        return warnings


def _clock(experiment: Experiment) -> CameraClock:
    """Of the simulated camera."""
    plan, microscope = experiment.plan(), experiment.microscope
    assert microscope.driver == "simulator"
    per_timepoint = plan.frames_per_slot * len(plan.positions)
    return CameraClock(microscope.paced, plan.interval_s / per_timepoint)
