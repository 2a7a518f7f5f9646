"""The acquire stage's loop in the test's own process: no recorder, no supervisor, nothing to wait for."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from drivers.registry import open_driver
from pipeline.control import ACQUIRE, Command, Control
from pipeline.experiment import Experiment
from pipeline.frames import FRAME_RECORD
from pipeline.ring import Ring
from pipeline.stages.acquisition import Acquisition
from pipeline.stages.dose import DoseMeter, UnstoredLight
from pipeline.stages.light import LightGuard
from pipeline.stages.light_mark import LightMark
from pipeline.store.steering_file import SteeringFile
from pipeline.telemetry import Telemetry


class Acquired:
    """A session of frames and what came of it.

    Parameters
    ----------
    folder
        Where a run's folder would be.
    slots
        Of the ring; all of the plan's where None, so that nobody has to empty it.
    """

    def __init__(self, experiment: Experiment, folder: Path, slots: int | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.experiment = experiment
        self.plan = experiment.plan()
        self.folder = folder
        self.messages: list[str] = []
        self._memory = ExitStack()
        name = f"lp-test-{secrets.token_hex(4)}"
        self.ring = self._shared(Ring.create(name, self.plan, slots or self.plan.slots))
        self.control = self._shared(Control.create(f"{name}-c"))
        self.telemetry = self._shared(Telemetry.create(f"{name}-t"))
        self.mark = LightMark(folder)
        self.unstored = UnstoredLight(folder)
        self.dose = DoseMeter(self.plan, experiment.safety.dose_limit_s)
        shape = (self.plan.timepoints, len(self.plan.positions), self.plan.frames_per_slot)
        self.records = np.zeros(shape, FRAME_RECORD)
        """``[T, P, K]``, zeros where nothing was handed over."""

    def _shared(self, block):
        self._memory.callback(block.close)
        self._memory.callback(block.unlink)
        return block

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._memory.close()

    def message(self, text: str) -> None:
        """As a stage's reporter has it."""
        self.messages.append(text)

    def run(self, driver=None) -> Acquired:
        """Take every slot of the plan."""
        counters = self.telemetry.writer("acquire")
        light = LightGuard(driver or open_driver(self.experiment), counters, self.mark)
        self.control.order(Command.RUN)
        try:
            Acquisition(
                self.experiment,
                light._driver,
                light,
                self.ring,
                self.control.stage(ACQUIRE),
                counters,
                self,
                self.dose,
                self.unstored,
                SteeringFile(self.folder),
            ).run(tuple(self.plan.slot_keys()))
        finally:
            light.close()
        self.record()
        return self

    def record(self) -> None:
        """Take what was handed over out of the ring, as a recorder does."""
        head = self.ring.head
        for sequence in range(self.ring.tail, head):
            slot = self.ring.take(sequence)
            assert not self.records[slot.key]["status"].any(), f"{slot.key} was handed over twice"
            self.records[slot.key] = slot.records
        self.ring.free(head)

    @property
    def light_on_s(self) -> float:
        """How long it was lit."""
        return self.telemetry.value("light_seconds")

    @property
    def reacquired(self) -> int:
        """Frames that were delivered and taken again."""
        return self.telemetry.total("frames_reacquired")
