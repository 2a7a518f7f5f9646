"""`verify` finds what is wrong and names it; what is right it counts."""

import json
import shutil

import numpy as np
import pytest
from store_runs import (
    SlotKey,
    all_keys,
    begin,
    make_experiment,
    reconstruct_slots,
    record_slots,
)

from pipeline.errors import RunFolderError
from pipeline.frames import FrameStatus, MissingReason
from pipeline.store.ledger import LedgerKind, LedgerWriter
from pipeline.store.phase_writer import PhaseWriter
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunState
from pipeline.store.verify import verify


@pytest.fixture
def experiment():
    return make_experiment(timepoints=6, rate=4.0, channels=("a", "b"), compression="none")


@pytest.fixture
def folder(tmp_path, experiment):
    """All slots recorded (shards of two), all but the one that lacks a frame reconstructed."""
    folder = begin(tmp_path / "run", experiment)
    missing = {SlotKey(3, 0): (1,)}
    keys = all_keys(experiment)
    record_slots(folder, experiment, keys, missing)
    reconstruct_slots(folder, experiment, [key for key in keys if key not in missing])
    folder.update(RunState.DONE)
    return folder


def ledger(folder, experiment, kind=LedgerKind.RAW, worker=0):
    path = folder.raw_ledger if kind is LedgerKind.RAW else folder.phase_ledger(worker)
    k = experiment.plan().frames_per_slot
    return LedgerWriter(path, kind, experiment.fingerprint(), k)


