"""Which frames a faulty camera loses: pure functions of the frame, so a resumed run loses the same."""

from __future__ import annotations

from drivers.simulator.chance import Stream, generator
from drivers.simulator.order import frame_number
from pipeline.experiment import SimulatorMicroscope
from pipeline.frames import FrameKey, MissingReason, Plan


class FaultPlan:
    """The faults of `microscope.faults`, applied to a plan.

    An overflow loses the rest of its slot and all of the next one in the order of acquisition,
    whether both are in one burst or a restart lies between them. A camera that is lost in a slot
    can't overflow in it again.
    """

    def __init__(self, microscope: SimulatorMicroscope, plan: Plan) -> None:
        self._faults = microscope.faults
        self._seed = microscope.seed
        self._plan = plan
        self._dropped = frozenset(self._faults.drop_frames)
        # First lost frame of each slot that overflows, by slot number.
        self._overflow: dict[int, int] = {}
        for frame in sorted(self._faults.overflow_at_frame):
            slot = frame // plan.frames_per_slot
            if slot - 1 not in self._overflow:
                self._overflow.setdefault(slot, frame)

    def lost(self, key: FrameKey) -> MissingReason | None:
        """Why the camera never delivers this frame; None if it does."""
        number = frame_number(self._plan, key)
        slot = number // self._plan.frames_per_slot
        if slot - 1 in self._overflow or number >= self._overflow.get(slot, number + 1):
            return MissingReason.OVERFLOW
        if number in self._dropped:
            return MissingReason.DROPPED
        share = self._faults.drop_share
        if share and generator(self._seed, Stream.DROPS, *key).random() < share:
            return MissingReason.DROPPED
        return None
