"""The newest slot: noticed once, what lies before it passed over, a torn one never given."""

import secrets
import time

import numpy as np
import pytest

from pipeline.frames import FrameStatus, MissingReason, Plan, PlannedChannel, Position, SlotKey
from pipeline.ring import Ring
from pipeline.stages.newest import NewestSlot
from pipeline.stages.reconstruct import worker_threads
from pipeline.telemetry import Telemetry

PLAN = Plan(
    100,
    (Position("a"),),
    (PlannedChannel("x", 1.0, 1.0), PlannedChannel("y", 1.0, 1.0)),
    (0.0,),
    (4, 6),
    16,
)


@pytest.fixture
def parts():
    token = secrets.token_hex(4)
    with (
        Ring.create(f"livephase-{token}-ring", PLAN, 3) as ring,
        Telemetry.create(f"livephase-{token}-tel") as telemetry,
    ):
        ring.unlink()
        telemetry.unlink()
        buffer = np.zeros(PLAN.slot_shape, PLAN.dtype)
        yield ring, buffer, telemetry


def publish(ring, timepoint, times=(1.0, 2.0), missing=()):
    slot = ring.begin(SlotKey(timepoint, 0), 0.0)
    slot.frames[:] = timepoint
    slot.records["status"] = FrameStatus.WRITTEN
    slot.records["time_monotonic"] = times
    for k in missing:
        slot.records[k]["status"] = FrameStatus.MISSING
        slot.records[k]["reason"] = MissingReason.DROPPED
        slot.records[k]["time_monotonic"] = np.nan
    slot.publish()


def test_each_slot_is_given_once(parts):
    ring, buffer, telemetry = parts
    publish(ring, 0)
    newest = NewestSlot(ring, buffer, telemetry.writer("reconstruct-0"))
    assert newest.take() is None  # it was there before
    began = time.monotonic()
    publish(ring, 1, times=(began, began + 1e-4))
    slot = newest.take()
    assert slot.key == (1, 0)
    assert slot.arrived == began + 1e-4
    assert began <= slot.seen <= time.monotonic()
    assert (buffer == 1).all()
    assert newest.take() is None
    assert telemetry.total("ring_passed_over") == 0
    assert telemetry.histogram("handoff_seconds").observations == 1


def test_older_slots_are_passed_over_and_counted(parts):
    ring, buffer, telemetry = parts
    newest = NewestSlot(ring, buffer, telemetry.writer("reconstruct-0"))
    for t in range(3):
        publish(ring, t)
    assert newest.take().key == (2, 0)
    assert (buffer == 2).all()
    assert telemetry.total("ring_passed_over") == 2
    assert newest.take() is None


def test_a_slot_that_is_overtaken_is_not_given(parts, monkeypatch):
    ring, buffer, telemetry = parts
    newest = NewestSlot(ring, buffer, telemetry.writer("reconstruct-0"))
    publish(ring, 0)
    copy = ring.copy

    def overtaken(sequence, out):
        for t in range(1, 4):
            ring.free(ring.head)
            publish(ring, t)
        return copy(sequence, out)

    with monkeypatch.context() as patch:
        patch.setattr(ring, "copy", overtaken)
        assert newest.take() is None
    assert telemetry.total("ring_overtaken") == 1
    # What overtook it is new.
    assert newest.take().key == (3, 0)


def test_a_missing_frame_has_no_arrival(parts):
    ring, buffer, telemetry = parts
    newest = NewestSlot(ring, buffer, telemetry.writer("reconstruct-0"))
    publish(ring, 0, times=(7.0, 9.0), missing=(1,))
    assert newest.take().arrived == 7.0
    publish(ring, 1, missing=(0, 1))
    assert newest.take().arrived == -np.inf
    assert telemetry.histogram("handoff_seconds").observations == 1


def test_another_worker_s_slots_are_not_copied(parts, monkeypatch):
    ring, buffer, telemetry = parts
    even = NewestSlot(
        ring, buffer, telemetry.writer("reconstruct-0"), lambda key: key.timepoint % 2 == 0
    )
    copied = []
    copy = ring.copy
    monkeypatch.setattr(
        ring, "copy", lambda sequence, out: (copied.append(sequence), copy(sequence, out))[1]
    )
    publish(ring, 0)
    publish(ring, 1)
    # The newest of its own, though another's came after it.
    assert even.take().key == (0, 0)
    ring.free(ring.head)
    publish(ring, 3)
    assert even.take() is None
    assert copied == [0]
    assert (buffer == 0).all()
    assert telemetry.total("ring_passed_over") == 0
    assert telemetry.total("ring_overtaken") == 0


@pytest.mark.parametrize(
    ("cores", "workers", "expected"), [(1, 1, 1), (2, 1, 1), (8, 1, 7), (9, 2, 4), (4, 8, 1)]
)
def test_workers_share_the_cores(cores, workers, expected):
    assert worker_threads(cores, workers) == expected
