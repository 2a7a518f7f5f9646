"""Raw slots to the disk: whole shards, parts completed later, missing frames, kills, live readers."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest
from store_runs import (
    SlotKey,
    all_keys,
    begin,
    frames_of,
    make_experiment,
    record_slots,
    records_of,
    slot_of,
    stored_frames,
)

from pipeline.errors import RunFolderError, StoreError
from pipeline.frames import FrameStatus
from pipeline.store.layout import create_raw
from pipeline.store.ledger import LedgerWriter
from pipeline.store.raw_writer import RawWriter, _as_one_array
from pipeline.store.reader import RunReader
from pipeline.store.verify import verify

VARIANTS = {
    "one focus": {},
    "stack": {"foci": (0.0, 2.0, 4.0), "channels": ("a", "b")},
    "positions": {"positions": 3, "channels": ("a", "b"), "rate": 60.0},
    "8 bits, odd": {"bit_depth": 8, "shape": (23, 17), "foci": (0.0, 1.5)},
    "uncompressed": {"compression": "none"},
    "zstd": {"compression": "zstd"},
    "slow": {"interval_s": 5.0, "timepoints": 3},
    "big frame": {"shape": (1300, 1031), "timepoints": 2},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_written_comes_back(tmp_path, variant):
    experiment = make_experiment(**VARIANTS[variant])
    folder = begin(tmp_path / "run", experiment)
    record_slots(folder, experiment, all_keys(experiment))
    reader = RunReader(folder.path)
    plan = reader.plan
    assert reader.committed().all()
    for key in all_keys(experiment):
        frames, records = reader.raw(key)
        np.testing.assert_array_equal(frames, frames_of(plan, key))
        assert records.tobytes() == records_of(plan, key).tobytes()


def test_pause_stop_and_resume_store_what_an_undisturbed_run_stores(tmp_path):
    experiment = make_experiment(timepoints=11, rate=4.0, positions=2, slot_order="pt")
    keys = all_keys(experiment)
    smooth = begin(tmp_path / "smooth", experiment)
    record_slots(smooth, experiment, keys)
    rough = begin(tmp_path / "rough", experiment)
    # Parts of shards in any order, each with a writer of its own: pauses, stops and resumes.
    for part in (keys[1:3], keys[0:1], keys[3:9], keys[9:10], keys[12:20], keys[10:12], keys[20:]):
        record_slots(rough, experiment, part)
    files = sorted(p.relative_to(smooth.path) for p in smooth.raw_store.rglob("*") if p.is_file())
    assert len(files) > 6
    assert files == sorted(
        p.relative_to(rough.path) for p in rough.raw_store.rglob("*") if p.is_file()
    )
    for file in files:
        assert (smooth.path / file).read_bytes() == (rough.path / file).read_bytes(), file
    assert not verify(rough.path).mismatches


def test_a_part_filled_shard_keeps_its_missing_frames_when_it_is_completed(tmp_path):
    experiment = make_experiment(timepoints=4, rate=8.0, channels=("a", "b"))
    folder = begin(tmp_path / "run", experiment)
    lost = {SlotKey(0, 0): (1,), SlotKey(3, 0): (0, 1)}
    record_slots(folder, experiment, [SlotKey(0, 0), SlotKey(2, 0)], lost)
    record_slots(folder, experiment, [SlotKey(1, 0), SlotKey(3, 0)], lost)
    reader = RunReader(folder.path)
    for key in all_keys(experiment):
        frames, records = reader.raw(key)
        np.testing.assert_array_equal(frames, stored_frames(reader.plan, key, lost.get(key, ())))
        missing = np.flatnonzero(records["status"] == FrameStatus.MISSING)
        assert tuple(missing) == lost.get(key, ())
    report = verify(folder.path)
    assert (report.written, report.missing, report.mismatches) == (5, 3, [])
    assert report.missing_by_reason == {"dropped": 3}


def test_slots_of_one_ring_are_handed_over_without_a_copy():
    ring = np.arange(6 * 2 * 3 * 4, dtype=np.uint16).reshape(6, 2, 3, 4)
    for slots in ([ring[1]], [ring[1], ring[2], ring[3]], [ring[0], ring[2], ring[4]]):
        view = _as_one_array(slots)
        assert np.shares_memory(view, ring)
        np.testing.assert_array_equal(view, np.stack(slots))
    assert _as_one_array([ring[0], ring[1], ring[3]]) is None
    np.testing.assert_array_equal(_as_one_array([ring[3], ring[2]]), np.stack([ring[3], ring[2]]))
    assert _as_one_array([ring[0].copy(), ring[1].copy()]) is None
    # A ring in shared memory hands out a new array on the same mapping each time.
    memory = bytearray(ring.tobytes())
    size = ring[0].nbytes
    apart = [
        np.frombuffer(memory, np.uint16, ring[0].size, i * size).reshape(2, 3, 4) for i in (1, 2)
    ]
    assert np.shares_memory(_as_one_array(apart), np.frombuffer(memory, np.uint16))


def test_memory_may_be_used_again_once_committed(tmp_path):
    experiment = make_experiment(timepoints=8, rate=4.0)
    folder = begin(tmp_path / "run", experiment)
    plan = experiment.plan()
    ring = np.empty((4, *plan.slot_shape), plan.dtype)
    with RawWriter(folder, experiment) as writer:
        assert writer.timepoints_per_shard == 4
        for start in (0, 4):
            keys = [SlotKey(t, 0) for t in range(start, start + 4)]
            for slot, key in zip(ring, keys, strict=True):
                slot[:] = frames_of(plan, key)
            pending = writer.submit(
                [(k, s, records_of(plan, k)) for s, k in zip(ring, keys, strict=True)]
            )
            pending.wait()
            assert pending.done()
            ring[:] = 0
            assert all(writer.is_committed(key) for key in keys)
    assert verify(folder.path).mismatches == []


def test_shared_memory_can_be_closed_after_the_commit(tmp_path):
    experiment = make_experiment(timepoints=8, rate=1.0, shape=(256, 256))
    folder = begin(tmp_path / "run", experiment)
    plan = experiment.plan()
    with RawWriter(folder, experiment) as writer:
        for key in all_keys(experiment):
            memory = SharedMemory(create=True, size=plan.slot_bytes)
            frames = np.ndarray(plan.slot_shape, plan.dtype, memory.buf)
            frames[:] = frames_of(plan, key)
            pending = writer.submit([(key, frames, records_of(plan, key))])
            del frames
            pending.wait()
            memory.close()  # BufferError if anything still refers to it
            memory.unlink()
    assert verify(folder.path).written == 8


def test_a_committed_slot_is_not_recorded_twice_and_never_replaced(tmp_path):
    experiment = make_experiment(timepoints=4, rate=4.0)
    folder = begin(tmp_path / "run", experiment)
    plan = experiment.plan()
    key = SlotKey(1, 0)
    with RawWriter(folder, experiment) as writer:
        writer.submit([slot_of(plan, key)]).wait()
        size = folder.raw_ledger.stat().st_size
        assert writer.submit([slot_of(plan, key)]).done()
        writer.submit([slot_of(plan, key), slot_of(plan, SlotKey(2, 0))]).wait()
        assert folder.raw_ledger.stat().st_size == size + (size - 64)
        with pytest.raises(StoreError, match="timepoint 1, position 0 is committed already"):
            writer.submit([(key, frames_of(plan, SlotKey(3, 0)), records_of(plan, key))])
    assert verify(folder.path).mismatches == []


def test_a_failure_that_nobody_asked_for_is_raised_at_the_end(tmp_path, monkeypatch):
    experiment = make_experiment(timepoints=2, rate=1.0)
    folder = begin(tmp_path / "run", experiment)
    failing = StoreError("the ledger is gone")

    def append(self, records):
        raise failing

    def record():
        with RawWriter(folder, experiment) as writer:
            monkeypatch.setattr(LedgerWriter, "append", append)
            writer.submit([slot_of(writer.plan, SlotKey(0, 0))])

    with pytest.raises(StoreError, match="ledger is gone"):
        record()
    monkeypatch.undo()
    assert not RunReader(folder.path).committed().any()
    record_slots(folder, experiment, all_keys(experiment))
    assert verify(folder.path).written == 2


def test_wrong_groups_are_refused(tmp_path):
    experiment = make_experiment(timepoints=8, rate=4.0, channels=("a", "b"), positions=2)
    folder = begin(tmp_path / "run", experiment)
    plan = experiment.plan()
    key = SlotKey(0, 0)
    good, records = frames_of(plan, key), records_of(plan, key)
    pending, lost = records.copy(), records.copy()
    pending[0]["status"] = FrameStatus.PENDING
    lost[0]["status"] = FrameStatus.MISSING  # without a reason
    with RawWriter(folder, experiment) as writer:
        for group, match in (
            ([], "at least one"),
            ([slot_of(plan, SlotKey(8, 0))], "outside the plan"),
            ([slot_of(plan, SlotKey(0, 2))], "outside the plan"),
            ([(SlotKey(0, -1), good, records)], "outside the plan"),
            ([slot_of(plan, key), slot_of(plan, SlotKey(0, 1))], "one shard"),
            ([slot_of(plan, key), slot_of(plan, key)], "twice"),
            ([(key, good[:, :-1], records)], "the plan says"),
            ([(key, good.astype(np.int32), records)], "the plan says"),
            ([(key, good.transpose(0, 2, 1).copy().transpose(0, 2, 1), records)], "contiguous"),
            ([(key, good, records[:1])], "FRAME_RECORD"),
            ([(key, good, pending)], "neither written nor missing"),
            ([(key, good, lost)], "without a reason"),
        ):
            with pytest.raises(ValueError, match=match):
                writer.submit(group)
    assert not RunReader(folder.path).committed().any()


def test_an_existing_store_keeps_its_shards(tmp_path):
    experiment = make_experiment(timepoints=8, rate=4.0)
    folder = begin(tmp_path / "run", experiment)
    create_raw(folder.raw_store, experiment, experiment.pixel_um, 2)
    with RawWriter(folder, experiment) as writer:
        assert writer.timepoints_per_shard == 2
    with pytest.raises(RunFolderError, match="another experiment"):
        RawWriter(folder, make_experiment(timepoints=9, rate=4.0))


def test_stale_lock_files_are_removed_and_do_no_harm(tmp_path):
    experiment = make_experiment(timepoints=2, rate=1.0)
    folder = begin(tmp_path / "run", experiment)
    RawWriter(folder, experiment).close()
    array = folder.raw_store / "0"
    stale = array / "c.0.0.0.0.__lock"
    with RawWriter(folder, experiment) as writer:
        stale.write_bytes(bytes(10**6))  # longer than the shard, left while nobody looked
        writer.submit([slot_of(writer.plan, SlotKey(0, 0))]).wait()
    assert (array / "c.0.0.0.0").stat().st_size < 10**5
    stale.write_bytes(b"left over")
    RawWriter(folder, experiment).close()
    assert not stale.exists()
    assert verify(folder.path).mismatches == []


def test_a_damaged_part_is_not_copied_into_a_new_shard(tmp_path):
    experiment = make_experiment(timepoints=4, rate=4.0, compression="none")
    folder = begin(tmp_path / "run", experiment)
    record_slots(folder, experiment, [SlotKey(0, 0)])
    shard = folder.raw_store / "0" / "c.0.0.0.0"
    content = bytearray(shard.read_bytes())
    content[5] ^= 1
    shard.write_bytes(content)
    with (
        RawWriter(folder, experiment) as writer,
        pytest.raises(StoreError, match=r"timepoint 0, position 0 .* is damaged"),
    ):
        writer.submit([slot_of(writer.plan, SlotKey(1, 0))])


# A recorder that says what it has committed, until it is killed. `step` slots a write: 4 are whole
# shards; with 1, each shard is completed in four writes.
_WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from store_runs import SlotKey, make_experiment, slot_of
from pipeline.store.raw_writer import RawWriter
from pipeline.store.run_folder import RunFolder
experiment, step = make_experiment(**eval(sys.argv[3])), int(sys.argv[4])
with RawWriter(RunFolder(Path(sys.argv[1])), experiment) as writer:
    pending = []
    print("ready", flush=True)
    for start in range(0, experiment.plan().timepoints, step):
        keys = [SlotKey(t, 0) for t in range(start, start + step)]
        keys = [k for k in keys if not writer.is_committed(k)]
        if keys:
            pending.append((keys, writer.submit([slot_of(writer.plan, k) for k in keys])))
        while len(pending) > 3:
            keys, first = pending.pop(0)
            first.wait()
            print(*(k.timepoint for k in keys), flush=True)
"""
_LONG = {"timepoints": 3000, "rate": 4.0, "shape": (64, 64)}


