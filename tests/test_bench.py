"""The benches on tiny sizes: what they count and what they leave behind, never how fast they were."""

import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.bench import durable, run_bench, stream
from pipeline.bench.durable import DurableBench
from pipeline.bench.handoff import HandoffBench
from pipeline.bench.scene import noisy_frame
from pipeline.bench.service import bench_service
from pipeline.bench.small_frames import SmallFramesBench
from pipeline.bench.stream import bench_stream
from pipeline.errors import ExperimentError, RunFolderError, StoreError
from pipeline.lifecycle.sessions import read_sessions
from pipeline.store.run_folder import RunFolder

SHARED = Path("/dev/shm")
DURABLE = DurableBench(frame_shape=(128, 192), channels=2, timepoints=9, pairs=2, rate_hz=8)
HANDOFF = HandoffBench(frame_shape=(96, 64), rate_hz=15, seconds=2.0, source_frames=3)
SMALL = SmallFramesBench(frame_shape=(64, 64), seconds=1.0, source_frames=7)


@pytest.fixture
def leftovers(monkeypatch):
    """Shared memory of this test's benches that is still there (where it shows as files)."""
    token = secrets.token_hex(4)
    monkeypatch.setattr(secrets, "token_hex", lambda size: token)
    return lambda: list(SHARED.glob(f"livephase-{token}-*"))


def test_an_unknown_bench_is_refused_and_the_nearest_named(tmp_path):
    with pytest.raises(ExperimentError, match="did you mean 'stream'"):
        run_bench("straem", tmp_path)


def test_stream_measures_all_three_and_leaves_nothing(tmp_path, leftovers):
    result = bench_stream(tmp_path, (DURABLE, HANDOFF, SMALL))
    assert result["missing"] == 0
    assert result["durable"]["verified"] is True
    assert result["durable_ratio"] == pytest.approx(
        np.median(result["durable"]["ratios"]), abs=2e-3
    )
    assert len(result["durable"]["ratios"]) == DURABLE.pairs
    assert 1.0 < result["compression_ratio"] <= 1.6
    assert result["mb_per_s"] >= 0
    assert result["cpu_ms_per_mb"] > 0
    seen = result["handoff"]
    assert 0 <= seen["slots_passed_over"] < seen["slots"] == 30
    assert seen["missing"] == 0
    assert 0 < result["handoff_ms"]["p50"] <= result["handoff_ms"]["p99"] <= seen["max_ms"]
    assert result["handoff_ms"]["p50"] < seen["copied_ms"]["p50"]
    small = result["small_frames"]
    assert (small["missing"], small["written"]) == (0, 200)
    assert small["fps"] > 0
    assert list(tmp_path.iterdir()) == []
    assert leftovers() == []


def test_what_is_not_in_the_ledger_is_missing(tmp_path, monkeypatch):
    publish = durable._publish

    def lose_one(ring, key, timeout_s):
        return True if key.timepoint == 4 else publish(ring, key, timeout_s)

    monkeypatch.setattr(durable, "_write_files", lambda path, ring, plan: (path.mkdir(), 1.0)[1])
    monkeypatch.setattr(durable, "_publish", lose_one)
    result = DURABLE.measure(tmp_path)
    # Two channels, in each of the pairs and the one that warms up.
    assert result["missing"] == 2 * 3


def test_a_recorder_that_fails_ends_the_bench(tmp_path, monkeypatch, leftovers):
    def full(self, group):
        raise StoreError("the disk is full", "make space")

    monkeypatch.setattr(durable.RawWriter, "submit", full)
    with pytest.raises(StoreError, match="the disk is full"):
        bench_stream(tmp_path, (DURABLE,))
    assert list(tmp_path.iterdir()) == []
    assert leftovers() == []


def test_too_little_space_is_said_before_anything_is_written(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": DURABLE.most_bytes})
    monkeypatch.setattr(stream.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(RunFolderError, match="the bench needs") as error:
        bench_stream(tmp_path, (DURABLE,))
    assert "--folder" in error.value.fix
    assert list(tmp_path.iterdir()) == []


def test_an_absent_folder_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="absent"):
        bench_stream(tmp_path / "absent", (DURABLE,))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_cleans_up(tmp_path):
    code = (
        "from pathlib import Path\n"
        "from pipeline.bench.small_frames import SmallFramesBench\n"
        "from pipeline.bench.stream import bench_stream\n"
        "if __name__ == '__main__':\n"
        f"    bench_stream(Path({str(tmp_path)!r}), (SmallFramesBench((64, 64), 50.0, 60.0, 5),))\n"
    )
    script = tmp_path / "bench.py"
    script.write_text(code, encoding="utf-8")
    with subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE) as bench:
        deadline = time.monotonic() + 60
        while not any(p.stat().st_size > 100 for p in tmp_path.glob("*/*/run/raw.ledger")):
            assert bench.poll() is None, bench.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (run,) = tmp_path.glob("*/*/run")
        names = read_sessions(RunFolder(run))[-1].shared_memory.values()
        bench.send_signal(signal.SIGINT)
        errors = bench.communicate(timeout=30)[1]
    assert b"KeyboardInterrupt" in errors
    assert list(tmp_path.iterdir()) == [script]
    assert not any((SHARED / name).exists() for name in names)


def test_frames_have_structure_and_shot_noise():
    frame = noisy_frame((256, 320), np.random.default_rng(3)).astype(np.float64)
    assert frame.shape == (256, 320)
    assert frame.mean() == pytest.approx(8000, rel=0.1)
    # Second differences hold no structure, and the noise six times: 1, -2, 1.
    noise = np.diff(frame, n=2, axis=1).var() / 6
    assert noise == pytest.approx(frame.mean(), rel=0.1)
    smooth = frame.reshape(16, 16, 20, 16).mean(axis=(1, 3))
    assert smooth.std() > 3 * np.sqrt(frame.mean()) / 16


@pytest.mark.soak
@pytest.mark.timeout(240)
def test_service_measures_with_and_without_pages(tmp_path, leftovers):
    result = bench_service(tmp_path, HANDOFF, runs=1)
    assert result["missing"] == 0
    assert result["images"] > 5, "nine pages that look"
    assert 0 < result["handoff_ms"]["p50"] <= result["handoff_ms"]["p99"]
    assert len(result["conditions"]["p99_alone_ms"]) == 1
    assert not list(tmp_path.iterdir())
