"""The ring: what goes in comes out once, whole and under its own key, whoever is killed."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
import uuid
from multiprocessing.connection import Connection

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import pipeline.ring
from pipeline import shared_memory
from pipeline.errors import ExperimentError, StoreError
from pipeline.frames import (
    FrameStatus,
    MissingReason,
    Plan,
    PlannedChannel,
    Position,
    SlotKey,
)
from pipeline.ring import Ring, WritableSlot, slots_for
from pipeline.waiting import wait_for

SPAWN = multiprocessing.get_context("spawn")
K = 3


def small_plan(shape: tuple[int, int] = (5, 7), bit_depth: int = 12, timepoints: int = 100) -> Plan:
    channels = tuple(PlannedChannel(name, 1.0, 1.0) for name in "abc")
    return Plan(timepoints, (Position("p"),), channels, (0.0,), shape, bit_depth)


def new_name() -> str:
    return f"lp-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def name():
    name = new_name()
    yield name
    shared_memory.unlink(name)


def fill(slot: WritableSlot, value: int) -> None:
    slot.frames[:] = value
    slot.records["status"] = FrameStatus.WRITTEN
    slot.records["image_number"] = np.arange(K) + value


def put(ring: Ring, timepoint: int) -> int:
    """Publish a slot whose every pixel says which timepoint it is."""
    slot = ring.begin(SlotKey(timepoint, 0), timeout_s=0)
    assert slot is not None
    fill(slot, timepoint)
    return slot.publish()


def test_a_slot_arrives_whole_and_in_place(name):
    with Ring.create(name, small_plan(), slots=2) as writer, Ring.attach(name) as other:
        assert (other.slots, other.slot_shape, other.dtype) == (2, (K, 5, 7), np.dtype(np.uint16))
        assert other.take(0) is None
        slot = writer.begin(SlotKey(4, 1), timeout_s=0)
        slot.frames[:] = np.arange(K * 35).reshape(K, 5, 7)
        slot.records["status"] = FrameStatus.WRITTEN
        slot.records["image_number"] = [7, 8, 9]
        assert other.take(0) is None
        assert other.copy(0, np.empty((K, 5, 7), np.uint16)) is None
        assert other.find(SlotKey(4, 1)) is None
        assert slot.publish() == 0

        held = other.take(0)
        assert held.key == SlotKey(4, 1)
        assert held.sequence == 0
        np.testing.assert_array_equal(held.frames, np.arange(K * 35).reshape(K, 5, 7))
        np.testing.assert_array_equal(held.records["image_number"], [7, 8, 9])
        with pytest.raises(ValueError, match="read-only"):
            held.frames[0, 0, 0] = 1
        assert other.key_of(0) == SlotKey(4, 1)
        assert other.key_of(1) is None
        out = np.empty((K, 5, 7), np.uint16)
        copied = other.copy(other.find(SlotKey(4, 1)), out)
        assert copied.key == SlotKey(4, 1)
        np.testing.assert_array_equal(out, held.frames)
        assert copied.records.tobytes() == held.records.tobytes()  # NaN equals NaN here


def test_a_full_ring_makes_the_writer_wait_until_the_recorder_frees(name):
    with Ring.create(name, small_plan(), slots=2) as ring:
        put(ring, 0)
        put(ring, 1)
        assert ring.fill == 1.0
        began = time.monotonic()
        assert ring.begin(SlotKey(2, 0), timeout_s=0.05) is None
        assert time.monotonic() - began >= 0.05
        ring.free(1)
        assert ring.fill == 0.5
        assert put(ring, 2) == 2
        with pytest.raises(ValueError, match="was freed"):
            ring.take(0)
        with pytest.raises(ValueError, match="can't free"):
            ring.free(4)
        with pytest.raises(ValueError, match="can't free"):
            ring.free(0)


def test_a_missing_frame_is_blank_and_a_forgotten_one_is_refused(name):
    with Ring.create(name, small_plan(), slots=1) as ring:
        put(ring, 9)
        ring.free(1)
        slot = ring.begin(SlotKey(10, 0), timeout_s=0)
        slot.frames[0] = 5
        slot.records["status"][:2] = FrameStatus.WRITTEN, FrameStatus.MISSING
        slot.records["reason"][1] = MissingReason.DROPPED
        with pytest.raises(ValueError, match=r"frame 2 .* neither written nor missing"):
            slot.publish()
        slot.records["status"][2] = FrameStatus.MISSING
        slot.publish()
        held = ring.take(1)
        assert (held.frames[0] == 5).all()
        assert (held.frames[1:] == 0).all()
        assert held.records["reason"][1] == MissingReason.DROPPED


def test_one_slot_is_open_at_a_time(name):
    with Ring.create(name, small_plan(), slots=3) as ring:
        slot = ring.begin(SlotKey(0, 0), timeout_s=0)
        with pytest.raises(RuntimeError, match="still open"):
            ring.begin(SlotKey(1, 0), timeout_s=0)
        slot.discard()
        assert ring.head == 0
        with pytest.raises(RuntimeError, match="before"):
            slot.publish()
        with pytest.raises(ValueError, match="read-only"):
            slot.frames[:] = 1
        assert put(ring, 1) == 0
        with pytest.raises(ValueError, match="does not go into"):
            ring.copy(0, np.empty((K, 5, 7), np.uint8))


def test_prefaulting_changes_no_pixel(name):
    with Ring.create(name, small_plan((64, 64)), slots=2) as ring:
        put(ring, 60000)
        with Ring.attach(name) as restarted:
            restarted.prefault()
            assert (restarted.take(0).frames == 60000).all()


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_pixels_are_page_aligned_and_any_frame_size_works(name, bit_depth):
    with Ring.create(name, small_plan((31, 67), bit_depth), slots=3) as ring:
        for t in range(3):
            put(ring, t)
        for t in range(3):
            held = ring.take(t)
            assert held.frames.ctypes.data % 4096 == 0
            assert held.frames.dtype.itemsize == (1 if bit_depth == 8 else 2)
            assert (held.frames == t).all()
        assert ring.pixel_memory.ctypes.data % 4096 == 0


class RingAgainstModel(RuleBasedStateMachine):
    """Writer, recorder and readers interleaved; each attached on its own, as processes are."""

    @initialize(slots=st.integers(1, 4))
    def start(self, slots):
        self.name = new_name()
        self.slots = slots
        self.writer = Ring.create(self.name, small_plan(), slots)
        self.recorder = Ring.attach(self.name)
        self.reader = Ring.attach(self.name)
        self.out = np.empty((K, 5, 7), np.uint16)
        self.published: list[tuple[SlotKey, int]] = []
        self.tail = 0
        self.open: WritableSlot | None = None
        self.scribbled = False  # the place of the next slot was begun and not published

    def available(self, sequence: int) -> bool:
        head = len(self.published)
        oldest = head - self.slots + (1 if self.scribbled else 0)
        return max(0, oldest) <= sequence < head

    def matches(self, sequence: int, key, frames, records) -> bool:
        expected_key, value = self.published[sequence]
        return bool(
            key == expected_key
            and (frames == value).all()
            and (records["image_number"] == np.arange(K) + value).all()
        )

    @precondition(lambda self: self.open is None)
    @rule(timepoint=st.integers(0, 5), value=st.integers(0, 60000))
    def begin(self, timepoint, value):
        slot = self.writer.begin(SlotKey(timepoint, 0), timeout_s=0)
        assert (slot is None) == (len(self.published) - self.tail >= self.slots)
        if slot is not None:
            self.open, self.value, self.scribbled = slot, value, True
            assert slot.sequence == len(self.published)
            slot.frames[: K - 1] = value  # torn until `publish`

    @precondition(lambda self: self.open is not None)
    @rule()
    def publish(self):
        fill(self.open, self.value)
        assert self.open.publish() == len(self.published)
        self.published.append((self.open.key, self.value))
        self.open, self.scribbled = None, False

    @precondition(lambda self: self.open is not None)
    @rule()
    def discard(self):
        self.open.discard()
        self.open = None

    @rule()
    def restart_the_writer(self):
        self.writer.close()
        self.writer, self.open = Ring.attach(self.name), None

    @rule(back=st.integers(-1, 3))
    def take(self, back):
        sequence = self.tail + max(back, 0)
        held = self.recorder.take(sequence)
        assert (held is None) == (sequence >= len(self.published))
        if held is not None:
            assert self.matches(sequence, held.key, held.frames, held.records)

    @rule(share=st.floats(0, 1))
    def free(self, share):
        self.tail += round(share * (len(self.published) - self.tail))
        self.recorder.free(self.tail)

    @rule()
    def restart_the_recorder(self):
        self.recorder.close()
        self.recorder = Ring.attach(self.name)
        assert self.recorder.tail == self.tail

    @rule(back=st.integers(-1, 6))
    def copy(self, back):
        sequence = len(self.published) - 1 - back
        copied = self.reader.copy(sequence, self.out)
        assert (copied is not None) == self.available(sequence)
        if copied is not None:
            assert self.matches(sequence, copied.key, self.out, copied.records)

    @rule(timepoint=st.integers(0, 5))
    def find(self, timepoint):
        key = SlotKey(timepoint, 0)
        there = [i for i, (k, _) in enumerate(self.published) if k == key and self.available(i)]
        assert self.reader.find(key) == (there[-1] if there else None)

    @invariant()
    def counters(self):
        if hasattr(self, "reader"):
            assert (self.reader.head, self.reader.tail) == (len(self.published), self.tail)

    def teardown(self):
        if hasattr(self, "writer"):
            self.open = None
            for ring in (self.writer, self.recorder, self.reader):
                ring.close()
            shared_memory.unlink(self.name)


TestRingAgainstModel = RingAgainstModel.TestCase
TestRingAgainstModel.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True
)


class Lapping:
    """Lets the writer act between any two frames of a reader's copy."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before: dict[int, list[str]] = {}
        self.frame = 0
        self.act = lambda action: None
        original = pipeline.ring._copy_frame

        def copy_frame(target, source):
            # Half the frame, then the writer's turn, then the rest: the copy is torn for certain.
            half = source.shape[0] // 2
            original(target[:half], source[:half])
            for action in self.before.get(self.frame, ()):
                self.act(action)
            original(target[half:], source[half:])
            self.frame += 1

        monkeypatch.setattr(pipeline.ring, "_copy_frame", copy_frame)


