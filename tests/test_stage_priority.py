"""Who waits for the camera, and who dies before it where memory runs out."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SHOW = """
import os, sys
from pathlib import Path
from pipeline.stages.priority import come_after_the_camera
come_after_the_camera(sys.argv[1])
print(os.nice(0), Path("/proc/self/oom_score_adj").read_text())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="how Linux chooses")
def test_the_camera_is_asked_first_and_dies_last():
    niceness, sooner_killed = {}, {}
    for stage in ("acquire", "record", "reconstruct-3"):
        shown = subprocess.run(
            [sys.executable, "-c", _SHOW, stage],
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        niceness[stage], sooner_killed[stage] = map(int, shown.stdout.split())
    for order in (niceness, sooner_killed):
        assert order["acquire"] <= order["record"] <= order["reconstruct-3"]
    assert sooner_killed["acquire"] < sooner_killed["record"] < sooner_killed["reconstruct-3"]