def flip(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def test_a_sound_run_is_counted(folder):
    report = verify(folder.path)
    assert report.ok
    assert (report.planned, report.written, report.missing, report.pending) == (12, 11, 1, 0)
    assert (report.reconstructed, report.state) == (5, RunState.DONE)
    assert report.missing_by_reason == {"dropped": 1}
    keys = {"ok", "planned", "written", "missing", "reconstructed", "mismatches"}
    assert keys <= json.loads(json.dumps(report.as_dict())).keys()


@pytest.mark.parametrize(
    ("state", "missing", "pending"),
    [(RunState.DONE, 0, 2), (RunState.STOPPED, 2, 0), (RunState.FAILED, 0, 2)],
)
def test_a_run_that_is_done_has_every_planned_slot(folder, experiment, state, missing, pending):
    size = experiment.plan().frames_per_slot
    with ledger(folder, experiment) as writer:
        records = writer.records
    folder.raw_ledger.unlink()
    with ledger(folder, experiment) as writer:
        for record in records[records["timepoint"] != 5]:
            writer.append(record[None])
    folder.phase_ledger(0).unlink()
    shutil.rmtree(folder.phase_store)
    folder.update(state)
    report = verify(folder.path)
    assert report.ok == (state is not RunState.DONE)
    expected = ["timepoint 5, position 0: not in the raw ledger, but the run is done"]
    assert report.mismatches == (expected if state is RunState.DONE else [])
    assert (report.missing - 1, report.pending) == (missing, pending)
    table = RunReader(folder.path).frame_table()[5, 0].ravel()
    assert table.size == size
    assert (table["reason"] == MissingReason.STOPPED).all() == (state is RunState.STOPPED)
    assert (table["status"] == FrameStatus.PENDING).all() == (state is not RunState.STOPPED)


def test_a_run_that_is_done_has_the_phase_of_every_whole_slot(tmp_path, experiment):
    folder = begin(tmp_path / "run", experiment)
    keys = all_keys(experiment)
    record_slots(folder, experiment, keys, {keys[1]: (0,)})
    reconstruct_slots(folder, experiment, keys[3:])
    assert verify(folder.path).ok  # so far
    folder.update(RunState.DONE)
    lacking = [
        f"timepoint {t}, position 0: no phase, although its frames are complete" for t in (0, 2)
    ]
    assert verify(folder.path).mismatches == lacking
    crcs = [int(RunReader(folder.path).raw_records.get(key)["pixels_crc"]) for key in keys]
    with PhaseWriter(folder, 0, experiment) as writer:
        writer.skip(keys[0], crcs[0])
        writer.skip(keys[2], crcs[2] ^ 1)  # of other frames than those that are stored
    reader = RunReader(folder.path)
    assert np.flatnonzero(reader.skipped()).tolist() == [0]
    assert reader.is_skipped(keys[0])
    assert not reader.is_skipped(keys[2])
    assert verify(folder.path).mismatches == lacking[1:]


def test_the_hint_is_the_command_that_goes_on(tmp_path, experiment):
    folder = begin(tmp_path / "run", experiment)
    assert "`livephase run … --resume` takes" in verify(folder.path).text(folder.path)
    folder.update(source="cells.tif")
    assert "`livephase reconstruct …` takes" in verify(folder.path).text(folder.path)


@pytest.mark.parametrize("state", [None, RunState.STOPPED, RunState.ABORTED, RunState.FAILED])
def test_frames_never_exposed_are_stopped_or_pending(tmp_path, experiment, state):
    folder = begin(tmp_path / "run", experiment)
    record_slots(folder, experiment, all_keys(experiment)[:4])
    if state:
        folder.update(state)
    report = verify(folder.path)
    assert report.ok
    assert report.planned == report.written + report.missing + report.pending
    if state in (RunState.STOPPED, RunState.ABORTED):
        assert (report.missing, report.pending) == (4, 0)
        assert report.missing_by_reason == {"stopped": 4}
    else:
        assert (report.missing, report.pending) == (0, 4)
        assert report.state is (state or RunState.INTERRUPTED)


def test_a_run_that_has_only_begun_is_all_pending(tmp_path, experiment):
    report = verify(begin(tmp_path / "run", experiment).path)
    assert report.ok
    assert (report.written, report.pending) == (0, 12)


def test_one_changed_byte_is_found_and_named(folder):
    flip(folder.raw_store / "0" / "c.1.0.0.0", 7)
    report = verify(folder.path)
    assert not report.ok
    assert report.mismatches == ["timepoint 2, position 0: the raw pixels don't fit their checksum"]


def test_truncated_and_absent_files_are_found(folder):
    shard = folder.raw_store / "0" / "c.0.0.0.0"
    shard.write_bytes(shard.read_bytes()[:-100])
    (folder.raw_store / "0" / "c.2.0.0.0").unlink()
    (folder.phase_store / "0" / "c.1.0.0.0").unlink()
    found = verify(folder.path).mismatches
    assert len(found) == 5
    for text, t in zip(found, (0, 1, 4, 5, 1), strict=True):
        assert text.startswith(f"timepoint {t}, position 0: ")
    assert "can't read" in found[0]
    assert "its file" in found[2]
    assert "phase file" in found[4]


def test_every_pyramid_level_is_checked(tmp_path):
    experiment = make_experiment(timepoints=2, shape=(300, 260), interval_s=1.0)
    folder = begin(tmp_path / "run", experiment)
    record_slots(folder, experiment, all_keys(experiment))
    reconstruct_slots(folder, experiment, all_keys(experiment))
    assert verify(folder.path).mismatches == []
    shard = folder.phase_store / "2" / "c.1.0.0.0"
    shard.write_bytes((folder.phase_store / "2" / "c.0.0.0.0").read_bytes())
    assert verify(folder.path).mismatches == [
        "timepoint 1, position 0: the phase pixels don't fit their checksum"
    ]
    shard.unlink()
    assert len(verify(folder.path).mismatches) == 1


@pytest.mark.parametrize("name", ["raw.ome.zarr", "phase.ome.zarr"])
def test_an_absent_store_is_a_mismatch(folder, name):
    shutil.rmtree(folder.path / name)
    (found,) = verify(folder.path).mismatches
    assert name in found


def test_a_time_axis_cut_too_short_is_a_mismatch(folder):
    path = folder.raw_store / "0" / "zarr.json"
    metadata = json.loads(path.read_text())
    metadata["shape"][0] = 5
    path.write_text(json.dumps(metadata))
    (found,) = verify(folder.path).mismatches
    assert found.startswith("timepoint 5, position 0: can't read")


def test_an_absent_or_damaged_ledger_is_a_mismatch(folder):
    flip(folder.raw_ledger, 80)
    report = verify(folder.path)
    assert not report.ok
    assert "record 0 of the ledger" in report.mismatches[0]
    folder.raw_ledger.unlink()
    report = verify(folder.path)
    assert "raw.ledger is absent, but the run is done" in report.mismatches[0]
    assert sum("reconstructed, but not in the raw ledger" in m for m in report.mismatches) == 5


def test_a_ledger_of_another_experiment_is_a_mismatch(folder, tmp_path):
    other = make_experiment(timepoints=7, rate=4.0, channels=("a", "b"), compression="none")
    foreign = begin(tmp_path / "other", other)
    record_slots(foreign, other, [SlotKey(0, 0)])
    shutil.copy(foreign.raw_ledger, folder.raw_ledger)
    report = verify(folder.path)
    assert not report.ok
    assert "another experiment" in report.mismatches[0]


def test_records_outside_the_plan_are_mismatches(folder, experiment):
    with ledger(folder, experiment) as writer:
        record = writer.records[:1].copy()
        record["timepoint"] = 6
        writer.append(record)
    report = verify(folder.path)
    assert report.mismatches == ["timepoint 6, position 0: in the raw ledger, but not in the plan"]
    assert report.written == 11


def test_records_that_disagree_are_mismatches(folder, experiment):
    with ledger(folder, experiment) as writer:
        record = writer.records[:1].copy()
        writer.append(record)  # the same again is none
        assert verify(folder.path).ok
        record["pixels_crc"] += 1
        writer.append(record)
    found = verify(folder.path).mismatches
    assert "timepoint 0, position 0: recorded twice, with different pixels" in found
    assert any("made from other raw pixels" in text for text in found)


def test_two_workers_that_claim_a_slot_are_a_mismatch(folder, experiment):
    with ledger(folder, experiment, LedgerKind.PHASE) as zero:
        record = zero.records[:1].copy()
    record["worker"] = 1
    record["pixels_crc"] += 1
    with ledger(folder, experiment, LedgerKind.PHASE, 1) as one:
        one.append(record)
    found = verify(folder.path).mismatches
    assert any("reconstructed differently by the workers 0 and 1" in text for text in found)


def test_a_phase_from_other_raw_pixels_is_a_mismatch(folder, experiment):
    with ledger(folder, experiment, LedgerKind.PHASE) as writer:
        record = writer.records[2:3].copy()
        record["raw_crc"] += 1
        writer.append(record)
    report = verify(folder.path)
    assert report.mismatches == [
        "timepoint 2, position 0: the phase was made from other raw pixels than those recorded"
    ]
    assert report.reconstructed == 4


def test_a_torn_tail_is_no_mismatch(tmp_path, experiment):
    folder = begin(tmp_path / "run", experiment)
    record_slots(folder, experiment, all_keys(experiment))
    whole = folder.raw_ledger.read_bytes()
    folder.raw_ledger.write_bytes(whole[:-5])
    report = verify(folder.path)
    assert report.mismatches == []
    assert report.pending == 2
    # It was never acknowledged: taken again on resume, the same slot is recorded anew.
    record_slots(folder, experiment, [SlotKey(5, 0)])
    assert verify(folder.path).pending == 0
    assert folder.raw_ledger.stat().st_size == len(whole)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="is no run folder"):
        verify(tmp_path)
    with pytest.raises(RunFolderError, match="is no run folder"):
        verify(tmp_path / "nowhere")


def test_a_missing_frame_must_be_zeros(folder, experiment):
    reader = RunReader(folder.path)
    record = reader.raw_records.get(SlotKey(3, 0))
    assert np.flatnonzero(record["frames"]["status"] == 2).tolist() == [1]
    frames, _ = reader.raw(SlotKey(3, 0))
    assert not frames[1].any()
    assert frames[0].any()