@pytest.mark.parametrize("frame", range(K))
@pytest.mark.parametrize("laps", [1, 2])
def test_an_overtaken_copy_is_never_delivered(name, monkeypatch, frame, laps):
    with Ring.create(name, small_plan(), slots=2) as ring, Ring.attach(name) as reader:
        for t in range(2):
            put(ring, t)
        ring.free(2)
        lapping = Lapping(monkeypatch)
        lapping.before = {frame: ["put"] * 2 * laps}
        lapping.act = lambda _: (put(ring, ring.head), ring.free(ring.head))
        out = np.empty(ring.slot_shape, np.uint16)
        assert reader.copy(0, out) is None
        # It really was torn: what must not be delivered is there to be seen.
        assert np.unique(out[frame]).size == 2


def test_a_copy_is_refused_as_soon_as_the_writer_begins_on_its_place(name, monkeypatch):
    with Ring.create(name, small_plan(), slots=1) as ring, Ring.attach(name) as reader:
        put(ring, 0)
        ring.free(1)
        lapping = Lapping(monkeypatch)
        lapping.before = {K - 1: ["begin"]}
        opened = []
        lapping.act = lambda _: opened.append(ring.begin(SlotKey(1, 0), timeout_s=0))
        assert reader.copy(0, np.empty(ring.slot_shape, np.uint16)) is None
        assert opened[0] is not None


