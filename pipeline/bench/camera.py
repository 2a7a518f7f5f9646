"""`livephase bench camera`: does the pipeline keep up with Micro-Manager's own frame loop?

The camera is Micro-Manager's DemoCamera with one fixed image and no exposure: it gives frames as fast
as the core's buffer takes them. Popping alone, in a process of its own, is the baseline.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from statistics import median
from typing import Any

from drivers.micromanager.connect import connect, disconnect
from pipeline.bench.recordings import run_quietly, warnings_of
from pipeline.experiment import Experiment, MicroManagerMicroscope, parse_experiment
from pipeline.lifecycle.run import RunResult
from pipeline.store.run_folder import RunFolder
from pipeline.store.verify import verify

# No exposure at all is what an experiment can't ask for.
_EXPOSURE_MS = 0.001
_EMPTY_S = 0.0002


@dataclass(frozen=True)
class CameraBench:
    """One frame size, in pairs of popping alone and the whole pipeline."""

    frame_shape: tuple[int, int]
    frames: int
    pairs: int = 3

    def experiment(self) -> Experiment:
        """Records as many frames as fast as the camera goes."""
        y, x = self.frame_shape
        return parse_experiment(
            {
                "name": "bench camera",
                "microscope": {
                    "driver": "micromanager",
                    "camera": {"shape_px": [y, x], "pixel_um": 6.5, "bit_depth": 16},
                    "devices": [{"label": "Camera", "library": "DemoCamera", "name": "DCam"}],
                    "setup": {
                        "Camera.PixelType": "16bit",
                        "Camera.BitDepth": 16,
                        "Camera.OnCameraCCDXSize": x,
                        "Camera.OnCameraCCDYSize": y,
                        "Camera.FastImage": 1,
                    },
                    "camera_device": "Camera",
                },
                "optics": {"wavelength_um": 0.55, "numerical_aperture": 0.4, "magnification": 10},
                "illumination": {
                    "source": "condenser",
                    "channels": {"brightfield": {"exposure_ms": _EXPOSURE_MS}},
                },
                "sequence": {"timepoints": self.frames},
            }
        )

    def measure(self, folder: Path) -> dict[str, Any]:
        """Frames a second of both, their ratio over the pairs, and what is missing."""
        experiment = self.experiment()
        alone, whole, missing, verified = [], [], 0, True
        warnings: set[str] = set()
        for pair in range(self.pairs):
            alone.append(popped_alone(experiment, self.frames))
            result = run_quietly(experiment, folder / f"run-{pair}")
            whole.append(_fps(result, self.frames))
            missing += self.frames - result.report["written"]
            verified &= verify(result.folder).ok
            warnings |= set(warnings_of(result))
        ratios = [w / a for w, a in zip(whole, alone, strict=True)]
        return {
            "frame_shape": list(self.frame_shape),
            "frames": self.frames,
            "popping_fps": round(median(alone), 1),
            "pipeline_fps": round(median(whole), 1),
            "ratio": round(median(ratios), 3),
            "ratios": [round(r, 3) for r in ratios],
            "missing": missing,
            "verified": verified,
            "warnings": sorted(warnings),
        }


_SIZES = (CameraBench((512, 512), 2000), CameraBench((2048, 2048), 300))


def bench_camera(folder: Path, sizes: tuple[CameraBench, ...] = _SIZES) -> dict[str, Any]:
    """Whole runs beside bare popping from Micro-Manager's buffer, at each size.

    Parameters
    ----------
    folder
        On the disk that the runs are written to, into a temporary folder.

    Returns
    -------
    dict
        ``ratio`` (the lowest of the sizes'), ``missing`` (frames, over all runs), ``sizes`` and the conditions.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    results = []
    with tempfile.TemporaryDirectory(prefix="livephase-bench-", dir=folder) as temporary:
        for size in sizes:
            with tempfile.TemporaryDirectory(dir=temporary) as own:
                results.append(size.measure(Path(own)))
    return {
        "ratio": min(r["ratio"] for r in results),
        "missing": sum(r["missing"] for r in results),
        "sizes": results,
        "conditions": {"cores": os.cpu_count(), "load_average_before": load},
    }


def popped_alone(experiment: Experiment, frames: int) -> float:
    """Frames a second of a process that pops and forgets."""
    context = multiprocessing.get_context("spawn")
    answer: SimpleQueue[float] = context.SimpleQueue()
    process = context.Process(target=_pop, args=(experiment, frames, answer))
    process.start()
    process.join()
    return answer.get()


def _pop(experiment: Experiment, frames: int, answer: SimpleQueue[float]) -> None:
    microscope = experiment.microscope
    assert isinstance(microscope, MicroManagerMicroscope)
    core = connect(microscope)
    core.set_exposure(_EXPOSURE_MS)
    # As the driver does it: the core takes a gigabyte when its buffer is first used, which is no popping.
    core.initialize_circular_buffer()
    began = time.perf_counter()
    core.start_sequence_acquisition(frames, 0.0, True)
    popped = 0
    while core.is_sequence_running() or core.get_remaining_image_count():
        if core.get_remaining_image_count():
            core.pop_next_tagged_image()
            popped += 1
        else:
            time.sleep(_EMPTY_S)
    answer.put(popped / (time.perf_counter() - began))
    disconnect(core, microscope)


def _fps(result: RunResult, frames: int) -> float:
    """From the order to begin until the last frame was in the ring, by the run's own log."""
    lines = RunFolder(result.folder).log.read_text(encoding="utf-8").splitlines()
    at = {
        r["state"]: datetime.fromisoformat(r["time"])
        for r in map(json.loads, lines)
        if r["message"] == "state"
    }
    return float(frames / (at["draining"] - at["running"]).total_seconds())
