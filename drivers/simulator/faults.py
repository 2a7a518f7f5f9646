"""What a faulty camera does: pure functions of the frame, or of the slot and the try, so any run is repeatable."""

from __future__ import annotations

from drivers.simulator.chance import Stream, generator
from drivers.simulator.order import frame_number, slot_number
from pipeline.experiment import SimulatorMicroscope
from pipeline.frames import FrameKey, MissingReason, Plan, SlotKey


class FaultPlan:
    """The faults of `microscope.faults`, applied to a plan.

    An overflow loses the rest of its slot and all of the next one in the order of acquisition,
    whether both are in one burst or a restart lies between them. A camera that is lost in a slot
    can't overflow in it again, and in a slot of which an overflow costs anything it neither gets stuck nor goes away.
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

    def stuck_at(self, slot: SlotKey, attempt: int) -> int | None:
        """Which exposure of the slot (from 0) never comes, in this try (from 0) of it; None: all of them do."""
        return self._mishap(Stream.STUCK, self._faults.stuck_share, slot, attempt)

    def goes_away_at(self, slot: SlotKey, attempt: int) -> int | None:
        """Before which exposure of the slot (from 0) the camera goes away, in this try (from 0) of it."""
        return self._mishap(Stream.AWAY, self._faults.disconnect_share, slot, attempt)

    def away_for(self, slot: SlotKey, attempt: int) -> int:
        """How often a camera that went away in this try of the slot is in vain opened again."""
        chance = generator(self._seed, Stream.AWAY_FOR, *slot, attempt)
        return int(chance.integers(0, self._faults.away_tries + 1))

    def _mishap(self, stream: Stream, share: float, slot: SlotKey, attempt: int) -> int | None:
        number = slot_number(self._plan, slot)
        if not share or number in self._overflow or number - 1 in self._overflow:
            return None
        chance = generator(self._seed, stream, *slot, attempt)
        if chance.random() >= share:
            return None
        return int(chance.integers(0, self._plan.frames_per_slot))
