"""The run folder: names, lock, state, and folders that are no run."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from store_runs import begin, make_experiment

from pipeline.errors import RunFolderError
from pipeline.store.run_folder import RunFolder, RunState

_HOLD = """
import sys
from pathlib import Path
from pipeline.store.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(path):
    """Another process holds the lock."""
    command = [sys.executable, "-c", _HOLD, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.communicate("")


def test_a_run_begins_and_is_found_again(tmp_path):
    experiment = make_experiment(positions=2)
    folder = RunFolder(tmp_path / "run")
    assert not folder.is_run()
    with folder.lock():
        folder.create(experiment)
        folder.update(shared_memory=["a", "b"], versions={"numpy": "2"})
        assert folder.state() is RunState.RUNNING
        folder.update(shared_memory=None)
        assert folder.info() == {"versions": {"numpy": "2"}}
    assert folder.experiment() == experiment
    assert folder.experiment().fingerprint() == experiment.fingerprint()
    with folder.lock(), pytest.raises(RunFolderError, match="holds a run already"):
        folder.create(experiment)


@pytest.mark.parametrize("state", [RunState.DONE, RunState.STOPPED, RunState.ABORTED])
def test_closed_states_stay(tmp_path, state):
    folder = begin(tmp_path / "run", make_experiment())
    folder.update(state, ended=1.5)
    assert RunFolder(folder.path).state() is state
    assert state.cut_short == (state is not RunState.DONE)
    assert folder.info() == {"ended": 1.5}
    assert not RunState.FAILED.cut_short
    assert not RunState.INTERRUPTED.cut_short


def test_a_running_run_that_nobody_holds_was_interrupted(tmp_path):
    folder = begin(tmp_path / "run", make_experiment())
    assert folder.state() is RunState.INTERRUPTED
    with held_elsewhere(folder.path):
        assert folder.state() is RunState.RUNNING
    assert folder.state() is RunState.INTERRUPTED
    with pytest.raises(ValueError, match="not a state to write"):
        folder.update(RunState.INTERRUPTED)


def test_a_folder_in_use_is_refused_with_its_process(tmp_path):
    folder = begin(tmp_path / "run", make_experiment())
    with held_elsewhere(folder.path) as process:
        with (
            pytest.raises(RunFolderError, match=f"in use by process {process.pid}: .*run"),
            folder.lock(),
        ):
            pass
        # Looking does not take the lock away.
        assert folder.in_use()


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_the_lock_goes_with_its_process(tmp_path):
    folder = begin(tmp_path / "run", make_experiment())
    with held_elsewhere(folder.path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with folder.lock():
            assert folder.in_use()


def refused(folder, match):
    with pytest.raises(RunFolderError, match=match), folder.lock():
        pass


def test_foreign_folders_are_refused_and_left_alone(tmp_path):
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "experiment.yaml").write_text("mine")
    refused(RunFolder(thesis), r"no run folder \(it holds experiment.yaml\)")
    assert [p.name for p in thesis.iterdir()] == ["experiment.yaml"]
    refused(RunFolder(tmp_path / "missing" / "run"), r"missing.* does not exist: make it")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(RunFolderError, match="is a file"), RunFolder(file).lock():
        pass
    with pytest.raises(RunFolderError, match="is no run folder"):
        RunFolder(tmp_path).experiment()


def test_an_empty_folder_and_a_beginning_cut_short_are_taken(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.lock():
        folder.update(RunState.RUNNING)  # as far as a creation may come
    assert not folder.is_run()
    with folder.lock():
        folder.create(make_experiment())
    assert folder.is_run()


def test_a_damaged_run_file_says_so(tmp_path):
    folder = begin(tmp_path / "run", make_experiment())
    for content in ("{", "[]", json.dumps({"state": "done"})):
        folder.run_file.write_text(content)
        with pytest.raises(RunFolderError, match=r"run\.json"):
            folder.state()


def test_phase_ledgers_are_found_by_worker(tmp_path):
    folder = RunFolder(tmp_path)
    for name in ("phase.0.ledger", "phase.11.ledger", "phase.x.ledger", "raw.ledger"):
        (tmp_path / name).touch()
    assert list(folder.phase_ledgers()) == [0, 11]
    assert folder.phase_ledger(3).name == "phase.3.ledger"
