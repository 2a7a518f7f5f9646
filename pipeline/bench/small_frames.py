"""Whether small frames at a high rate are all stored, in a run as users have it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bench.recordings import PacedRecording, run_quietly, warnings_of


@dataclass(frozen=True)
class SmallFramesBench(PacedRecording):
    """The measurement's size: one channel, from memory."""

    frame_shape: tuple[int, int] = (512, 512)
    rate_hz: float = 200.0
    seconds: float = 60.0
    source_frames: int = 300

    def measure(self, folder: Path) -> dict[str, Any]:
        """Measure in an empty folder.

        Returns
        -------
        dict
            ``small_frames`` ``{fps, missing}``, both from the ledger, and the conditions.
        """
        result = run_quietly(self.prepare(folder), folder / "run")
        report = result.report
        return {
            "small_frames": {
                "fps": report["fps"],
                "missing": report["planned"] - report["written"],
                "written": report["written"],
                "rate_hz": self.rate_hz,
                "seconds": self.seconds,
                "frame_shape": list(self.frame_shape),
                "warnings": warnings_of(result),
            }
        }
