"""A run from the outside: begun, stopped, paused, resumed, refused."""

import json
import re
import signal
import sys
import time

import numpy as np
import pytest
from live_runs import LiveRun, contents, livephase, report, write_experiment

import pipeline
from pipeline.errors import LivephaseError
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunFolder, RunState
from pipeline.store.verify import verify

# Each of these starts the command a few times, and each start loads torch in two processes.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def experiment_file(tmp_path, make_experiment):
    """A small experiment on the simulator, two foci a timepoint, as a file."""

    def make(name="e.yaml", **changes):
        base = {
            "microscope": {
                "camera": {"shape_px": [64, 64], "binning": 1, "frame_rate_hz": 50},
                "specimen": {"kind": "target", "shape": "beads"},
            },
            "sequence": {"timepoints": 20, "foci_um": [-3.0, 3.0]},
            "reconstruction": {"method": "tie"},
        }
        from conftest import merged

        return write_experiment(tmp_path / name, make_experiment(**merged(base, changes)))

    return make


def test_a_run_is_stored_reconstructed_and_reported(tmp_path, experiment_file, cli):
    out = tmp_path / "run"
    status, text, errors = livephase("run", experiment_file(), "--out", out)
    assert status == 0, errors
    figures = report(out)
    assert figures["planned"] == figures["acquired"] == figures["written"] == 40
    assert figures["missing"] == figures["reacquired"] == 0
    assert figures["reconstructed"] == 20
    assert figures["state"] == "done"
    assert 0 < figures["first_result_s"] < 60
    assert figures["latency_ms"]["p50"] > 0
    assert figures["quality"]["images"] == 12
    assert figures["quality"]["rmse_rad"] < 0.5
    assert figures["uncalibrated"] == []
    assert verify(out).ok
    assert "run done" in text
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page
    assert "http" not in page.replace("http-equiv", "")
    status, text, _ = cli("verify", out, "--json")
    assert status == 0
    assert json.loads(text) | {
        "planned": 40,
        "written": 40,
        "missing": 0,
        "reconstructed": 20,
    } == json.loads(text)


