"""The disk itself: order of durable writes, a full disk, a read-only folder. Linux only."""

import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from store_runs import SlotKey, all_keys, begin, make_experiment, record_slots, slot_of

from pipeline.errors import RunFolderError, StoreError
from pipeline.store.raw_writer import RawWriter
from pipeline.store.run_folder import RunFolder
from pipeline.store.verify import verify

_WRITE = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from store_runs import all_keys, make_experiment, reconstruct_slots, record_slots
from pipeline.store.run_folder import RunFolder
experiment = make_experiment(timepoints=3, interval_s=1.0, shape=(140, 130))
folder = RunFolder(Path(sys.argv[1]))
record_slots(folder, experiment, all_keys(experiment))
reconstruct_slots(folder, experiment, all_keys(experiment))
"""
_CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_data_rename_directory_ledger_reach_the_disk_in_this_order(tmp_path):
    experiment = make_experiment(timepoints=3, interval_s=1.0, shape=(140, 130))
    folder = begin(tmp_path / "run", experiment)
    trace = tmp_path / "trace"
    traced = "openat,rename,fsync,fdatasync,write"
    command = ["strace", "-f", "-y", "-s", "0", "-e", f"trace={traced}", "-o", str(trace)]
    command += [sys.executable, "-c", _WRITE, str(folder.path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Operation not permitted" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    order_of_shards(trace.read_text(), folder)


def order_of_shards(trace, folder):
    """Follow each shard through the calls of all threads."""
    stages = {}  # shard file → how far it is
    appended = {"raw.ledger": 0, "phase.0.ledger": 0}
    pending = {}
    for line in joined(trace):
        call = _CALL.match(line)
        if not call:
            continue
        name, arguments, result = call.groups()
        assert result != "-1" or name == "openat", line
        if name == "fsync" and ".__lock>" in arguments:
            stages[re.search(r"<(.*)\.__lock>", arguments)[1]] = "data"
        elif name == "rename" and ".__lock" in arguments:
            shard = re.findall(r'"([^"]*)"', arguments)[1]
            assert stages[shard] == "data", f"{shard} renamed before its data was on the disk"
            stages[shard] = "renamed"
        elif name == "fsync":
            directory = re.search(r"<(.*)>", arguments)[1]
            for shard, stage in stages.items():
                if stage == "renamed" and shard.rsplit("/", 1)[0] == directory:
                    stages[shard] = "durable"
        elif name == "write" and ".ledger>" in arguments:
            ledger = re.search(r"/([^/]*\.ledger)>", arguments)[1]
            store = "raw.ome.zarr" if ledger == "raw.ledger" else "phase.ome.zarr"
            written = int(result)
            mine = [stage for shard, stage in stages.items() if f"/{store}/" in shard]
            durable = sum(stage == "durable" for stage in mine)
            appended[ledger] += written // record_size(ledger)
            levels = 1 if ledger == "raw.ledger" else 2
            assert appended[ledger] * levels <= durable, f"{ledger} ran ahead of its shards"
            assert written % record_size(ledger) == 0
            pending[ledger] = True
        elif name == "fdatasync" and ".ledger>" in arguments:
            pending[re.search(r"/([^/]*\.ledger)>", arguments)[1]] = False
    assert appended == {"raw.ledger": 3, "phase.0.ledger": 3}
    assert pending == {"raw.ledger": False, "phase.0.ledger": False}
    assert len(stages) == 3 + 3 * 2
    assert set(stages.values()) == {"durable"}


def record_size(ledger):
    from pipeline.store.ledger import PHASE_RECORD, raw_record

    return raw_record(1).itemsize if ledger == "raw.ledger" else PHASE_RECORD.itemsize


def joined(trace):
    """Lines of calls, those that another thread's call interrupted put together at their end."""
    open_calls = {}
    for line in trace.splitlines():
        thread = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            open_calls[thread] = line.removesuffix("<unfinished ...>")
        elif " resumed>" in line:
            yield open_calls.pop(thread) + line.split(" resumed>", 1)[1]
        else:
            yield line


@contextmanager
def mounted(path, options):
    """A small filesystem in memory."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    if shutil.which("mount") is None:
        pytest.skip("there is no mount")
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a tmpfs")
def test_a_full_disk_says_so_keeps_what_is_there_and_is_resumed_from(tmp_path):
    experiment = make_experiment(
        timepoints=12, shape=(512, 512), interval_s=1.0, bit_depth=16, compression="none"
    )
    keys = all_keys(experiment)
    with mounted(tmp_path / "disk", "size=4m") as disk:
        (disk / "ballast").write_bytes(bytes(1_500_000))
        folder = begin(disk / "run", experiment)
        writer = RawWriter(folder, experiment)
        pendings = []

        def record():
            for key in keys:
                pendings.append(writer.submit([slot_of(writer.plan, key)]))
            writer.flush()

        with pytest.raises(StoreError) as failure:
            record()
        text = str(failure.value)
        assert "disk is full" in text
        assert str(folder.raw_store) in text
        assert "MB are free" in text
        assert text.endswith("make space, then --resume")
        with pytest.raises(StoreError, match="disk is full"):
            writer.submit([slot_of(writer.plan, keys[-1])])
        writer.close()
        outcomes = []
        for pending in pendings:
            try:
                outcomes.append(pending.done())
            except StoreError:
                outcomes.append(False)
        report = verify(folder.path)
        assert report.mismatches == []
        assert report.written == sum(outcomes) >= 2
        assert report.pending == 12 - report.written
        # Space is made: what is missing is written, and all of it fits.
        (disk / "ballast").unlink()
        subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
        written = RawWriter(folder, experiment)
        todo = [key for key in keys if not written.is_committed(key)]
        written.close()
        record_slots(folder, experiment, todo)
        report = verify(folder.path)
        assert (report.written, report.mismatches) == (12, [])
        assert not list(folder.raw_store.rglob("*.__lock"))


@pytest.mark.skipif(sys.platform != "linux", reason="needs a tmpfs")
def test_a_read_only_folder_is_refused_to_write_and_can_be_read(tmp_path):
    experiment = make_experiment(timepoints=2, interval_s=1.0)
    with mounted(tmp_path / "disk", "size=4m") as disk:
        folder = begin(disk / "run", experiment)
        record_slots(folder, experiment, [SlotKey(0, 0)])
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(RunFolderError, match="is read-only: give a folder"), folder.lock():
            pass
        with pytest.raises(RunFolderError, match="is read-only"), RunFolder(disk / "new").lock():
            pass
        with pytest.raises(RunFolderError, match="is read-only"):
            folder.update(note=1)
        with pytest.raises(StoreError, match="read-only"):
            RawWriter(folder, experiment)
        report = verify(folder.path)
        assert (report.written, report.mismatches) == (1, [])