def test_a_slot_overtaken_after_its_pixels_were_copied_is_refused_for_its_records(
    name, monkeypatch
):
    with Ring.create(name, small_plan(), slots=1) as ring, Ring.attach(name) as reader:
        put(ring, 0)
        ring.free(1)
        read_key = Ring._key

        def overtaken(self, index):
            put(ring, 1)
            return read_key(self, index)

        monkeypatch.setattr(Ring, "_key", overtaken)
        assert reader.copy(0, np.empty(ring.slot_shape, np.uint16)) is None


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    slots=st.integers(1, 3),
    before=st.dictionaries(
        st.integers(0, K - 1),
        st.lists(st.sampled_from(["begin", "publish", "discard"]), max_size=6),
    ),
)
def test_whatever_the_writer_does_during_a_copy_it_is_whole_or_nothing(slots, before):
    name = new_name()
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        Ring.create(name, small_plan(), slots) as ring,
        Ring.attach(name) as reader,
    ):
        try:
            for t in range(slots):
                put(ring, t)
            ring.free(slots)
            lapping = Lapping(monkeypatch)
            lapping.before = before
            begun: list[int] = []
            opened: list[WritableSlot] = []

            def act(action: str) -> None:
                if action == "begin" and not opened:
                    slot = ring.begin(SlotKey(ring.head, 0), timeout_s=0)
                    fill(slot, ring.head)
                    opened.append(slot)
                    begun.append(slot.sequence)
                elif action == "publish" and opened:
                    opened.pop().publish()
                    ring.free(ring.head)
                elif action == "discard" and opened:
                    opened.pop().discard()

            lapping.act = act
            oldest = 0
            out = np.empty(ring.slot_shape, np.uint16)
            copied = reader.copy(oldest, out)
            assert (copied is None) == (oldest + slots in begun)
            if copied is not None:
                assert (out == oldest).all()
                assert copied.key == SlotKey(oldest, 0)
        finally:
            ring.unlink()