def test_frames_that_drop_are_missing_with_their_reason_and_nothing_else_moves(
    tmp_path, experiment_file
):
    lost = [3, 10, 11]
    path = experiment_file(microscope={"faults": {"drop_frames": lost}})
    status, _, errors = livephase("run", path, "--out", tmp_path / "run")
    assert status == 0, errors
    whole = experiment_file("whole.yaml")
    assert livephase("run", whole, "--out", tmp_path / "whole")[0] == 0
    figures = report(tmp_path / "run")
    assert (figures["written"], figures["missing"]) == (37, 3)
    assert figures["missing_by_reason"] == {"dropped": 3}
    assert figures["reconstructed"] == 18  # two timepoints lack a focus
    table = RunReader(tmp_path / "run").frame_table().reshape(-1)
    assert np.flatnonzero(table["status"] == 2).tolist() == lost
    found, calm = contents(tmp_path / "run"), contents(tmp_path / "whole")
    hit = {n // 2 for n in lost}
    for key, content in calm[0].items():
        if key.timepoint not in hit:
            assert found[0][key] == content
            assert found[1][key] == calm[1][key]


def test_an_overflow_is_survived_to_the_frame(tmp_path, experiment_file):
    path = experiment_file(microscope={"faults": {"overflow_at_frame": [9]}})
    status, _, errors = livephase("run", path, "--out", tmp_path / "run")
    assert status == 0, errors
    figures = report(tmp_path / "run")
    # The rest of timepoint 4 and all of timepoint 5.
    assert figures["missing_by_reason"] == {"overflow": 3}
    assert figures["written"] == 37
    assert verify(tmp_path / "run").ok


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_stop_once_finishes_and_resume_goes_on(tmp_path, experiment_file):
    path = experiment_file(sequence={"timepoints": 100})
    assert livephase("run", path, "--out", tmp_path / "calm")[0] == 0
    out = tmp_path / "run"
    with LiveRun(path, out) as run:
        run.wait_for(lambda: run.committed() > 3)
        run.signal(signal.SIGINT)
        assert run.wait() == 0, run.errors()
    found = verify(out)
    assert found.ok
    assert found.state == "stopped"
    assert 0 < found.written < found.planned
    assert found.planned == found.written + found.missing
    assert found.missing_by_reason.keys() == {"stopped"}
    assert found.reconstructed == found.written // 2
    assert RunReader(out).folder.state() is RunState.STOPPED
    status, _, errors = livephase("run", path, "--out", out, "--resume")
    assert status == 0, errors
    assert contents(out) == contents(tmp_path / "calm")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM for one process")
def test_stop_twice_leaves_the_backlog_to_resume(tmp_path, experiment_file, slow_method):
    path = experiment_file(
        sequence={"timepoints": 60, "foci_um": [0.0]}, reconstruction={"method": "slow"}
    )
    out = tmp_path / "run"
    with LiveRun(path, out) as run:
        run.wait_for(lambda: run.committed() >= 30)
        run.signal(signal.SIGTERM)
        time.sleep(0.3)
        run.signal(signal.SIGTERM)
        assert run.wait() == 0, run.errors()
    found = verify(out)
    assert found.ok
    assert found.state == "stopped"
    assert found.reconstructed < found.written
    status, _, errors = livephase("run", path, "--out", out, "--resume")
    assert status == 0, errors
    assert verify(out).reconstructed == 60


def test_pause_turns_the_light_off_holds_the_clock_and_stores_what_there_is(
    tmp_path, experiment_file, cli
):
    path = experiment_file(sequence={"timepoints": 60, "interval_s": 0.1})
    out = tmp_path / "run"
    with LiveRun(path, out) as run:
        run.wait_for(lambda: run.committed() > 5)
        assert cli("pause", out)[0] == 0
        deadline = time.monotonic() + 10
        while json.loads(cli("status", out, "--json")[1])["state"] != "paused":
            assert time.monotonic() < deadline
        newest = pipeline.newest_phase(out)
        assert newest is not None
        assert newest.image.shape == (64, 64)
        assert pipeline.newest_phase(out, after=newest.time_ns) is None
        time.sleep(0.5)
        paused_at = run.committed()
        assert json.loads(cli("status", out, "--json")[1])["frames_acquired"] == 2 * paused_at
        time.sleep(1.0)
        assert run.committed() == paused_at
        assert cli("resume", out)[0] == 0
        assert run.wait() == 0, run.errors()
    assert verify(out).ok
    times = RunReader(out).frame_table()["time_monotonic"][:, 0, 0, 0]
    steps = np.diff(times)
    assert steps.max() > 1.5  # the pause
    assert np.median(steps) == pytest.approx(0.1, abs=0.05)
    # The clock was held: the timepoints after the pause are not crowded to catch up.
    assert (np.sort(steps)[:5] > 0.02).all()
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    held = [line["held_s"] for line in lines if line["message"] == "resumed"]
    assert len(held) == 1
    assert held[0] > 1.5


def test_abort_marks_the_run_and_only_an_explicit_word_goes_on(tmp_path, experiment_file, cli):
    path = experiment_file(sequence={"timepoints": 120})
    out = tmp_path / "run"
    with LiveRun(path, out) as run:
        run.wait_for(lambda: run.committed() > 3)
        assert cli("abort", out)[0] == 0
        run.wait()
    assert verify(out).state == "aborted"
    assert verify(out).ok
    status, _, errors = cli("run", path, "--out", out, "--resume")
    assert status != 0
    assert "aborted" in errors
    assert "--even-aborted" in errors
    assert livephase("run", path, "--out", out, "--resume", "--even-aborted")[0] == 0
    assert verify(out).state == "done"


def test_resume_of_what_is_done_says_so_and_of_another_experiment_is_refused(
    tmp_path, experiment_file, cli
):
    path = experiment_file(sequence={"timepoints": 2})
    out = tmp_path / "run"
    assert livephase("run", path, "--out", out, "--resume")[0] == 0  # absent: it starts
    status, text, _ = cli("run", path, "--out", out, "--resume")
    assert status == 0
    assert "run done" in text
    status, _, errors = cli("run", path, "--out", out)
    assert status != 0
    assert "--resume" in errors
    other = experiment_file("other.yaml", sequence={"timepoints": 3})
    status, _, errors = cli("run", other, "--out", out, "--resume")
    assert status != 0
    assert "another experiment" in errors


def test_a_run_folder_in_use_is_refused(tmp_path, experiment_file, cli):
    path = experiment_file(sequence={"timepoints": 300})
    out = tmp_path / "run"
    with LiveRun(path, out) as run:
        run.wait_for(lambda: run.committed() > 0)
        status, _, errors = cli("run", path, "--out", out, "--resume")
        assert status != 0
        assert re.search(r"in use by process \d+", errors)
        assert cli("verify", out)[0] == 0  # a look is free
        assert cli("stop", out)[0] == 0
        assert run.wait() == 0
    status, _, errors = cli("stop", out)
    assert status != 0
    assert "not going on" in errors


def test_a_camera_that_goes_away_keeps_what_there_is_and_resume_goes_on(tmp_path, experiment_file):
    path = experiment_file(
        microscope={"faults": {"disconnect_at_frame": 15}}, recovery={"reconnect_s": 0}
    )
    out = tmp_path / "run"
    status, _, errors = livephase("run", path, "--out", out)
    assert status != 0
    assert "Traceback" not in errors
    found = verify(out)
    assert found.state == "failed"
    assert found.ok
    assert found.written == 14
    assert livephase("run", path, "--out", out, "--resume")[0] == 0
    assert verify(out).written == 40


SLOW_METHOD = """
import time
import torch
from pipeline.frames import Measurement
from pipeline.methods.contract import Reconstruction


class Slow:
    name = "slow"

    def measurement(self, experiment):
        return Measurement(frames=(0,), accepts_aliasing=True)

    def load(self, experiment, calibration, device, weights):
        def reconstruct(frames, valid):
            time.sleep(0.2)
            return Reconstruction(frames - 1)

        return reconstruct
"""


@pytest.fixture
def slow_method(tmp_path, monkeypatch):
    """A third party's method, installed where every process finds it."""
    site = tmp_path / "site"
    info = site / "slow_method-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "slow_method.py").write_text(SLOW_METHOD)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-method\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[livephase.methods]\nslow = slow_method:Slow\n")
    monkeypatch.setenv("PYTHONPATH", str(site))


