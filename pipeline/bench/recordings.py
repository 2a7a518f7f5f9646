"""Experiments that only record, and their runs, as the benches need them."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.bench.scene import noisy_frame
from pipeline.experiment import Experiment, parse_experiment
from pipeline.lifecycle.run import RunResult, run_experiment
from pipeline.store.run_folder import RunFolder, RunState

# Enough for every ring that the benches need; a machine of four gigabytes still has it.
_RING_GB = 1.2


@dataclass(frozen=True)
class PacedRecording:
    """The size of a bench that records one channel at a camera's pace.

    Parameters
    ----------
    source_frames
        Different frames, which come over and over.
    """

    frame_shape: tuple[int, int]
    rate_hz: float
    seconds: float
    source_frames: int

    @property
    def frames(self) -> int:
        """How many are recorded."""
        return round(self.rate_hz * self.seconds)

    @property
    def most_bytes(self) -> int:
        """On the disk at any time."""
        frame_bytes = self.experiment(Path()).plan().slot_bytes
        return (self.frames + self.source_frames) * frame_bytes

    def experiment(self, source: Path) -> Experiment:
        """That records `source`."""
        return recording_experiment(source, self.frame_shape, 1, self.frames, self.rate_hz)

    def prepare(self, folder: Path) -> Experiment:
        """The same, of frames that are made in `folder`."""
        return self.experiment(
            save_frames(folder / "frames.npy", self.source_frames, self.frame_shape)
        )


def recording_experiment(
    source: Path | str,
    frame_shape: tuple[int, int],
    channels: int,
    timepoints: int,
    rate_hz: float,
) -> Experiment:
    """16-bit frames of `source`, over and over, at this many frames a second, recorded only."""
    return parse_experiment(
        {
            "name": "bench",
            "microscope": {
                "driver": "replay",
                "source": str(source),
                "pace": rate_hz,
                "loop": True,
                "camera": {
                    "shape_px": list(frame_shape),
                    "pixel_um": 6.5,
                    "bit_depth": 16,
                    "frame_rate_hz": rate_hz,
                },
            },
            "optics": {"wavelength_um": 0.55, "numerical_aperture": 0.4, "magnification": 10},
            "illumination": {
                "source": "condenser",
                "channels": {f"channel {c}": {"exposure_ms": 1} for c in range(channels)},
            },
            "sequence": {"timepoints": timepoints},
            "reconstruction": {"method": "none"},
            "output": {"ring_gb": _RING_GB},
        }
    )


def save_frames(path: Path, frames: int, frame_shape: tuple[int, int]) -> Path:
    """A .npy of that many different frames ``[t, y, x]``; just written, it is in memory."""
    rng = np.random.default_rng(0)
    shape = (frames, *frame_shape)
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint16, shape=shape)
    for frame in file:
        frame[:] = noisy_frame(frame_shape, rng)
    file.flush()
    return path


def run_quietly(experiment: Experiment, out: Path) -> RunResult:
    """Run to the end without a word.

    Raises
    ------
    LivephaseError
        The run could not begin, or failed.
    KeyboardInterrupt
        The user stopped it.
    """
    with contextlib.redirect_stderr(io.StringIO()):
        result = run_experiment(experiment, out)
    if result.error is not None:
        raise result.error
    if result.state is not RunState.DONE:
        # The run has taken the signal for its own and ended in good order.
        raise KeyboardInterrupt
    return result


def warnings_of(result: RunResult) -> list[str]:
    """What the run had to say, in a word: that it could not keep its pace, say."""
    lines = RunFolder(result.folder).log.read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [r["message"] for r in records if r["level"] == "warning"]
