"""Frames into slots: each planned frame has exactly one fate, whatever the driver does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.driver import Arrived, Lost
from pipeline.errors import DriverError
from pipeline.frames import (
    FrameKey,
    FrameStatus,
    MissingReason,
    Plan,
    PlannedChannel,
    Position,
    SlotKey,
    empty_records,
)
from pipeline.stages.assembly import SlotAssembler

PLAN = Plan(
    3,
    (Position("a"), Position("b")),
    tuple(PlannedChannel(n, 1, 1) for n in "xy"),
    (0.0, 1.0),
    (2, 3),
    16,
)


class MemorySlot:
    """A slot in plain memory, dirty as the ring's memory is."""

    def __init__(self, key, published):
        self.key = key
        self.frames = np.full(PLAN.slot_shape, 9999, np.uint16)
        self.records = empty_records(PLAN.frames_per_slot)
        self._published = published

    def publish(self):
        self._published.append(self)
        return len(self._published) - 1

    def discard(self):
        self.frames[:] = 7777


def assembler():
    published = []
    assembly = SlotAssembler(
        PLAN, lambda key: MemorySlot(key, published), lambda key, records: None
    )
    assembly.expect(PLAN.slot_keys())
    return assembly, published


def value_of(key):
    return 1 + key.timepoint * 100 + key.position * 10 + PLAN.index(key)


def deliver(assembly, key, number=0):
    assembly.destination(key)[:] = value_of(key)
    assembly.arrived(Arrived(key, number, 1.0, 2.0, PLAN.foci_um[key.focus], key.channel))


ALL = [k for s in PLAN.slot_keys() for k in PLAN.frame_keys(s)]


@settings(max_examples=60, deadline=None)
@given(lost=st.sets(st.sampled_from(ALL)), reported=st.booleans())
def test_every_frame_is_written_in_its_place_or_missing_with_a_reason(lost, reported):
    assembly, published = assembler()
    for number, key in enumerate(ALL):
        if key not in lost:
            deliver(assembly, key, number)
        elif reported:
            assembly.lost(Lost((key,), MissingReason.OVERFLOW))
    assembly.close(MissingReason.DROPPED)
    keys = [slot.key for slot in published]
    assert keys == list(PLAN.slot_keys())[: len(keys)]
    for slot in published:
        for key in PLAN.frame_keys(slot.key):
            row, pixels = slot.records[PLAN.index(key)], slot.frames[PLAN.index(key)]
            if key in lost:
                assert row["status"] == FrameStatus.MISSING
                assert row["reason"] == (
                    MissingReason.OVERFLOW if reported else MissingReason.DROPPED
                )
                assert (pixels == 0).all()
            else:
                assert row["status"] == FrameStatus.WRITTEN
                assert (pixels == value_of(key)).all()
                assert row["image_number"] == ALL.index(key)
    # Slots after the last frame that came are left to another burst.
    order = list(PLAN.slot_keys())
    came = [order.index(k.slot) for k in ALL if reported or k not in lost]
    assert len(keys) == max(came, default=-1) + 1
    assert assembly.remaining == list(PLAN.slot_keys())[len(keys) :]


def test_one_loss_may_span_slots():
    assembly, published = assembler()
    deliver(assembly, ALL[0])
    assembly.lost(Lost(tuple(ALL[1:9]), MissingReason.OVERFLOW))
    assert [slot.key for slot in published] == [SlotKey(0, 0), SlotKey(0, 1)]
    assert assembly.remaining[0] == SlotKey(1, 0)


def test_a_frame_twice_and_a_frame_too_late_are_refused():
    assembly, _ = assembler()
    deliver(assembly, ALL[0])
    with pytest.raises(DriverError, match="twice"):
        deliver(assembly, ALL[0])
    with pytest.raises(DriverError, match="twice"):
        assembly.lost(Lost((ALL[0],), MissingReason.DROPPED))
    assembly.lost(Lost((ALL[1],), MissingReason.DROPPED))
    with pytest.raises(DriverError, match="twice"):
        deliver(assembly, ALL[1])
    deliver(assembly, FrameKey(1, 0, 0, 0))
    with pytest.raises(DriverError, match="was over"):
        assembly.destination(ALL[1])


def test_a_discarded_slot_is_never_seen_and_can_be_taken_again():
    assembly, published = assembler()
    deliver(assembly, ALL[0])
    assembly.discard()
    assert published == []
    for key in ALL[:4]:
        deliver(assembly, key)
    assert [slot.key for slot in published] == [SlotKey(0, 0)]
    assert (published[0].records["status"] == FrameStatus.WRITTEN).all()
