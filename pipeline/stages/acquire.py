"""The acquire stage: from the driver into the ring, and the light off at the end.

Bursts span as many slots as they can: all of them where the interval is zero,
those of one timepoint otherwise. A pause or stop ends the burst after the slot
being exposed; an overflow ends it early, and the next slot begins a new one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from drivers.driver import Arrived, CameraInfo, Driver
from drivers.registry import open_driver
from pipeline.control import Command, Control, StageControl, StageState
from pipeline.errors import DriverError
from pipeline.experiment import Experiment
from pipeline.frames import FrameStatus, MissingReason, Plan, SlotKey
from pipeline.ring import Ring, WritableSlot
from pipeline.stages.assembly import SlotAssembler
from pipeline.stages.context import StageContext, StageReporter, stage_life
from pipeline.stages.light import LightGuard
from pipeline.stages.orphan import watch_parent
from pipeline.telemetry import StageWriter, Telemetry

log = logging.getLogger("livephase")

# How often a waiting stage looks at its orders: a pause is felt at once, an idle core stays idle.
_LOOK_S = 0.02
# A burst that ends without a single slot is armed again this often before the run fails.
_ARM_ATTEMPTS = 3
_ENDING = (Command.STOP, Command.LEAVE_BACKLOG, Command.ABORT)


class _OrderedAtFullRing(Exception):  # noqa: N818 - not an error: a way out of the driver's call
    """An order came while the ring was full: the slot that could not begin is left for later."""


@dataclass(frozen=True)
class Burst:
    """Slots taken in one go. `due_s` counts from the start of its `series`."""

    series: int
    due_s: float
    slots: tuple[SlotKey, ...]


def bursts(plan: Plan, todo: Sequence[SlotKey]) -> Iterator[Burst]:
    """Cut the slots to take into bursts, in order."""
    if plan.interval_s == 0:
        if todo:
            yield Burst(0, 0.0, tuple(todo))
        return
    # Positions one after the other: each has a time series, and a clock, of its own.
    one_series = plan.slot_order == "tp"
    for (series, timepoint), slots in groupby(
        todo, key=lambda s: (0 if one_series else s.position, s.timepoint)
    ):
        yield Burst(series, timepoint * plan.interval_s, tuple(slots))


class Acquisition:
    """One session of frames: the loop of the acquire stage, free of process matters."""

    def __init__(
        self,
        experiment: Experiment,
        driver: Driver,
        light: LightGuard,
        ring: Ring,
        control: StageControl,
        counters: StageWriter,
        reporter: StageReporter,
    ) -> None:
        self._experiment = experiment
        self._plan = experiment.plan()
        self._driver = driver
        self._light = light
        self._ring = ring
        self._control = control
        self._counters = counters
        self._reporter = reporter
        self._assembler = SlotAssembler(self._plan, self._begin, self._published)
        self._held_s = 0.0
        self._late = False
        microscope = experiment.microscope
        # A simulation that is computed as fast as it can be does not wait for its cells to grow.
        self._keeps_time = microscope.driver != "simulator" or microscope.paced

    def run(self, todo: Sequence[SlotKey]) -> None:
        """Take every slot of `todo`, or as many as the orders allow."""
        self._check(self._driver.open())
        # The first frames must not pay for the ring's page faults.
        self._ring.prefault()
        self._say(StageState.READY)
        while self._ordered() == Command.WAIT:
            self._idle()
        series_start: dict[int, float] = {}
        for burst in bursts(self._plan, todo):
            # A resumed series goes on as if its first slot of today were on time.
            start = series_start.setdefault(
                burst.series, time.monotonic() - self._held_s - burst.due_s
            )
            if not self._wait_until(start, burst.due_s) or not self._take(burst.slots):
                break
            self._light.off()
        self._light.off()
        self._say(StageState.FINISHED)

    def _check(self, camera: CameraInfo) -> None:
        """Refuse a camera that is not the experiment's before anything moves."""
        asked = self._plan.frame_shape, self._plan.bit_depth
        if (camera.frame_shape, camera.bit_depth) != asked:
            raise DriverError(
                f"the camera {camera.name} gives {camera.frame_shape} pixels of {camera.bit_depth} bits, "
                f"the experiment expects {asked[0]} of {asked[1]} bits",
                "set microscope.camera.shape_px and bit_depth to what the camera gives",
            )

    def _take(self, slots: Sequence[SlotKey]) -> bool:
        """Take the slots in one burst, or in several after overflows and pauses. False: the session ends."""
        remaining, fruitless = list(slots), 0
        while remaining:
            if not self._obey():
                return False
            self._say(StageState.RUNNING)
            self._assembler.expect(remaining)
            if not self._light.arm(remaining):
                return False
            undisturbed = self._drain_burst()
            left = self._assembler.remaining
            nothing = undisturbed and len(left) == len(remaining)
            fruitless = fruitless + 1 if nothing else 0
            remaining = left
            if remaining and fruitless == _ARM_ATTEMPTS:
                raise DriverError(
                    f"the camera was armed {_ARM_ATTEMPTS} times at {remaining[0]} and gave no frame",
                    "check the camera and its trigger, then `--resume`",
                )
        return True

    def _drain_burst(self) -> bool:
        """Take frames until the burst is over; whether it came to its own end, without an order."""
        stopping = False
        while True:
            if not stopping and self._ordered() != Command.RUN:
                self._driver.stop_burst()
                stopping = True
            try:
                event = self._driver.next_frame(self._assembler.destination)
            except _OrderedAtFullRing:
                self._assembler.discard()
                self._light.off()
                return False
            except DriverError:
                # What was complete is in the ring; the torn slot is taken again on resume.
                self._assembler.discard()
                if self._light.forbidden:
                    return False  # the driver complains of the dark, which was ordered
                raise
            self._control.beat()
            for message in self._driver.messages():
                self._counters.add("driver_messages", 1)
                self._reporter.message(message)
            if event is None:
                # What the driver neither delivered nor reported lost when its burst ended.
                self._assembler.close(MissingReason.DROPPED)
                return not stopping
            if isinstance(event, Arrived):
                self._counters.add("frames_acquired", 1)
                self._counters.set("camera_buffer_fill", event.buffer_fill)
                self._assembler.arrived(event)
            else:
                log.warning(
                    "frames lost",
                    extra={
                        "reason": event.reason.name.lower(),
                        "keys": [tuple(k) for k in event.keys],
                    },
                )
                self._assembler.lost(event)

    def _begin(self, key: SlotKey) -> WritableSlot:
        waited = False
        while True:
            slot = self._ring.begin(key, timeout_s=_LOOK_S)
            if slot is not None:
                return slot
            self._control.beat()
            if self._ordered() != Command.RUN or self._control.recording == StageState.GONE:
                raise _OrderedAtFullRing
            if not waited:
                waited = True
                self._counters.add("ring_full_waits", 1)
                self._reporter.message(
                    "the ring is full: storage is slower than the camera, its own buffer fills now"
                )

    def _published(self, records: NDArray[np.void]) -> None:
        self._counters.add("slots_published", 1)
        for reason in records["reason"][records["status"] == FrameStatus.MISSING]:
            self._counters.add(f"frames_missing_{MissingReason(reason).name.lower()}", 1)
        self._counters.set("ring_fill", self._ring.fill)

    def _wait_until(self, start: float, due_s: float) -> bool:
        """Wait for a burst's time, the clock held while paused. False: the session ends."""
        while True:
            if not self._obey():
                return False
            left = start + due_s + self._held_s - time.monotonic()
            if left <= 0 or not self._keeps_time:
                self._say_if_late(-left)
                return True
            self._idle(left)

    def _say_if_late(self, late_s: float) -> None:
        """Say once when timepoints come later than planned, and again after they were on time."""
        late = self._keeps_time and late_s > self._plan.interval_s > 0
        if late and not self._late:
            self._reporter.message(
                f"timepoints are {late_s:.1f} s late: the interval is shorter than a timepoint takes"
            )
        self._late = late

    def _obey(self) -> bool:
        """Hold while paused, in the dark. False: stop, leave or abort was ordered."""
        if self._ordered() == Command.PAUSE:
            self._light.off()
            self._say(StageState.PAUSED)
            log.info("paused")
            began = time.monotonic()
            while self._ordered() == Command.PAUSE:
                self._idle()
            self._held_s += time.monotonic() - began
            log.info("resumed", extra={"held_s": round(self._held_s, 3)})
            self._say(StageState.RUNNING)
        return self._ordered() not in _ENDING

    def _ordered(self) -> Command:
        return self._control.command

    def _idle(self, at_most_s: float = _LOOK_S) -> None:
        self._control.beat()
        time.sleep(min(at_most_s, _LOOK_S))

    def _say(self, state: StageState) -> None:
        self._control.say(state)


def acquire(context: StageContext, reporter: StageReporter) -> None:
    """Entry point of the process."""
    with stage_life(context, reporter) as stack:
        driver = open_driver(context.experiment)
        ring = stack.enter_context(Ring.attach(context.ring))
        control = stack.enter_context(Control.attach(context.control)).stage(context.index)
        telemetry = stack.enter_context(Telemetry.attach(context.telemetry))
        counters = telemetry.writer(context.stage)
        light = LightGuard(driver, counters)
        watch_parent(light.off_for_good)
        light.watch_for_abort(control)
        stack.callback(light.end_watch)
        # Undone in reverse: the driver is closed, which puts the light out, and then it is said to be out.
        stack.callback(counters.set, "light_on", 0)
        stack.callback(driver.close)
        Acquisition(context.experiment, driver, light, ring, control, counters, reporter).run(
            context.todo
        )
