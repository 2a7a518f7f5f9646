"""Whether small frames at a high rate are all stored, in a run as users have it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bench.recordings import recording_experiment, run_quietly, save_frames, warnings_of
from pipeline.experiment import Experiment


@dataclass(frozen=True)
class SmallFramesBench:
    """The measurement's size: one channel, from memory."""

    frame_shape: tuple[int, int] = (512, 512)
    rate_hz: float = 200.0
    seconds: float = 60.0
    source_frames: int = 300

    @property
    def _frames(self) -> int:
        return round(self.rate_hz * self.seconds)

    def _experiment(self, source: Path) -> Experiment:
        return recording_experiment(source, self.frame_shape, 1, self._frames, self.rate_hz)

    @property
    def most_bytes(self) -> int:
        """On the disk at any time."""
        frame_bytes = self._experiment(Path()).plan().slot_bytes
        return (self._frames + self.source_frames) * frame_bytes

    def measure(self, folder: Path) -> dict[str, Any]:
        """Measure in an empty folder.

        Returns
        -------
        dict
            ``small_frames`` ``{fps, missing}``, both from the ledger, and the conditions.
        """
        source = save_frames(folder / "frames.npy", self.source_frames, self.frame_shape)
        result = run_quietly(self._experiment(source), folder / "run")
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
