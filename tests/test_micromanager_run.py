"""Whole runs through Micro-Manager's own test devices: what is in the store is what was asked for."""

import contextlib
import json
import os
import signal
import sys
import time
from datetime import datetime

import pytest
from live_runs import LiveRun, livephase, report, write_experiment
from micromanager_devices import seq_experiment, seq_microscope
from pymmcore_plus.seq_tester import decode_image

from pipeline.bench.camera import CameraBench, bench_camera
from pipeline.frames import FrameStatus, MissingReason
from pipeline.stages.light_mark import LightMark
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunFolder
from pipeline.store.verify import verify

FOCI = (-2.0, 0.0, 3.0)
posix = pytest.mark.skipif(sys.platform == "win32", reason="stops processes the POSIX way")


def experiment(timepoints, **microscope):
    return seq_experiment(
        seq_microscope(lens={"sequencing": "hardware"}, **microscope),
        timepoints=timepoints,
        foci_um=FOCI,
        frame_order="zc",
    )


def decoded_as_asked(out):
    """How many stored frames say themselves that they saw the light and focus of their key; the others' reasons."""
    found = verify(out)
    assert found.ok, found.mismatches
    reader, asked = RunReader(out), RunFolder(out).experiment()
    plan, light = asked.plan(), asked.microscope.light
    right, reasons = 0, []
    for slot in plan.slot_keys():
        frames, records = reader.raw(slot)
        for key in plan.frame_keys(slot):
            k = plan.index(key)
            if records[k]["status"] != FrameStatus.WRITTEN:
                reasons.append(MissingReason(records[k]["reason"]))
                continue
            state = {(s.device, s.property): s.value for s in decode_image(frames[k]).current_state}
            assert state["TSwitcher-0", "Position"] == light.values[plan.channels[key.channel].name]
            assert state["TZStage-0", "ZPositionUm"] == plan.foci_um[key.focus]
            right += 1
    assert right + len(reasons) == plan.frames == found.written + found.missing
    return right, reasons


def test_micromanager_frames_are_stored_as_asked_for(tmp_path):
    path = write_experiment(tmp_path / "e.yaml", experiment(40))
    status, _, errors = livephase("run", path, "--out", tmp_path / "run")
    assert status == 0, errors
    right, reasons = decoded_as_asked(tmp_path / "run")
    assert (right, reasons) == (480, [])
    assert report(tmp_path / "run")["acquired"] == 480


@posix
def test_micromanager_overflow_is_survived_and_every_gap_recorded_to_the_frame(tmp_path):
    # 64 frames in the core's buffer, and an acquire stage that sleeps for longer than those take.
    slow = experiment(250, connection={"buffer_mb": 1})
    path = write_experiment(tmp_path / "e.yaml", slow)
    with LiveRun(path, tmp_path / "run") as run:
        for seen in (1, 60):
            run.wait_for(lambda seen=seen: run.committed() > seen)
            pid = run.stage_pid("acquire")
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.4)
            os.kill(pid, signal.SIGCONT)
        assert run.wait() == 0, run.errors()
        assert "overflow" in run.errors()
    right, reasons = decoded_as_asked(tmp_path / "run")
    # A frame popped out of a buffer that was full may have been written over: it counts as dropped.
    assert MissingReason.OVERFLOW in reasons
    assert set(reasons) <= {MissingReason.OVERFLOW, MissingReason.DROPPED}
    assert right > 2000


@posix
def test_micromanager_run_killed_and_resumed_has_every_frame_as_asked_for(tmp_path):
    path, out = write_experiment(tmp_path / "e.yaml", experiment(1800)), tmp_path / "run"
    # First the process that has the light on: the keeper connects to light and lens, and makes them safe.
    with LiveRun(path, out) as run:
        run.wait_for(lambda: run.committed() > 10)
        assert LightMark(out).is_set()
        moment = time.time()
        os.kill(run.stage_pid("acquire"), signal.SIGKILL)
        assert run.wait() != 0
        assert "the light was turned off" in run.errors()
    assert not LightMark(out).is_set()
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    (safe,) = [
        line for line in lines if line["message"] == "light off after the acquire stage died"
    ]
    assert safe["process"] == "light keeper"
    assert datetime.fromisoformat(safe["time"]).timestamp() - moment < 1.0
    # Then everything.
    with LiveRun(path, out, "--resume") as run:
        before = run.committed()
        run.wait_for(lambda: run.committed() > before)
        for pid in [run.process.pid, *run.stage_pids()]:
            # The camera may be ahead of storage, and have ended.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert run.committed() < 1800, "killed too late to show anything"
        run.process.wait()
    status, _, errors = livephase("run", path, "--out", out, "--resume")
    assert status == 0, errors
    right, reasons = decoded_as_asked(out)
    # On a machine that is out of breath the camera's buffer overflows: also that is recorded.
    assert set(reasons) <= {MissingReason.OVERFLOW, MissingReason.DROPPED}
    assert right > 5000


def test_micromanager_bench_counts_what_it_moves(tmp_path):
    result = bench_camera(tmp_path, (CameraBench((64, 96), 50, pairs=2),))
    (size,) = result["sizes"]
    assert result["missing"] == 0
    assert size["verified"] is True
    assert len(size["ratios"]) == 2
    assert size["popping_fps"] > 0
    assert result["ratio"] == size["ratio"] > 0
    assert list(tmp_path.iterdir()) == []