def _hammer(name: str, connection: Connection) -> None:
    """Publish and free as fast as memory allows, until killed."""
    with Ring.attach(name) as ring:
        connection.send("ready")
        while True:
            put(ring, ring.head % 60000)
            ring.free(ring.head)


def _spawn(target, *args):
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=target, args=(*args, theirs), daemon=True)
    process.start()
    theirs.close()
    assert ours.poll(30), "the process did not start"
    assert ours.recv() == "ready"
    return process, ours


def _kill(process, connection) -> None:
    process.kill()
    process.join()
    process.close()
    connection.close()


def test_a_reader_beside_a_hammering_writer_gets_whole_slots_only(name):
    with Ring.create(name, small_plan((128, 512)), slots=2) as ring:
        writer, connection = _spawn(_hammer, name)
        try:
            out = np.empty(ring.slot_shape, np.uint16)
            delivered = overtaken = 0
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline and not (delivered > 300 and overtaken > 300):
                head = ring.head
                sequence = head - 1 - delivered % 2  # the newest and the next to be overwritten
                copied = ring.copy(sequence, out)
                if copied is None:
                    overtaken += sequence >= 0
                    continue
                delivered += 1
                assert copied.key == SlotKey(sequence % 60000, 0)
                assert out.min() == out.max() == sequence % 60000
                assert (copied.records["image_number"] == np.arange(K) + sequence % 60000).all()
        finally:
            _kill(writer, connection)
        assert delivered > 0
        assert overtaken > 0


def test_a_writer_killed_anywhere_leaves_whole_slots_and_its_successor_goes_on(name):
    rng = np.random.default_rng(1)
    with Ring.create(name, small_plan((64, 256)), slots=4) as ring:
        heads = []
        for _ in range(5):
            writer, connection = _spawn(_hammer, name)
            head = ring.head
            assert wait_for(lambda head=head: ring.head > head + 3, timeout_s=20)
            time.sleep(rng.uniform(0, 0.01))
            _kill(writer, connection)
            head = ring.head
            heads.append(head)
            out = np.empty(ring.slot_shape, np.uint16)
            whole = 0
            for sequence in range(head - 4, head):
                copied = ring.copy(sequence, out)
                if copied is not None:
                    whole += 1
                    assert copied.key == SlotKey(sequence % 60000, 0)
                    assert (out == sequence % 60000).all()
            assert whole >= 3  # at most the one that was being overwritten is lost to readers
        assert heads == sorted(set(heads))


