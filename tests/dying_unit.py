"""What a worker of `test_reprocess` runs instead of a reconstruction; quick to import."""

from __future__ import annotations

import os


def dies_once(run, unit, threads=None):
    """Unit 1 takes its process down the first time, unit 2 fails, the others work."""
    marker = run / f"{unit.number}"
    if unit.number == 1 and not marker.exists():
        marker.touch()
        os._exit(9)
    if unit.number == 2:
        raise ValueError("no good")
    return unit.end - unit.begin
