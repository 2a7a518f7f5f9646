"""Frames without a run: what snapshots, previews and calibration take from an open driver."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from drivers.driver import Arrived, CameraInfo, Driver
from drivers.registry import open_driver
from pipeline.errors import DriverError
from pipeline.experiment import Experiment
from pipeline.frames import FrameKey, FrameStatus, Plan, SlotKey, empty_records


class Taken(NamedTuple):
    """Every frame of a plan.

    `frames` ``[T, P, C, Z, Y, X]`` raw counts, `records` ``[T, P, C, Z]`` of `FRAME_RECORD`.
    A frame that was lost is zero and MISSING in its record.
    """

    frames: NDArray[np.unsignedinteger]
    records: NDArray[np.void]


class Microscope:
    """An open microscope that takes shots; the light is off between them.

    Parameters
    ----------
    experiment
        Says which microscope; each shot brings a plan of its own.

    Raises
    ------
    LivephaseError
        If the microscope can't be reached.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.driver: Driver = open_driver(experiment)
        self.driver.preflight()
        self._experiment = experiment
        try:
            self.camera: CameraInfo = self.driver.open()
        except BaseException:
            self.driver.close()
            raise

    def take(self, experiment: Experiment) -> Taken:
        """Take all frames of an experiment's plan, in its order, as fast as the devices go.

        Raises
        ------
        DriverError
            If the devices fail, or if no frame arrives at all.
        """
        plan = experiment.plan()
        taken = _nothing_yet(
            (plan.timepoints, len(plan.positions), len(plan.channels), len(plan.foci_um)), plan
        )
        self._fill(experiment, list(plan.slot_keys()), taken, lambda key: key)
        return taken

    def take_slot(self, experiment: Experiment, slot: SlotKey) -> Taken:
        """Take one timepoint and position of an experiment's plan: frames ``[C, Z, Y, X]``, records ``[C, Z]``.

        Raises
        ------
        DriverError
            As `take`.
        """
        plan = experiment.plan()
        taken = _nothing_yet((len(plan.channels), len(plan.foci_um)), plan)
        self._fill(experiment, [slot], taken, lambda key: (key.channel, key.focus))
        return taken

    def _fill(
        self,
        experiment: Experiment,
        todo: list[SlotKey],
        taken: Taken,
        place: Callable[[FrameKey], tuple[int, ...]],
    ) -> None:
        """Take the slots `todo`; `place` says where in `taken` a frame belongs."""
        if experiment != self._experiment:
            self.driver.reprogram(experiment)
            self._experiment = experiment
        frames, records = taken

        def destination(key: FrameKey) -> NDArray[np.unsignedinteger]:
            pixels: NDArray[np.unsignedinteger] = frames[place(key)]
            return pixels

        try:
            while todo:
                self.driver.arm(todo)
                done = 0
                while (event := self.driver.next_frame(destination)) is not None:
                    keys = (event.key,) if isinstance(event, Arrived) else event.keys
                    if isinstance(event, Arrived):
                        row = records[place(event.key)]
                        for name in (
                            "image_number",
                            "time_utc",
                            "time_monotonic",
                            "focus_um",
                            "led",
                        ):
                            row[name] = getattr(event, name)
                        row["status"] = FrameStatus.WRITTEN
                    done = max(done, *(todo.index(key.slot) for key in keys))
                # A burst that an overflow ended early goes on behind the slot that it reached.
                todo = todo[done + 1 :]
        finally:
            self.driver.light_off()
        if not (records["status"] == FrameStatus.WRITTEN).any():
            raise DriverError(
                "the camera gave no frame",
                "check the camera and its trigger; `livephase devices` lists both",
            )

    def close(self) -> None:
        """Light off, devices let go. Safe to call again."""
        self.driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def whole_slot(taken: Taken) -> NDArray[np.unsignedinteger]:
    """Frames ``[K, Y, X]`` of `Microscope.take_slot`, where none is missing.

    Raises
    ------
    DriverError
        If one is: it would be taken for a black one.
    """
    missing = int((taken.records["status"] != FrameStatus.WRITTEN).sum())
    if missing:
        raise DriverError(
            f"{missing} of {taken.records.size} frames are missing",
            "take them again, or use another recording",
        )
    return taken.frames.reshape(-1, *taken.frames.shape[-2:])


def _nothing_yet(axes: tuple[int, ...], plan: Plan) -> Taken:
    """Room for the frames of these axes, all of them missing so far."""
    records = empty_records(int(np.prod(axes))).reshape(axes)
    records["status"] = FrameStatus.MISSING
    return Taken(np.zeros((*axes, *plan.frame_shape), plan.dtype), records)