def _tear(name: str, connection: Connection) -> None:
    with Ring.attach(name) as ring:
        slot = ring.begin(SlotKey(7, 0), timeout_s=0)
        slot.frames[: K - 1] = 7
        slot.records["status"][: K - 1] = FrameStatus.WRITTEN
        connection.send("ready")
        connection.recv()


def test_the_torn_slot_of_a_killed_writer_is_never_seen(name):
    with Ring.create(name, small_plan(), slots=3) as ring:
        put(ring, 6)
        _kill(*_spawn(_tear, name))
        assert ring.head == 1
        assert ring.take(1) is None
        assert ring.find(SlotKey(7, 0)) is None
        assert put(ring, 7) == 1
        assert (ring.take(1).frames == 7).all()


def _record_some(name: str, connection: Connection) -> None:
    with Ring.attach(name) as ring:
        held = [ring.take(0), ring.take(1)]
        ring.free(1)
        connection.send("ready")
        connection.recv()
        del held


def test_a_killed_recorder_s_successor_goes_on_where_it_had_freed(name):
    with Ring.create(name, small_plan(), slots=3) as ring:
        for t in range(3):
            put(ring, t)
        _kill(*_spawn(_record_some, name))
        with Ring.attach(name) as successor:
            assert successor.tail == 1
            assert (successor.take(1).frames == 1).all()
            successor.free(3)
        assert put(ring, 3) == 3


def _read_forever(name: str, connection: Connection) -> None:
    with Ring.attach(name) as ring:
        out = np.empty(ring.slot_shape, ring.dtype)
        connection.send("ready")
        while True:
            ring.copy(ring.head - 1, out)


def test_a_killed_reader_holds_nothing(name):
    with Ring.create(name, small_plan((256, 256)), slots=2) as ring:
        put(ring, 0)
        reader, connection = _spawn(_read_forever, name)
        time.sleep(0.05)
        _kill(reader, connection)
        ring.free(1)
        for t in range(1, 6):
            put(ring, t)
            ring.free(t + 1)
        assert ring.head == 6


