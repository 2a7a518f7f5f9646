"""Short series through focus between timepoints: frames beside the plan, for controllers to look at.

They go to a scratch file, never into the ring: no planned frame can be taken for one, or one for a planned frame.
Their light is counted before they are taken. Whatever goes wrong with a probe costs the probe only.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

import numpy as np

from drivers.driver import Arrived, Driver
from pipeline.control import Command, StageControl
from pipeline.errors import DriverError
from pipeline.experiment import Experiment
from pipeline.experiment.probing import probe_experiment
from pipeline.frames import SlotKey
from pipeline.stages.context import StageReporter
from pipeline.stages.dose import DoseMeter, UnstoredLight, frame_light_s
from pipeline.stages.light import LightGuard
from pipeline.store.steering_file import SteeringFile
from pipeline.telemetry import StageWriter

log = logging.getLogger("livephase")

# The middle of a field is enough to find its focus, and written in milliseconds.
_MOST_PX = 512


def probe_file(run: Path, timepoint: int) -> Path:
    """Where the frames ``[K, Y, X]`` of a timepoint's probe lie while it is the newest."""
    return run / "scratch" / f"probe-{timepoint}.npy"


class FocusProber:
    """Takes the probes of one session, where the experiment asks for any."""

    def __init__(
        self,
        experiment: Experiment,
        driver: Driver,
        light: LightGuard,
        control: StageControl,
        counters: StageWriter,
        reporter: StageReporter,
        dose: DoseMeter,
        unstored: UnstoredLight,
        steering: SteeringFile,
    ) -> None:
        self._experiment = experiment
        self._plan = experiment.plan()
        self._driver = driver
        self._light = light
        self._control = control
        self._counters = counters
        self._reporter = reporter
        self._dose = dose
        self._unstored = unstored
        self._steering = steering
        self._run = steering.path.parent
        self._said_no_light = False
        self._newest: Path | None = None
        self._done: SlotKey | None = None
        probe = experiment.control.probe
        self._every = 0 if probe is None else probe.every
        self._probe = experiment if probe is None else probe_experiment(experiment, probe)

    def is_due(self, slot: SlotKey) -> bool:
        """Whether a probe comes before this slot: it depends on the plan alone."""
        return (
            self._every > 0
            and slot.timepoint % self._every == 0
            and self._plan.begins_timepoint(slot)
            and slot != self._done
        )

    def take(self, slot: SlotKey) -> bool:
        """Take a probe before a slot; whether it is there to be looked at. The light is off afterwards.

        Raises
        ------
        DriverError
            If the devices do not come back to the plan.
        StoreError
            If the light that it costs can't be written down.
        """
        self._done = slot
        plan = self._probe.plan()
        light_s = float(frame_light_s(plan).sum())
        left = self._plan.timepoints - slot.timepoint
        if not self._dose.can_spare(slot.position, light_s, left):
            if not self._said_no_light:
                self._said_no_light = True
                self._reporter.message(
                    "no more probes of the focus: the light that is allowed is kept for the plan "
                    "(safety.dose_limit_s)"
                )
            return False
        self._steering.add_probe(slot, plan.frames_per_slot, light_s)
        self._unstored.add([slot], light_s, "focus probe")
        self._dose.spend_beside(slot.position, light_s)
        frames = np.zeros(plan.slot_shape, plan.dtype)
        complete = False
        try:
            self._driver.reprogram(self._probe)
            complete = self._expose(slot, frames)
        except DriverError as error:
            log.warning("no probe", extra={"key": tuple(slot), "error": str(error)})
        finally:
            try:
                self._light.off()
            finally:
                self._driver.reprogram(self._experiment)
        self._counters.add("probe_frames", plan.frames_per_slot)
        if complete:
            self._keep(slot, frames)
        return complete

    def _expose(self, slot: SlotKey, frames: np.ndarray) -> bool:
        """Fill ``[K, Y, X]``; whether every frame came."""
        plan = self._probe.plan()
        if self._control.command != Command.RUN or not self._light.arm([slot]):
            return False
        arrived = 0
        while True:
            event = self._driver.next_frame(lambda key: frames[plan.index(key)])
            self._control.beat()
            if event is None:
                return arrived == plan.frames_per_slot
            arrived += isinstance(event, Arrived)

    def _keep(self, slot: SlotKey, frames: np.ndarray) -> None:
        """Leave the middle of the frames for whoever looks at them."""
        y, x = ((n - min(n, _MOST_PX)) // 2 for n in frames.shape[1:])
        middle = frames[:, y : y + _MOST_PX, x : x + _MOST_PX]
        path = probe_file(self._run, slot.timepoint)
        written = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            path.parent.mkdir(exist_ok=True)
            with written.open("wb") as file:
                np.save(file, middle)
            written.replace(path)
        except OSError as error:
            # A full disk is the recorder's to tell.
            log.warning("a probe could not be kept", extra={"error": str(error)})
            return
        self._control.say_probed(slot.timepoint)
        if self._newest is not None and self._newest != path:
            with suppress(OSError):
                self._newest.unlink()
        self._newest = path

    def close(self) -> None:
        """At the session's end nobody looks any more."""
        if self._newest is not None:
            with suppress(OSError):
                self._newest.unlink()
