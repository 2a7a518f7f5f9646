"""Frames a second of dl_srqpi on a GPU: the network alone, with all else that a slot takes, and of a whole run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.bench.recordings import recording_experiment, run_quietly, save_frames
from pipeline.bench.scene import noisy_frame
from pipeline.calibration import Calibration
from pipeline.experiment import Experiment, parse_experiment
from pipeline.frames import FrameStatus, empty_records
from pipeline.methods.dl_srqpi.fit import nearest_focus, true_conditions
from pipeline.methods.dl_srqpi.header import read_record
from pipeline.methods.dl_srqpi.inference import DlSrqpiReconstructor
from pipeline.methods.dl_srqpi.networks import build_network
from pipeline.methods.dl_srqpi.record import NetworkRecord
from pipeline.methods.dl_srqpi.weights import load_network, save_weights
from pipeline.stages.reconstruction import SlotReconstructor

# Frames come faster than any network takes them: what is measured is not the camera.
_PACE_HZ = 1000.0
_SOURCE_FRAMES = 32


@dataclass(frozen=True)
class GpuBench:
    """The measurement's size.

    Parameters
    ----------
    frames
        Of the computing alone.
    run_frames
        Timepoints of a short and of a long run; their difference has no start-up in it.
    """

    field_px: int = 512
    frames: int = 300
    run_frames: tuple[int, int] = (150, 450)

    def measure(
        self, experiment: Experiment, base: Path, paper: NetworkRecord, folder: Path
    ) -> dict[str, Any]:
        """Of the base network and of the paper's form.

        Parameters
        ----------
        experiment, base
            With optics that the weights `base` fit.
        folder
            Empty; the runs are written there.

        Returns
        -------
        dict
            By network ``{compute_fps, slot_fps, run_fps}``: from a tensor on the GPU to one; from raw counts to the
            phase and its quality, both in the host's memory; and from the ring to the written phase of a
            whole run. Or ``skipped``, with the reason.
        """
        if not torch.cuda.is_available():
            return {"skipped": "torch finds no CUDA device"}
        record = read_record(base)
        untrained = folder / "paper.safetensors"
        save_weights(build_network(paper), record.model_copy(update={"network": paper}), untrained)
        return {
            "device": torch.cuda.get_device_name(),
            **{
                name: {
                    **self.compute_rate(experiment, path),
                    **self.slot_rate(path),
                    **self.run_rate(path, folder / name),
                }
                for name, path in (("base", base), ("paper", untrained))
            },
        }

    def compute_rate(
        self, experiment: Experiment, weights: Path, device: str = "cuda"
    ) -> dict[str, float]:
        """Of the method alone: `compute_fps`."""
        network, record = load_network(weights)
        conditions = true_conditions(experiment, None, nearest_focus(experiment, record))
        live = DlSrqpiReconstructor(network, conditions, device)
        frame = torch.ones(1, 1, self.field_px, self.field_px, device=device)
        valid = torch.ones_like(frame, dtype=torch.bool)
        return {"compute_fps": self._rate(lambda: live(frame, valid), device)}

    def slot_rate(self, weights: Path, device: str = "cuda") -> dict[str, float]:
        """Of what the stage does with a slot, ring and store aside: `slot_fps`."""
        experiment = self.experiment(Path("frames.npy"), weights, 1, device)
        live = SlotReconstructor(experiment, Calibration())
        shape, rng = (self.field_px, self.field_px), np.random.default_rng(0)
        slots = cycle([noisy_frame(shape, rng)[None] for _ in range(_SOURCE_FRAMES)])
        records = empty_records(1)
        records["status"] = FrameStatus.WRITTEN
        return {"slot_fps": self._rate(lambda: live.reconstruct(next(slots), records), device)}

    def _rate(self, work: Callable[[], object], device: str) -> float:
        """Times a second, after as many to begin with: graphs are captured, memory is taken."""
        seconds = 0.0
        for _ in range(2):
            _wait(device)
            began = time.perf_counter()
            for _ in range(self.frames):
                work()
            _wait(device)
            seconds = time.perf_counter() - began
        return round(self.frames / seconds, 1)

    def run_rate(self, weights: Path, folder: Path, device: str = "cuda") -> dict[str, float]:
        """From the ring to the written phase: `run_fps`."""
        folder.mkdir()
        source = save_frames(folder / "frames.npy", _SOURCE_FRAMES, (self.field_px, self.field_px))
        seconds = []
        for frames in self.run_frames:
            began = time.perf_counter()
            run = folder / f"run{frames}"
            run_quietly(self.experiment(source, weights, frames, device), run)
            seconds.append(time.perf_counter() - began)
            # 22 MB for each frame's phase.
            shutil.rmtree(run)
        more = self.run_frames[1] - self.run_frames[0]
        return {"run_fps": round(more / (seconds[1] - seconds[0]), 1)}

    def experiment(self, source: Path, weights: Path, frames: int, device: str) -> Experiment:
        """A recording of `source` that is reconstructed live."""
        optics = read_record(weights).optics
        shape = (self.field_px, self.field_px)
        asked = recording_experiment(source, shape, 1, frames, _PACE_HZ).model_dump(mode="json")
        asked["microscope"]["camera"]["pixel_um"] = optics.pixel_um * 10
        asked["optics"] |= {
            "wavelength_um": optics.wavelength_um,
            "numerical_aperture": optics.numerical_aperture,
            "refractive_index": optics.refractive_index,
        }
        asked["illumination"]["coherence"] = optics.coherence_min
        asked["sequence"]["foci_um"] = [optics.z_um]
        asked["reconstruction"] |= {
            "method": "dl_srqpi",
            "weights": str(weights),
            "device": device,
        }
        return parse_experiment(asked)


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
