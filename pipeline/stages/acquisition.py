"""One session of frames: from the driver into the ring, and the light off in between and at the end.

Bursts span as many slots as they can: all of them where the interval is zero,
those of one timepoint otherwise. A pause or stop ends the burst after the slot
being exposed; an overflow ends it early, and the next slot begins a new one. What people and controllers
ask for (`Helm`), and probes of the focus (`FocusProber`), come between two timepoints.

A slot in which the camera gets stuck is taken again, so often, and then left behind; devices
that go away are opened again, for so long (`recovery:` in the experiment). Whatever happens,
every planned frame is published once, written or missing with its reason.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.driver import (
    Arrived,
    CameraInfo,
    CameraTimeoutError,
    DeviceDisconnectedError,
    Driver,
)
from pipeline.control import Command, StageControl, StageState
from pipeline.errors import DriverError
from pipeline.experiment import Experiment
from pipeline.frames import FrameStatus, MissingReason, SlotKey, empty_records
from pipeline.ring import Ring, WritableSlot
from pipeline.stages.assembly import AccountError, SlotAssembler
from pipeline.stages.bursts import bursts
from pipeline.stages.clock import Clock, FastForward, clock_for
from pipeline.stages.context import StageReporter
from pipeline.stages.dose import DoseMeter, UnstoredLight, exposed
from pipeline.stages.helm import Helm
from pipeline.stages.light import LightGuard
from pipeline.stages.probe import FocusProber
from pipeline.stages.recovery import Outage, Tries
from pipeline.store.steering_file import SteeringFile
from pipeline.telemetry import StageWriter

log = logging.getLogger("livephase")

# How often a waiting stage looks at its orders: a pause is felt at once, an idle core stays idle.
_LOOK_S = 0.02
_ENDING = (Command.STOP, Command.LEAVE_BACKLOG, Command.ABORT)
# A ring that takes nothing for so long is not slow storage but a disk, or a recorder, that hangs.
_FULL_RING_S = 5.0
# A simulation in fast-forward gives its controllers as long as they would have had in life: more or less.
_CONTROLLERS_S = 15.0


class _NoRoom(Exception):  # noqa: N818 - not an error: a way out of the driver's call
    """The ring is full, and an order came or it stayed so: the slot that could not begin is left for later."""


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
        dose: DoseMeter,
        unstored: UnstoredLight,
        steering: SteeringFile,
        clock: Clock | None = None,
    ) -> None:
        self._experiment = experiment
        self._plan = experiment.plan()
        self._driver = driver
        self._light = light
        self._ring = ring
        self._control = control
        self._counters = counters
        self._reporter = reporter
        self._dose = dose
        self._unstored = unstored
        self._clock = clock or clock_for(experiment)
        self._helm = Helm(self._plan, driver, control, steering, reporter.message)
        self._prober = FocusProber(
            experiment, driver, light, control, counters, reporter, dose, unstored, steering
        )
        self._assembler = SlotAssembler(self._plan, self._begin, self._published)
        self._tries = Tries(experiment.recovery)
        self._outage: Outage | None = None
        # When devices went away the last time, and from when to when the last time that is over: see `_time`.
        self._went_away = 0.0
        self._away = (0.0, 0.0)
        self._worked = False  # whether any frame was published in this session
        self._exposing = False  # whether a burst is under way, its next slot being exposed
        self._without_light: set[int] = set()  # positions that have had all of theirs
        self._held_s = 0.0
        self._late = False
        self._start = 0.0  # of the series, by `_time`
        self._whole = (
            0  # the newest timepoint of this session of which no frame is missing, and one
        )

    def run(self, todo: Sequence[SlotKey]) -> None:
        """Take every slot of `todo`, or as many as the orders allow."""
        self._check(self._driver.open())
        # Another run, or another program, may have left it on.
        self._light.off()
        self._helm.begin(todo)
        # The first frames must not pay for the ring's page faults.
        self._ring.prefault()
        self._say(StageState.READY)
        while self._ordered() == Command.WAIT:
            self._idle()
        series_start: dict[int, float] = {}
        for burst in bursts(self._plan, todo, self._timepoints_in_a_burst()):
            # A resumed series goes on as if its first slot of today were on time.
            due_s = self._helm.course.due_s(burst.slots[0].timepoint)
            self._start = series_start.setdefault(burst.series, self._time() - due_s)
            if not self._take_in_time(burst.slots):
                break
        self._prober.close()
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

    def _take_in_time(self, slots: Sequence[SlotKey]) -> bool:
        """Take slots once they are due, unless that was while devices were away. False: the session ends."""
        self._assembler.expect(slots)
        began, back = self._away
        interval_s = self._helm.course.last.interval_s
        if self._plan.interval_s > 0 and began <= self._due(slots[0]) < back - interval_s:
            self._leave_behind()
        elif not (self._look_through(slots[0]) and self._wait_for(slots[0])):
            return False
        return self._take()

    def _timepoints_in_a_burst(self) -> int:
        """Most of them, where there is no interval: probes come between, and simulated controllers. 0: all."""
        control = self._experiment.control
        if control.controllers and isinstance(self._clock, FastForward):
            return 1
        return control.probe.every if control.probe else 0

    def _due(self, slot: SlotKey) -> float:
        """When a slot's timepoint is due, by `_time`. Moves when the interval is changed."""
        return self._start + self._helm.course.due_s(slot.timepoint)

    def _look_through(self, slot: SlotKey) -> bool:
        """Probe the focus before this slot, if it is time. False: the session ends."""
        if not self._prober.is_due(slot):
            return True
        began = self._time()
        if not self._obey():
            return False
        try:
            probed = self._prober.take(slot)
        except DriverError as error:
            return self._recover(error, began)
        return self._wait_for_decisions(slot.timepoint + 1 if probed else 0)

    def _wait_for_decisions(self, probes: int = 0) -> bool:
        """In fast-forward: let controllers finish with the last timepoint, and with so many timepoints' probes.

        In life nobody waits for a controller. False: the session ends.
        """
        if not (self._experiment.control.controllers and isinstance(self._clock, FastForward)):
            return True
        patience = time.monotonic() + _CONTROLLERS_S
        while time.monotonic() < patience:
            decided = self._control.decided()
            if decided[0] >= self._whole and decided[1] >= probes:
                break
            if not self._obey():
                return False
            self._idle()
        return True

    def _take(self) -> bool:
        """Take the expected slots in one burst, or in several after overflows, pauses and failures.

        False: the session ends.
        """
        began = self._time()
        while self._assembler.remaining:
            if not self._obey():
                return False
            if not self._wait_for_room():
                return False
            self._spare_the_exhausted()
            try:
                self._assembler.pass_over()
            except _NoRoom:
                continue
            slots = self._assembler.to_expose
            if not slots:
                break
            slots = self._up_to_a_turn(slots)
            self._say(StageState.RUNNING)
            try:
                if not self._burst(slots):
                    return False
            except DriverError as error:
                if not self._recover(error, began):
                    return False
        return True

    def _up_to_a_turn(self, slots: list[SlotKey]) -> list[SlotKey]:
        """Deal with what was asked, if a timepoint begins here; the slots to take before that can be done."""
        if not self._helm.pending:
            return slots
        if not self._plan.begins_timepoint(slots[0]):
            return [slot for slot in slots if slot.timepoint == slots[0].timepoint]
        self._helm.turn(slots[0], self._time() - self._start)
        return slots

    def _burst(self, slots: Sequence[SlotKey]) -> bool:
        """One burst, over these slots or as many of them as it lasts for. False: the light went off for good."""
        # Said first: were this process killed while it arms, the slot has to be taken for exposed.
        self._say_exposing(True)
        armed = False
        try:
            armed = self._light.arm(slots)
        finally:
            if not armed:
                self._say_exposing(False)
        if not armed:
            return False
        undisturbed = self._drain_burst(spans=slots[0].timepoint != slots[-1].timepoint)
        if self._experiment.safety.dark_after_s == 0:
            self._light.off()
        if undisturbed and self._assembler.to_expose[:1] == slots[:1]:
            raise CameraTimeoutError(
                f"the camera was armed at {slots[0]} and gave no frame",
                "check the camera and its trigger, then `--resume`",
            )
        self._say_exposing(False)
        return True

    def _drain_burst(self, spans: bool) -> bool:
        """Take frames until the burst is over; whether it came to its own end, without an order.

        One that `spans` timepoints is ended for what was asked meanwhile.
        """
        stopping = False
        while True:
            if not stopping and (self._ordered() != Command.RUN or (spans and self._helm.pending)):
                self._driver.stop_burst()
                stopping = True
            try:
                event = self._driver.next_frame(self._assembler.destination)
            except _NoRoom:
                # The frame that found no room is taken again.
                self._discard("the ring was full")
                self._light.off()
                return False
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

    def _recover(self, error: DriverError, began: float) -> bool:
        """Go on after a failure of the devices, in a timepoint that began then. False: the session ends.

        Raises
        ------
        DriverError
            What can't be mended, or was not within the time that `recovery` allows.
        """
        if self._light.forbidden:
            self._discard("aborted")
            return False  # the driver complains of the dark, which was ordered
        if isinstance(error, CameraTimeoutError):
            return self._try_again(error, began)
        # Devices that never worked in this session are not away but wrong, and somebody is there to hear of it.
        went_away = isinstance(error, DeviceDisconnectedError) or self._worked
        if isinstance(error, AccountError) or not (went_away and self._driver.can_come_back):
            self._discard("failed")
            raise error
        return self._reconnect(error, began)

    def _try_again(self, error: DriverError, began: float) -> bool:
        """The camera is stuck: the slot is taken again, or left behind with what came of it."""
        try:
            self._light.off()
        except DriverError as gone:
            return self._reconnect(gone, began)
        if not self._assembler.to_expose:
            return True  # stuck after the last frame
        slot = self._assembler.to_expose[0]
        log.warning("the camera is stuck", extra={"key": tuple(slot), "error": str(error)})
        if self._tries.another_failed(slot):
            self._discard("timed out")
            return True
        records = self._assembler.open_records
        any_frame = records is not None and bool((records["status"] == FrameStatus.WRITTEN).any())
        self._give_up(slot, MissingReason.TIMEOUT)
        if self._tries.given_up(any_frame):
            return True
        return self._reconnect(error, began)

    def _reconnect(self, error: DriverError, began: float) -> bool:
        """Devices went away: open them again until they are there. False: the session ends meanwhile."""
        if self._experiment.recovery.reconnect_s == 0:
            self._discard("failed")
            raise error
        log.warning("devices went away", extra={"error": str(error)})
        if self._outage is None:
            self._outage = Outage(self._experiment.recovery, self._clock.now())
            self._went_away = self._time()
            self._reporter.message(
                f"{error.cause}: trying to get it back for "
                f"{self._experiment.recovery.reconnect_s:.0f} s"
            )
        while True:
            self._let_go()
            try:
                wait_s = self._outage.next_wait(self._clock.now(), error)
            except DriverError:
                self._discard("failed")
                raise
            if not self._rest(wait_s):
                self._discard("interrupted")
                return False
            try:
                self._check(self._driver.open())
                self._light.off()
                break
            except DriverError as again:
                error = again
        self._reporter.message(
            f"the devices are back after {self._outage.lasted_s(self._clock.now()):.0f} s"
        )
        self._away = self._went_away, self._time()
        if self._plan.interval_s and 0 < self._helm.course.last.interval_s < self._time() - began:
            # Taken now it would be at the wrong time.
            self._leave_behind()
        else:
            self._discard("devices went away")
        return True

    def _let_go(self) -> None:
        """Light off and devices closed, as far as devices that are not all there let us."""
        for act in (self._light.off, self._driver.close):
            try:
                act()
            except DriverError as error:
                log.warning("not done: devices are away", extra={"error": str(error)})

    def _rest(self, seconds: float) -> bool:
        """Let time pass, orders obeyed. False: the session ends."""
        until = self._time() + seconds
        return self._rest_until(lambda: until)

    def _rest_until(self, until: Callable[[], float]) -> bool:
        """Let time pass, orders obeyed, up to a time that may move meanwhile. False: the session ends."""
        while True:
            held = self._held_s
            if not self._obey():
                return False
            if self._outage is not None:
                self._outage.hold(self._held_s - held)
            left = until() - self._time()
            if left <= 0:
                return True
            self._control.beat()
            self._clock.wait(left)

    def _give_up(self, slot: SlotKey, reason: MissingReason) -> None:
        """The slot is published with the frames that came; the others are missing."""
        self._assembler.close(reason)
        if slot in self._assembler.remaining:
            self._assembler.leave_out([slot], reason)
        self._say_exposing(False)

    def _leave_behind(self) -> None:
        """All expected slots are published with the frames that came: their time passed while devices were away."""
        if self._exposing and self._assembler.to_expose:
            self._spend_unstored(self._waited_for(self._records_so_far()), "devices went away")
        self._assembler.close(MissingReason.DISCONNECTED)
        self._assembler.leave_out(self._assembler.remaining, MissingReason.DISCONNECTED)
        self._say_exposing(False)

    def _discard(self, why: str) -> None:
        """Drop the slot being exposed: it will be taken again. Its light is remembered."""
        if self._exposing and self._assembler.to_expose:
            records = self._records_so_far()
            self._spend_unstored(exposed(records) | self._waited_for(records), why)
            arrived = int((records["status"] == FrameStatus.WRITTEN).sum())
            self._counters.add("frames_reacquired", arrived)
        self._say_exposing(False)
        self._assembler.discard()

    def _records_so_far(self) -> NDArray[np.void]:
        """``[K]`` of the slot being exposed."""
        records = self._assembler.open_records
        return empty_records(self._plan.frames_per_slot) if records is None else records

    def _waited_for(self, records: NDArray[np.void]) -> NDArray[np.bool_]:
        """``[K]``, true for the frame that would have come next: it is taken for exposed."""
        waited = np.zeros(len(records), bool)
        for key in self._plan.frame_keys(self._assembler.to_expose[0]):
            k = self._plan.index(key)
            if records["status"][k] == FrameStatus.PENDING:
                waited[k] = True
                break
        return waited

    def _spend_unstored(self, lit: NDArray[np.bool_], why: str) -> None:
        """Remember the light of frames ``[K]`` of the slot being exposed that no ledger will know of."""
        slot = self._assembler.to_expose[0]
        light_s = self._dose.spend(slot, lit)
        if light_s:
            self._unstored.add([slot], light_s, why)

    def _spare_the_exhausted(self) -> None:
        """Leave out the slots of positions that may have no more light."""
        spared = self._dose.too_much(self._assembler.to_expose)
        self._assembler.leave_out(spared, MissingReason.DOSE)
        for position in sorted({slot.position for slot in spared} - self._without_light):
            self._without_light.add(position)
            self._reporter.message(
                f"position '{self._plan.positions[position].name}' has had "
                f"{self._dose.spent_s[position]:.3g} s of light: it gets no more than "
                f"{self._experiment.safety.dose_limit_s:.3g} s (safety.dose_limit_s)"
            )

    def _begin(self, key: SlotKey) -> WritableSlot:
        since = None
        while True:
            slot = self._ring.begin(key, timeout_s=_LOOK_S)
            if slot is not None:
                return slot
            self._control.beat()
            if self._ordered() != Command.RUN or self._control.recording == StageState.GONE:
                raise _NoRoom
            if since is not None and time.monotonic() - since > _FULL_RING_S:
                self._reporter.message(
                    f"storage has taken nothing for {_FULL_RING_S:.0f} s: the light goes off until it does"
                )
                raise _NoRoom
            if since is None:
                since = time.monotonic()
                self._counters.add("ring_full_waits", 1)
                self._reporter.message(
                    "the ring is full: storage is slower than the camera, its own buffer fills now"
                )

    def _wait_for_room(self) -> bool:
        """Wait in the dark while the ring is full. False: the session ends."""
        dark = False
        while self._ring.fill >= 1:
            if not self._obey():
                return False
            dark = dark or self._went_dark()
            self._idle()
        return True

    def _published(self, key: SlotKey, records: NDArray[np.void]) -> None:
        self._counters.add("slots_published", 1)
        self._dose.spend(key, exposed(records))
        self._counters.set("light_dose_seconds", float(self._dose.spent_s.max()))
        if (records["status"] == FrameStatus.WRITTEN).all():
            self._whole = key.timepoint + 1
        if (records["status"] == FrameStatus.WRITTEN).any():
            self._worked, self._outage = True, None
            self._tries.worked()
        for reason in records["reason"][records["status"] == FrameStatus.MISSING]:
            self._counters.add(f"frames_missing_{MissingReason(reason).name.lower()}", 1)
        self._counters.set("ring_fill", self._ring.fill)

    def _wait_for(self, slot: SlotKey) -> bool:
        """Wait for the time of a burst that begins with this slot; pauses hold the clock. False: the session ends."""
        if self._due(slot) - self._time() > self._experiment.safety.dark_after_s:
            try:
                self._light.off()
            except DriverError as error:
                if not self._recover(error, self._due(slot)):
                    return False
        if not self._wait_for_decisions():
            return False

        def due() -> float:
            # A shorter interval is felt at once, not after the long one before.
            if self._helm.pending and self._plan.begins_timepoint(slot):
                self._helm.turn(slot, self._time() - self._start)
            return self._due(slot)

        if not self._rest_until(due):
            return False
        self._say_if_late(self._time() - self._due(slot))
        return True

    def _say_if_late(self, late_s: float) -> None:
        """Say once when timepoints come later than planned, and again after they were on time."""
        late = self._plan.interval_s > 0 and late_s > self._helm.course.last.interval_s
        if late and not self._late:
            self._reporter.message(
                f"timepoints are {late_s:.1f} s late: the interval is shorter than a timepoint takes"
            )
        self._late = late

    def _obey(self) -> bool:
        """Hold while paused, in the dark. False: stop, leave or abort was ordered."""
        if self._ordered() == Command.PAUSE:
            dark = self._outage is not None or self._went_dark()
            self._say(StageState.PAUSED)
            log.info("paused")
            began = self._clock.now()
            while self._ordered() == Command.PAUSE:
                self._idle()
                dark = dark or self._went_dark()
            self._held_s += self._clock.now() - began
            log.info("resumed", extra={"held_s": round(self._held_s, 3)})
            self._say(StageState.RUNNING)
        return self._ordered() not in _ENDING

    def _went_dark(self) -> bool:
        """Turn the light off; whether the driver did so."""
        try:
            self._light.off()
        except DriverError as error:
            # Tried again while the pause lasts; the next burst finds out what is wrong, and mends it.
            log.warning("the light did not go off", extra={"error": str(error)})
            return False
        return True

    def _ordered(self) -> Command:
        return self._control.command

    def _time(self) -> float:
        """By the clock, without the time that it was held."""
        return self._clock.now() - self._held_s

    def _idle(self) -> None:
        self._control.beat()
        time.sleep(_LOOK_S)

    def _say(self, state: StageState) -> None:
        self._control.say(state)

    def _say_exposing(self, exposing: bool) -> None:
        """Also where it can be read after this process was killed."""
        self._exposing = exposing
        self._counters.set("exposing", exposing)
