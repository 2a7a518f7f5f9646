"""Where the contenders meet: the experiment at the size of a field, with the frames that each of them asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.calibration import Calibration
from pipeline.evaluation.neuph.fields import Light
from pipeline.experiment import Experiment, parse_experiment
from pipeline.methods.neuph.fit import light_record, matching_frames
from pipeline.methods.neuph.record import WeightsRecord
from pipeline.optics.illumination import channel_source

# Directions that DPC's half circles lie in, degrees.
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


def nominal_light(experiment: Experiment) -> str:
    """What the figures hold for, in words."""
    light = light_record(experiment, Calibration())
    leds = ", ".join(str(len(p.sines)) for p in light.patterns)
    return (
        f"NA {light.numerical_aperture:g} at {1000 * light.wavelength_um:g} nm, patterns of {leds} LEDs, "
        f"synthetic NA {light.synthetic_na:.2f}"
    )
