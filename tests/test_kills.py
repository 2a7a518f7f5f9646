"""Processes are killed at random points, and nothing is lost, doubled or changed.

`pytest -m soak tests/test_kills.py` does it at length.
"""

import os
import random
import signal
import sys
import time

import pytest
from live_runs import LiveRun, contents, livephase, report, write_experiment

from pipeline.store.verify import verify

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="kills process groups the POSIX way"),
    pytest.mark.timeout(300),
]


def small(make_experiment, timepoints, rate_hz, **more):
    """Many small slots with two foci, two positions, and frames that the camera drops."""
    return make_experiment(
        name="kill test",
        microscope={
            "camera": {"shape_px": [48, 64], "binning": 1, "frame_rate_hz": rate_hz},
            "specimen": {"kind": "target", "shape": "beads"},
            "faults": {"drop_share": 0.01},
            **more,
        },
        sequence={
            "timepoints": timepoints,
            "foci_um": [-3.0, 3.0],
            "positions": [{"name": "a"}, {"name": "b", "x_um": 100.0, "y_um": 0.0}],
        },
        reconstruction={"method": "tie"},
        output={"shard_s": 0.2},
    )


# What undisturbed runs held, by their experiments: the tests share one.
_CALM = {}


@pytest.fixture
def undisturbed(tmp_path, make_experiment):
    """An experiment file and what an undisturbed run of it holds."""

    def make(timepoints, rate_hz):
        path = write_experiment(tmp_path / "e.yaml", small(make_experiment, timepoints, rate_hz))
        text = path.read_text(encoding="utf-8")
        if text not in _CALM:
            status, _, errors = livephase("run", path, "--out", tmp_path / "calm", timeout=600)
            assert status == 0, errors
            _CALM[text] = contents(tmp_path / "calm")
        return path, _CALM[text]

    return make


def assert_same(out, expected):
    found = verify(out)
    assert found.ok, found.mismatches
    assert found.planned == found.written + found.missing
    raw, phase = contents(out)
    assert raw.keys() == expected[0].keys()
    assert phase.keys() == expected[1].keys()
    assert raw == expected[0]
    assert phase == expected[1]


def kill_stages(path, out, expected, kills, seed):
    rng = random.Random(seed)
    killed = 0
    with LiveRun(path, out) as run:
        run.wait_for(lambda: run.committed() > 0)
        while killed < kills and not run.over:
            time.sleep(rng.uniform(0.05, 1.0))
            killed += run.kill_stage(rng.choice(["record", "reconstruct"]))
        assert killed == kills, f"the run was over after {killed} kills:\n{run.errors()}"
        assert run.wait(600) == 0, run.errors()
    assert_same(out, expected)
    figures = report(out)
    assert figures["reacquired"] == 0
    assert sum(figures["stages"]["sessions"][0]["restarts"].values()) == kills


def kill_runs(path, out, expected, kills, seed):
    rng = random.Random(seed)
    for n in range(kills):
        with LiveRun(path, out, "--resume") as run:
            before = run.committed()
            run.wait_for(lambda b=before, r=run: r.committed() > b)
            time.sleep(rng.uniform(0, 0.6))
            pids = run.stage_pids()
            if rng.random() < 0.5:
                run.kill()
            else:
                for pid in [*pids, run.process.pid]:
                    os.kill(pid, signal.SIGKILL)
            assert n or run.committed() < len(expected[0]), "killed too late to show anything"
    with LiveRun(path, out, "--resume") as run:
        assert run.wait(600) == 0, run.errors()
    assert_same(out, expected)


def test_record_and_reconstruct_are_killed(tmp_path, undisturbed):
    path, expected = undisturbed(timepoints=120, rate_hz=80)
    kill_stages(path, tmp_path / "run", expected, kills=2, seed=1)


def test_the_whole_run_is_killed_and_resumed(tmp_path, undisturbed):
    path, expected = undisturbed(timepoints=120, rate_hz=80)
    kill_runs(path, tmp_path / "run", expected, kills=2, seed=2)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_soak_thirty_kills_of_stages(tmp_path, undisturbed):
    path, expected = undisturbed(timepoints=4000, rate_hz=100)
    kill_stages(path, tmp_path / "run", expected, kills=32, seed=3)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_soak_ten_kills_of_the_run(tmp_path, undisturbed):
    path, expected = undisturbed(timepoints=2500, rate_hz=100)
    kill_runs(path, tmp_path / "run", expected, kills=11, seed=4)


def test_a_killed_acquire_stage_fails_the_run_and_resume_takes_the_torn_slot_again(
    tmp_path, undisturbed
):
    path, expected = undisturbed(timepoints=120, rate_hz=80)
    out = tmp_path / "run"
    with LiveRun(path, out) as run:
        run.wait_for(lambda: run.committed() > 10)
        assert run.kill_stage("acquire")
        assert run.wait() != 0
        assert "the light was turned off" in run.errors()
        assert "--resume" in run.errors()
    found = verify(out)
    assert found.ok, found.mismatches
    assert 0 < found.pending < found.planned
    # Everything that was complete in the ring is recorded and reconstructed.
    raw, phase = contents(out)
    assert raw.items() <= expected[0].items()
    assert phase.keys() == {k for k in raw if k in expected[1]}
    status, _, errors = livephase("run", path, "--out", out, "--resume")
    assert status == 0, errors
    assert_same(out, expected)


def test_orphans_end_and_write_nothing(tmp_path, make_experiment):
    path = write_experiment(tmp_path / "e.yaml", small(make_experiment, 2000, 80))
    out = tmp_path / "run"
    with LiveRun(path, out) as run:
        run.wait_for(lambda: run.committed() > 4 and len(run.stage_pids()) == 3)
        pids = run.stage_pids()
        run.kill()
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline and any(_alive(pid) for pid in pids):
        time.sleep(0.02)
    assert not any(_alive(pid) for pid in pids)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    time.sleep(1.0)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before
    found = verify(out)
    assert found.ok, found.mismatches
    assert found.state == "interrupted"


def _alive(pid):
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