def _python(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_process_that_attaches_and_exits_leaves_the_ring_alone(name):
    """An unrelated process, which has a resource tracker of its own (cpython #82300)."""
    with Ring.create(name, small_plan(), slots=2) as ring:
        put(ring, 3)
        done = _python(
            "import sys; from pipeline.ring import Ring\n"
            "ring = Ring.attach(sys.argv[1])\n"
            "kept = ring.take(0).frames\n"
            "ring.close()\n"
            "print(int(kept.sum()))",  # a view outlives the ring, and the interpreter ends with it
            name,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert int(done.stdout) == 3 * K * 35
        with Ring.attach(name) as again:
            assert (again.take(0).frames == 3).all()


def test_what_a_killed_supervisor_left_is_reclaimed_by_name(name):
    done = _python(
        "import os, signal, sys\n"
        "from pipeline import shared_memory\n"
        "block = shared_memory.create(sys.argv[1], 100_000)\n"
        "os.kill(os.getpid(), getattr(signal, 'SIGKILL', signal.SIGTERM))",
        name,
    )
    assert done.returncode != 0
    assert done.stderr == ""
    if sys.platform != "win32":  # there the block ended with its process
        with pytest.raises(StoreError, match="exists already"):
            Ring.create(name, small_plan(), slots=2)
        assert shared_memory.unlink(name)
    with Ring.create(name, small_plan(), slots=2):
        pass
    assert shared_memory.unlink(name)
    assert not shared_memory.unlink(name)


def test_views_stay_good_after_close_and_unlink(name):
    ring = Ring.create(name, small_plan(), slots=1)
    put(ring, 2)
    frames = ring.take(0).frames
    ring.close()
    ring.close()
    shared_memory.unlink(name)
    assert (frames == 2).all()


@pytest.mark.parametrize("as_files", [True, False])
def test_both_ways_of_sharing_memory_keep_the_same_promises(name, monkeypatch, as_files):
    """Linux uses files in /dev/shm, others the standard library: here both are run where they can."""
    if as_files and sys.platform != "linux":
        pytest.skip("files in /dev/shm are Linux's way")
    monkeypatch.setattr(shared_memory, "_AS_FILES", as_files)
    block = shared_memory.create(name, 100_000)
    view = block.view(4096, (10,), np.int64)
    view[:] = 3
    with pytest.raises(StoreError, match="not a ring"):
        shared_memory.attach(name, "ring")
    block.sign("ring")
    other = shared_memory.attach(name, "ring")
    seen = other.view(4096, (10,), np.int64)
    other.close()
    assert (seen == 3).all()
    block.close()
    view[0] = 4
    assert seen[0] == 4
    del seen
    if sys.platform != "win32":
        assert shared_memory.unlink(name)
    assert not shared_memory.unlink(name)
    with pytest.raises(StoreError, match="there is no shared memory"):
        shared_memory.attach(name, "ring")


def test_too_little_memory_is_an_error_at_the_start(name, monkeypatch):
    with pytest.raises(StoreError, match=r"of memory left: lower `output.ring_gb`"):
        shared_memory.create(name, 1 << 50)
    if sys.platform == "linux":
        monkeypatch.setattr(
            shared_memory.psutil, "virtual_memory", lambda: type("M", (), {"available": 1 << 60})
        )
        space = os.statvfs("/dev/shm")
        with pytest.raises(StoreError, match=r"is free: lower `output.ring_gb` or enlarge"):
            shared_memory.create(name, space.f_blocks * space.f_frsize + 4096)
    assert not shared_memory.unlink(name), "a failed creation leaves nothing behind"


def test_the_ring_is_sized_by_time_and_budget():
    plan = small_plan((1024, 1024), timepoints=1000)  # 6.3 MB a slot
    assert slots_for(plan, slot_s=0.1, budget_bytes=4e9) == 100
    assert slots_for(plan, slot_s=0.1, budget_bytes=4e9, seconds=20) == 200
    assert slots_for(plan, slot_s=0.001, budget_bytes=1e9) == int((1e9 - 4096) // (6291456 + 4096))
    assert slots_for(plan, slot_s=60, budget_bytes=4e9, at_least=5) == 5
    assert slots_for(small_plan(timepoints=7), slot_s=0.1, budget_bytes=4e9) == 7
    # Whole groups, more than wanted rather than fewer; fewer where the budget says so.
    assert slots_for(plan, slot_s=0.1, budget_bytes=4e9, multiple_of=30) == 120
    assert slots_for(plan, slot_s=0.1, budget_bytes=0.7e9, multiple_of=30) == 90
    assert slots_for(plan, slot_s=0.1, budget_bytes=0.7e9, at_least=92, multiple_of=30) == 111
    with pytest.raises(ExperimentError, match=r"`output.ring_gb` is 0.01.*set output.ring_gb"):
        slots_for(plan, slot_s=0.1, budget_bytes=1e7)


def test_the_ring_a_size_promises_fits_its_budget(name):
    plan = small_plan((100, 100), timepoints=1000)
    slots = slots_for(plan, slot_s=0.001, budget_bytes=2e6)
    with Ring.create(name, plan, slots) as ring:
        assert ring._block.size <= 2e6


def test_the_bench_moves_every_frame_and_says_under_which_conditions():
    from pipeline.bench.ring import bench_ring

    result = bench_ring(seconds=0.2, pairs=1, latency_s=1.0, rate_hz=20, frame_shape=(256, 256))
    conditions = result["conditions"]
    assert conditions["frames_through_ring"] > 50
    assert conditions["paced_frames"] == conditions["paced_frames_recorded"] == 20
    assert conditions["paced_frames_read"] >= 15
    assert 0 < result["ratio_to_memcpy"] < 2
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p99"]
