"""What NeuPh is compared with, each given the frames that it asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.evaluation.neuph.fields import Light, PatternField
from pipeline.evaluation.neuph.object_field import fitted_field
from pipeline.experiment import Experiment, parse_experiment
from pipeline.methods.background import zero_background
from pipeline.methods.contract import Reconstructor
from pipeline.methods.dpc.reconstructor import load_dpc
from pipeline.methods.dpc.settings import DpcSettings
from pipeline.methods.fpm.imaging import object_field
from pipeline.methods.fpm.solver import Effort, solve
from pipeline.methods.fpm.waves import Waves, make_waves
from pipeline.methods.neuph import NeuPhMethod
from pipeline.methods.neuph.fit import light_record, matching_frames, packaged, read_record
from pipeline.methods.neuph.record import PatternRecord, WeightsRecord
from pipeline.optics.illumination import channel_source
from pipeline.optics.unwrap import unwrap
from pipeline.quality import align_piston, rmse_rad

Image = NDArray[np.float32]

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
_EFFORTS = tuple(
    Effort(rounds, iterations, recover_pupil=False, recover_light=False)
    for rounds, iterations in ((2, 0), (2, 10), (2, 40), (10, 100))
)
_HALVES = {"right": 0, "left": 180, "top": 90, "bottom": 270}


@dataclass(frozen=True)
class Stage:
    """The experiment, at the size of a field, with the half circles of DPC beside its own patterns.

    Parameters
    ----------
    experiment
        With all of them as channels.
    frames
        Of the weights' patterns, then of the four half circles: indices of channels.
    """

    experiment: Experiment
    record: WeightsRecord
    weights: Path
    frames: tuple[int, ...]
    upsampling: int

    def lights(self, electrons: float) -> list[Light]:
        """Of `frames`: each with the electrons that its exposure gives it."""
        plan = self.experiment.plan()
        given, sines = [], []
        for k in self.frames:
            channel = plan.channels[k]
            source = channel_source(self.experiment, channel.name)
            sines.append(-source.frequencies.numpy() * self.experiment.optics.wavelength_um)
            given.append(channel.exposure_ms * channel.brightness * len(source.weights))
        return [Light(s, electrons * g / given[0]) for s, g in zip(sines, given, strict=True)]


def make_stage(experiment: Experiment, record: WeightsRecord, weights: Path, side: int) -> Stage:
    """See `Stage`. Raises `ExperimentError` if the weights don't fit the experiment."""
    data = with_half_circles(experiment)
    data["microscope"]["camera"]["shape_px"] = [side, side]
    data["calibration"] = {"source": "none"}
    data["sequence"]["foci_um"] = [record.light.z_um]
    whole = parse_experiment(data)
    own = matching_frames(whole, Calibration(), record.light)
    halves = range(len(experiment.channel_names), len(whole.channel_names))
    return Stage(whole, record, weights, (*own, *halves), record.training.upsampling)


def with_half_circles(experiment: Experiment) -> dict[str, Any]:
    """An experiment, to be parsed, whose last four channels are DPC's half circles."""
    data: dict[str, Any] = experiment.model_dump(mode="json")
    light = data["illumination"]
    exposure_ms = min(c["exposure_ms"] for c in light["channels"].values())
    for name, direction in _HALVES.items():
        half = {"kind": "half_circle", "direction_deg": direction, "axis": "one"}
        light["patterns"][f"half {name}"] = half
        light["channels"][f"half {name}"] = {"pattern": f"half {name}", "exposure_ms": exposure_ms}
    data["sequence"]["channels"] = [*experiment.channel_names, *(f"half {n}" for n in _HALVES)]
    return data


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
        self._waves = self._make_waves()
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

    def _make_waves(self) -> Waves:
        stage = self._stage
        names = [stage.experiment.channel_names[k] for k in stage.frames[: self._own]]
        sources = [channel_source(stage.experiment, name) for name in names]
        return make_waves(
            sources,
            stage.experiment.optics,
            stage.experiment.pixel_um,
            stage.experiment.plan().frame_shape,
            stage.upsampling,
            [stage.record.light.z_um] * len(sources),
        )

    def _multiplexed(self, field: PatternField, effort: Effort) -> Image:
        frames = self.five(field)
        with torch.inference_mode():
            found = solve(self._waves, frames, torch.ones_like(frames, dtype=torch.bool), effort)
            phase = unwrap(object_field(found.spectrum).angle())
            return zero_background(phase).numpy()

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


def nominal_light(experiment: Experiment) -> str:
    """What the figures hold for, in words."""
    light = light_record(experiment, Calibration())
    leds = ", ".join(str(len(p.sines)) for p in light.patterns)
    return (
        f"NA {light.numerical_aperture:g} at {1000 * light.wavelength_um:g} nm, patterns of {leds} LEDs, "
        f"synthetic NA {light.synthetic_na:.2f}"
    )