def test_a_third_partys_method_ten_times_too_slow_does_not_slow_the_camera(
    tmp_path, experiment_file, slow_method
):
    # 50 timepoints a second, 5 reconstructions a second.
    path = experiment_file(
        sequence={"timepoints": 60, "foci_um": [0.0]}, reconstruction={"method": "slow"}
    )
    out = tmp_path / "run"
    status, _, errors = livephase("run", path, "--out", out)
    assert status == 0, errors
    figures = report(out)
    assert (figures["written"], figures["missing"], figures["reconstructed"]) == (60, 0, 60)
    assert figures["fps"] > 40
    done_after = RunReader(out).phase_records.last("time_utc").max()
    assert (
        done_after - RunReader(out).frame_table()["time_utc"].max() > 6
    )  # the backlog, afterwards


def test_metrics_are_served_while_the_run_goes_on(tmp_path, experiment_file):
    from urllib.request import urlopen

    path = experiment_file(sequence={"timepoints": 300}, output={"prometheus_port": 0})
    with LiveRun(path, tmp_path / "run") as run:
        run.wait_for(lambda: "metrics on http" in run.errors() and run.committed() > 5)
        url = re.search(r"http://\S+", run.errors()).group()
        with urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        run.signal(signal.SIGINT)
        run.wait()
    figures = dict(re.findall(r"^(livephase_\w+)(?:\{[^}]*\})? ([\d.e+-]+)$", text, re.MULTILINE))
    assert float(figures["livephase_frames_written_total"]) >= 10
    assert "livephase_frames_missing_total" in figures


def test_signals_reach_the_stages_only_through_the_supervisor(tmp_path, experiment_file):
    path = experiment_file(sequence={"timepoints": 100})
    out = tmp_path / "run"
    with LiveRun(path, out) as run:
        run.wait_for(lambda: len(run.stage_pids()) == 3 and run.committed() > 1)
        import os

        for pid in run.stage_pids():
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
        assert run.wait() == 0, run.errors()
    assert report(out)["written"] == 200
    assert report(out)["stages"]["sessions"][0]["restarts"] == {}
    assert RunFolder(out).state() is RunState.DONE


def light_is_on(out):
    """What the acquire stage says of its light; None while there is no telemetry."""
    from pipeline.telemetry import Telemetry

    try:
        with Telemetry.attach(
            RunFolder(out).info()["sessions"][-1]["shared_memory"]["telemetry"]
        ) as t:
            return bool(t.value("light_on"))
    except LivephaseError:
        return None


