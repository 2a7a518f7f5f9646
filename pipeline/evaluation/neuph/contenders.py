"""What NeuPh is compared with, each given the frames that it asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.evaluation.neuph.fields import PatternField
from pipeline.evaluation.neuph.object_field import fitted_field
from pipeline.evaluation.neuph.ptychography import THOROUGH, Image, ptychography, stage_waves
from pipeline.evaluation.neuph.stage import Stage
from pipeline.methods.background import zero_background
from pipeline.methods.contract import Reconstructor
from pipeline.methods.dpc.reconstructor import load_dpc
from pipeline.methods.dpc.settings import DpcSettings
from pipeline.methods.fpm.solver import Effort
from pipeline.methods.neuph import NeuPhMethod
from pipeline.methods.neuph.fit import matching_frames, packaged, read_record
from pipeline.methods.neuph.record import PatternRecord
from pipeline.quality import align_piston, rmse_rad

NEUPH = "neuph"
TWO_AXES, ONE_AXIS = "dpc_two_axis", "dpc_one_axis"
MULTIPLEXED, OBJECT_FIELD = "fpm_multiplexed", "per_object_field"
NO_DARKFIELD = "ablation_no_darkfield"
ABLATIONS = {"ablation_cnn_decoder": "cnn_decoder", NO_DARKFIELD: "no_darkfield"}
"""The rows' names, and those of their networks."""
BASELINES = (TWO_AXES, ONE_AXIS, MULTIPLEXED, OBJECT_FIELD)
# Synthetic NAs of two trainings that are the same.
_SAME_NA = 0.01

# Settings that baselines choose from, on specimens of their own.
_REGULARISATIONS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
_EFFORTS = (
    *(Effort(2, n, recover_pupil=False, recover_light=False) for n in (0, 10, 40)),
    THOROUGH,
)


class Contenders:
    """All of them, loaded.

    Parameters
    ----------
    tuning
        Fields on which the baselines choose their settings.
    """

    def __init__(self, stage: Stage, tuning: Sequence[PatternField]) -> None:
        self._stage = stage
        self._own = len(stage.record.light.patterns)
        self._networks = {NEUPH: _Network(stage, stage.weights)}
        for row, network in ABLATIONS.items():
            path = _ablation(stage, network)
            if path is not None:
                self._networks[row] = _Network(stage, path)
        self._waves = stage_waves(stage, stage.lights(1.0)[: self._own])
        self.chosen: dict[str, Any] = {}
        self._dpc = {
            TWO_AXES: self._tuned_dpc(TWO_AXES, (0, 1, 2, 3), tuning),
            ONE_AXIS: self._tuned_dpc(ONE_AXIS, (0, 1), tuning),
        }
        errors = [
            np.mean([_error(self._multiplexed(f, effort), f) for f in tuning])
            for effort in _EFFORTS
        ]
        self._effort = _EFFORTS[int(np.argmin(errors))]
        self.chosen[MULTIPLEXED] = {
            "rounds": self._effort.rounds,
            "iterations": self._effort.iterations,
        }

    def __call__(self, name: str, field: PatternField) -> Image:
        """Phase ``[u·Y, u·X]`` of one contender."""
        table: Mapping[str, Callable[[PatternField], Image]] = {
            **self._networks,
            MULTIPLEXED: lambda f: self._multiplexed(f, self._effort),
            OBJECT_FIELD: self._object_field,
        }
        return table[name](field) if name in table else self._dpc[name](field)

    @property
    def ablations(self) -> dict[str, Path]:
        """Rows of which there are weights."""
        return {row: n.path for row, n in self._networks.items() if row != NEUPH}

    @property
    def patterns(self) -> tuple[PatternRecord, ...]:
        """Of NeuPh's frames, brightfield first."""
        return self._stage.record.light.patterns

    @property
    def network(self) -> Reconstructor:
        """NeuPh itself."""
        return self._networks[NEUPH].method

    def five(self, field: PatternField) -> torch.Tensor:
        """The frames that NeuPh gets, ``[K, Y, X]``."""
        return torch.from_numpy(field.frames[: self._own])

    def _tuned_dpc(
        self, name: str, halves: Sequence[int], tuning: Sequence[PatternField]
    ) -> Callable[[PatternField], Image]:
        indices = [self._stage.frames[self._own + h] for h in halves]
        used = [(self._stage.experiment.channel_names[k], 0) for k in indices]

        def loaded(regularisation: float) -> Callable[[PatternField], Image]:
            settings = DpcSettings(
                regularisation_phase=regularisation, upsampling=self._stage.upsampling
            )
            dpc = load_dpc(self._stage.experiment, Calibration(), settings, used, "cpu")

            def phase(field: PatternField) -> Image:
                frames = torch.from_numpy(field.frames[[self._own + h for h in halves]])[None]
                valid = torch.ones_like(frames, dtype=torch.bool)
                return dpc(frames, valid).images[0, 0].numpy()

            return phase

        candidates = {r: loaded(r) for r in _REGULARISATIONS}
        best = min(
            candidates, key=lambda r: float(np.mean([_error(candidates[r](f), f) for f in tuning]))
        )
        self.chosen[name] = {"regularisation": best}
        return candidates[best]

    def _multiplexed(self, field: PatternField, effort: Effort) -> Image:
        return ptychography(self._waves, self.five(field), effort)

    def _object_field(self, field: PatternField) -> Image:
        return zero_background(fitted_field(self._waves, self.five(field))).numpy()


class _Network:
    """Weights, and the frames of the stage that they take."""

    def __init__(self, stage: Stage, path: Path) -> None:
        self.path = path
        self.method = NeuPhMethod().load(stage.experiment, Calibration(), "cpu", path)
        taken = matching_frames(stage.experiment, Calibration(), read_record(path).light)
        self._frames = [stage.frames.index(k) for k in taken]

    def __call__(self, field: PatternField) -> Image:
        frames = torch.from_numpy(field.frames[self._frames])[None]
        valid = torch.ones_like(frames, dtype=torch.bool)
        return self.method(frames, valid).images[0, 0].numpy()


def _ablation(stage: Stage, network: str) -> Path | None:
    """The packaged weights of an ablation under the stage's light, of the same truth."""
    for path in packaged(network):
        record = read_record(path)
        truth_na = record.truth_na or record.light.synthetic_na
        if abs(truth_na - stage.record.light.synthetic_na) > _SAME_NA:
            continue
        try:
            matching_frames(stage.experiment, Calibration(), record.light)
        except ExperimentError:
            continue
        return path
    return None


def _error(image: Image, field: PatternField) -> float:
    return rmse_rad(align_piston(image, field.truth), field.truth)
