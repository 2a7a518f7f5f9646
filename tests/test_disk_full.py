"""The disk runs full in the middle of a run: said clearly, nothing committed is harmed, resume goes on."""

import os
import shutil
import subprocess
import sys

import pytest
from live_runs import LiveRun, contents, livephase, write_experiment

from pipeline.store.verify import verify

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="mounting needs root on Linux"
    ),
]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 700 MB: the preflight wants 500 MB to spare."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700m", "tmpfs", disk], check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def fill(disk, ballast):
    """Take all but a few kilobytes, while a run goes on taking some too."""
    with ballast.open("wb") as file:
        size = 0
        while (free := shutil.disk_usage(disk).free) > 16384:
            try:
                os.posix_fallocate(file.fileno(), size, free - 8192)
                size += free - 8192
            except OSError:
                continue  # the run was quicker


def test_a_disk_that_fills_up(tmp_path, small_disk, make_experiment):
    path = write_experiment(
        tmp_path / "e.yaml",
        make_experiment(
            microscope={
                "camera": {"shape_px": [64, 64], "binning": 1, "frame_rate_hz": 50},
                "specimen": {"kind": "target", "shape": "beads"},
            },
            sequence={"timepoints": 150, "foci_um": [-3.0, 3.0]},
            reconstruction={"method": "tie"},
            # It would pause before the disk is full.
            care={"suspend": []},
        ),
    )
    assert livephase("run", path, "--out", tmp_path / "calm")[0] == 0
    out = small_disk / "run"
    ballast = small_disk / "ballast"
    with LiveRun(path, out) as run:
        run.wait_for(lambda: run.committed() > 10)
        fill(small_disk, ballast)
        assert run.wait() != 0
    text = (small_disk / "run.stderr").read_text()
    assert "disk is full" in text
    assert "--resume" in text
    assert "Traceback" not in text
    ballast.unlink()
    found = verify(out)
    assert found.ok, found.mismatches
    assert 0 < found.written < found.planned
    status, _, errors = livephase("run", path, "--out", out, "--resume")
    assert status == 0, errors
    assert verify(out).ok
    assert contents(out) == contents(tmp_path / "calm")
