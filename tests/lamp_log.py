"""The simulated lamp's own log, as a witness of when the light was on."""

from __future__ import annotations

import json
import time


class LampLog:
    """What the simulated lamp wrote down: it stays as it is when the process that switched it dies."""

    def __init__(self, path):
        self.path = path

    def lines(self):
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def is_on(self):
        lines = self.lines()
        return bool(lines) and lines[-1]["on"]

    def dark_after(self, moment, timeout_s=20.0):
        """Seconds from a moment until the lamp went off and stayed off; 0 if it was dark."""
        deadline = time.monotonic() + timeout_s
        while self.is_on():
            assert time.monotonic() < deadline, "the light stayed on"
            time.sleep(0.01)
        return max(0.0, self.lines()[-1]["monotonic"] - moment)

    def intervals(self):
        """When it was on: (from, to)."""
        lines = self.lines()
        assert [line["on"] for line in lines] == [n % 2 == 0 for n in range(len(lines))]
        assert len(lines) % 2 == 0
        return [
            (a["monotonic"], b["monotonic"]) for a, b in zip(lines[::2], lines[1::2], strict=True)
        ]


def assert_dark_between_timepoints(times, lamp, most, without=frozenset()):
    """Each time that the light was on, it was for the frames of `most` timepoints.

    `times` [timepoint, …]: by the monotonic clock; `without`: timepoints that have no frame.
    """
    per_timepoint = times.reshape(len(times), -1)
    shown = set()
    for since, until in lamp.intervals():
        lit_for = ((per_timepoint >= since) & (per_timepoint <= until)).any(axis=1).nonzero()[0]
        assert len(lit_for) <= most
        shown |= set(lit_for.tolist())
    assert shown == set(range(len(times))) - without


def under_the_lamp(lamp, *, paced=True, **camera):
    """A microscope of tiny frames of nothing, quick to compute, whose lamp writes into this log."""
    return {
        "camera": {"shape_px": [16, 16], "binning": 1, **camera},
        "specimen": {"kind": "target", "shape": "blank"},
        "oversampling": 1,
        "paced": paced,
        "lamp_file": str(lamp.path),
    }
