"""The live path on frames of the independent forward model: raw counts in, phase and its quality out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.calibration import Calibration
from pipeline.evaluation.trust.plan import Camera
from pipeline.experiment import Condenser, Experiment
from pipeline.frames import FrameStatus, empty_records
from pipeline.stages.reconstruction import SlotReconstructor

Floats = NDArray[np.float32]
Raw = NDArray[np.uint16]

# Counts of the background, and those at which a pixel is full: bright peaks of thick cells have room.
_LEVEL, _FULL = 10_000.0, 40_000.0


@dataclass(frozen=True)
class Conditions:
    """What a frame is taken with, as the instrument believes."""

    z_um: float
    coherence: float
    camera: Camera
    z_scale_sigma: float = 0.0


class LiveInstrument:
    """Reconstructs and judges frames ``[Y, X]``, background 1, exactly as a run does, over the whole field."""

    def __init__(
        self, experiment: Experiment, weights: Path, side: int, conditions: Conditions
    ) -> None:
        camera = experiment.microscope.camera.model_copy(
            update={"shape_px": (side, side), "bit_depth": 16}
        )
        light = experiment.illumination
        assert isinstance(light, Condenser)  # dl_srqpi refuses any other
        reconstruction = experiment.reconstruction.model_copy(
            update={"method": "dl_srqpi", "weights": str(weights), "device": "cpu"}
        )
        experiment = experiment.model_copy(
            update={
                "microscope": experiment.microscope.model_copy(update={"camera": camera}),
                "illumination": light.model_copy(update={"coherence": conditions.coherence}),
                "sequence": experiment.sequence.model_copy(update={"foci_um": (conditions.z_um,)}),
                "reconstruction": reconstruction,
            }
        )
        self._camera = conditions.camera
        channels = [c.name for c in experiment.plan().channels]
        calibration = Calibration(
            dark={c: np.zeros((), np.float32) for c in channels},
            flat={c: np.full((), _LEVEL, np.float32) for c in channels},
            gain_e_per_count=conditions.camera.background_e / _LEVEL,
            read_noise_e=conditions.camera.read_noise_e,
            saturation_counts=_FULL,
            z_scale=1.0,
            z_scale_sigma=conditions.z_scale_sigma,
            z_zero_um=0.0,
            z_zero_sigma_um=0.0,
            source="evaluation",
        )
        self._live = SlotReconstructor(experiment, calibration, whole_field=True)
        self._records = empty_records(experiment.plan().frames_per_slot)
        self._records["status"] = FrameStatus.WRITTEN
        self._slot = experiment.plan().slot_shape

    def raw(self, frame: Floats, rng: np.random.Generator, brighter: float = 1.0) -> Raw:
        """Counts of a frame, with noise, under so much more light than it was calibrated for.

        Read noise has a stream of its own: the same for the same `rng`, whatever the frame.
        """
        camera = self._camera
        shot, read = rng.spawn(2)
        light = np.maximum(frame, 0) * (brighter * camera.background_e)
        electrons = shot.poisson(light) + read.normal(0, camera.read_noise_e, frame.shape)
        counts = np.rint(electrons * (_LEVEL / camera.background_e))
        return np.clip(counts, 0, _FULL).astype(np.uint16)

    def overexposed(self, frame: Floats, rng: np.random.Generator, share: float) -> Raw:
        """Counts when there is so much light that a share of the pixels is full."""
        brighter = _FULL / (_LEVEL * float(np.quantile(frame, 1 - share)))
        return self.raw(frame, rng, brighter)

    def reconstruct(self, raw: Raw) -> tuple[Floats, dict[str, float]]:
        """Phase ``[s·Y, s·X]`` and quality."""
        result = self._live.reconstruct(self._stack(raw), self._records)
        assert result is not None  # no frame is missing
        return result.images[0], result.quality

    def judge(self, raw: Raw, phase: Floats) -> dict[str, float]:
        """Quality of a phase that didn't come from this frame."""
        return self._live.judge(self._stack(raw), self._records, phase[None])

    def _stack(self, raw: Raw) -> Raw:
        return np.broadcast_to(raw, self._slot).copy()