def test_an_abort_puts_the_light_out_though_the_camera_hangs(tmp_path, experiment_file, cli):
    path = experiment_file(microscope={"faults": {"stall_at_frame": 20, "stall_s": 200}})
    out = tmp_path / "run"
    with LiveRun(path, out) as run:
        run.wait_for(lambda: run.committed() >= 10)
        assert light_is_on(out)
        assert cli("abort", out)[0] == 0
        deadline = time.monotonic() + 2
        while light_is_on(out):
            assert time.monotonic() < deadline
        run.wait(60)  # the camera hangs on: its process is killed
        assert "does not end" in run.errors()
    assert verify(out).ok


@pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP is POSIX")
def test_a_frozen_acquire_stage_ends_at_the_third_ctrl_c_in_the_dark(tmp_path, experiment_file):
    import psutil

    path = experiment_file(sequence={"timepoints": 400})
    out = tmp_path / "run"
    with LiveRun(path, out) as run:
        run.wait_for(lambda: run.committed() >= 5)
        psutil.Process(run.stage_pid("acquire")).suspend()
        for _ in range(3):
            run.signal(signal.SIGINT)
            time.sleep(0.3)
        assert run.wait(60) != 0
        assert "the light was turned off" in run.errors()
    assert verify(out).ok
    lines = (out / "log.jsonl").read_text()
    assert "light off after the acquire stage died" in lines


def test_a_full_ring_and_a_dead_recorder_do_not_keep_the_light_on(tmp_path, experiment_file):
    # A ring of few slots fills while the recorder is frozen; orders are then obeyed all the same.
    import psutil

    path = experiment_file(
        sequence={"timepoints": 3000},
        microscope={"camera": {"shape_px": [256, 256], "frame_rate_hz": 200}, "paced": False},
        output={"ring_gb": 0.02, "shard_s": 0.02},
        reconstruction={"method": "none"},
    )
    out = tmp_path / "run"
    with LiveRun(path, out) as run:
        run.wait_for(lambda: run.committed() >= 5)
        recorder = psutil.Process(run.stage_pid("record"))
        recorder.suspend()
        run.wait_for(lambda: "the ring is full" in run.errors())
        run.signal(signal.SIGINT)
        deadline = time.monotonic() + 5
        while light_is_on(out):
            assert time.monotonic() < deadline
        recorder.resume()
        assert run.wait() == 0, run.errors()
    found = verify(out)
    assert found.ok
    assert found.state == "stopped"


def test_a_terminal_that_goes_away_does_not_end_the_run(tmp_path, experiment_file):
    import subprocess

    path = experiment_file(sequence={"timepoints": 100})
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", str(path), "--out", str(out)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    process.stderr.readline()
    process.stderr.close()
    assert process.wait(100) == 0
    assert verify(out).state == "done"
    assert verify(out).written == 200


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
def test_ctrl_c_at_a_terminal_while_the_stages_start(tmp_path, experiment_file):
    import os
    import subprocess

    path = experiment_file(sequence={"timepoints": 20})
    out = tmp_path / "run"
    with (tmp_path / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "run", str(path), "--out", str(out)],
            stderr=stderr,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while b"arming" not in (tmp_path / "stderr").read_bytes():
            assert time.monotonic() < deadline
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(100) == 0
    text = (tmp_path / "stderr").read_text()
    assert "Traceback" not in text
    assert "started again" not in text
    assert verify(out).state == "stopped"
    assert livephase("run", path, "--out", out, "--resume")[0] == 0


def test_a_closed_run_counts_what_was_never_stored_as_missing(tmp_path, experiment_file, cli):
    path = experiment_file(
        microscope={"faults": {"disconnect_at_frame": 15}}, recovery={"reconnect_s": 0}
    )
    out = tmp_path / "run"
    assert livephase("run", path, "--out", out)[0] != 0
    assert verify(out).pending == 26
    status, text, errors = cli("abort", out)
    assert status == 0, errors
    assert "closed" in text
    found = verify(out)
    assert found.ok
    assert (found.written, found.missing, found.pending) == (14, 26, 0)


def test_the_reconstruction_of_a_recording_is_not_resumed_as_a_run(tmp_path, experiment_file):
    path = experiment_file(sequence={"timepoints": 3})
    assert livephase("run", path, "--out", tmp_path / "run")[0] == 0
    again = tmp_path / "again"
    assert livephase("reconstruct", tmp_path / "run", "--experiment", path, "--out", again)[0] == 0
    status, _, errors = livephase("run", path, "--out", again, "--resume")
    assert status != 0
    assert "livephase reconstruct" in errors