def start_writer(folder, step):
    command = [sys.executable, "-c", _WRITER, str(folder.path), str(Path(__file__).parent)]
    command += [repr(_LONG), str(step)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("step", [4, 1])
def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path, step):
    experiment = make_experiment(**_LONG)
    folder = begin(tmp_path / "run", experiment)
    rng = np.random.default_rng(3)
    acknowledged = set()
    for _ in range(3):
        process = start_writer(folder, step)
        assert process.stdout.readline() == "ready\n"
        time.sleep(float(rng.uniform(0.05, 0.4)))
        process.send_signal(signal.SIGKILL)
        acknowledged |= {int(t) for t in process.communicate()[0].split()}
        assert process.returncode == -signal.SIGKILL
        report = verify(folder.path)
        assert report.mismatches == []
        committed = np.flatnonzero(RunReader(folder.path).committed()[:, 0])
        assert acknowledged <= set(committed)
        assert report.written == len(committed)
    assert acknowledged


def _look(path, stop, found):
    """Read the last committed slots over and over; count looks and torn ones."""
    reader = RunReader(Path(path))
    looks = torn = 0
    while not stop.is_set():
        reader.poll()
        for t in np.flatnonzero(reader.committed()[:, 0])[-4:]:
            frames, _ = reader.raw(SlotKey(int(t), 0))
            looks += 1
            torn += not np.array_equal(frames, frames_of(reader.plan, SlotKey(int(t), 0)))
    found.put((looks, torn))


def test_a_reader_beside_the_writer_sees_whole_slots_only(tmp_path):
    experiment = make_experiment(timepoints=120, rate=4.0, shape=(96, 128))
    folder = begin(tmp_path / "run", experiment)
    context = multiprocessing.get_context("spawn")
    stop, found = context.Event(), context.Queue()
    with RawWriter(folder, experiment) as writer:
        process = context.Process(target=_look, args=(str(folder.path), stop, found))
        process.start()
        # One slot after the other: each shard is written four times over while it is being read.
        for key in all_keys(experiment):
            writer.submit([slot_of(writer.plan, key)]).wait()
            time.sleep(0.005)
        time.sleep(0.3)
        stop.set()
        looks, torn = found.get(timeout=60)
        process.join()
    assert torn == 0
    assert looks > 20
