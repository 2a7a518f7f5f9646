"""The experiment: one strict model of everything that a run is."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationInfo, model_validator

from pipeline.experiment.care import Care
from pipeline.experiment.control import OnlineControl
from pipeline.experiment.fingerprint import chosen_content
from pipeline.experiment.illumination import Illumination, LedIllumination
from pipeline.experiment.micromanager import MicroManagerMicroscope
from pipeline.experiment.microscope import Microscope
from pipeline.experiment.one_by_one import expand_one_by_one
from pipeline.experiment.optics import Optics
from pipeline.experiment.reconstruction import OutputSettings, ReconstructionSettings
from pipeline.experiment.safety import Recovery, Safety
from pipeline.experiment.sequence import Sequence, from_useq, is_useq
from pipeline.experiment.strict import Strict, nearest
from pipeline.frames import Plan, PlannedChannel, Position


class CalibrationSource(Strict):
    """Where the instrument's calibration comes from."""

    source: Literal["none", "simulator", "folder"] = "none"
    """none: nominal values, and every result says "uncalibrated". simulator: the simulated instrument's true one."""
    folder: str | None = None
    """Of `livephase calibrate`, relative to the experiment file."""
    exposures: Literal["experiment", "calibrated"] = "experiment"
    """calibrated: the exposure times that `livephase calibrate exposure` found, where it found one."""

    @model_validator(mode="after")
    def _folder_goes_with_folder(self) -> Self:
        if (self.source == "folder") != (self.folder is not None):
            raise ValueError("give `folder:` with `source: folder`, and only then")
        if self.exposures == "calibrated" and self.source != "folder":
            raise ValueError("exposures: calibrated needs `source: folder`")
        return self


class Experiment(Strict):
    """An experiment: instrument, optics, light, sequence, reconstruction, output."""

    name: str = "experiment"
    microscope: Microscope
    optics: Optics
    illumination: Illumination
    sequence: Sequence
    calibration: CalibrationSource = Field(default_factory=CalibrationSource)
    safety: Safety = Field(default_factory=Safety)
    recovery: Recovery = Field(default_factory=Recovery)
    control: OnlineControl = Field(default_factory=OnlineControl)
    reconstruction: ReconstructionSettings = Field(default_factory=ReconstructionSettings)
    output: OutputSettings = Field(default_factory=OutputSettings)
    care: Care = Field(default_factory=Care)

    @model_validator(mode="before")
    @classmethod
    def _accept_shorthands(cls, data: Any) -> Any:
        data = expand_one_by_one(data)
        if not (isinstance(data, dict) and is_useq(data.get("sequence"))):
            return data
        sequence, exposures = from_useq(data["sequence"])
        data = {**data, "sequence": sequence}
        illumination = data.get("illumination")
        if exposures and isinstance(illumination, dict):
            channels = dict(illumination.get("channels") or {})
            for name, exposure_ms in exposures.items():
                if isinstance(channels.get(name), dict):
                    channels[name] = {**channels[name], "exposure_ms": exposure_ms}
            data["illumination"] = {**illumination, "channels": channels}
        return data

    @model_validator(mode="after")
    def _hangs_together(self, info: ValidationInfo) -> Self:  # noqa: ARG002
        known = self.illumination.channels
        for name in self.sequence.channels:
            if name not in known:
                raise ValueError(
                    f"sequence names the unknown channel '{name}': {nearest(name, known)}"
                )
        if len(set(self.sequence.channels)) != len(self.sequence.channels):
            raise ValueError(
                "sequence.channels names a channel twice: each channel is taken once a slot"
            )
        if isinstance(self.illumination, LedIllumination):
            for channel in self.channel_names:
                pattern = known[channel].pattern
                assert pattern is not None
                if self.illumination.leds(pattern, self.optics.numerical_aperture).size == 0:
                    reach = float(np.hypot(*self.illumination.array.sines().T).max())
                    raise ValueError(
                        f"pattern '{pattern}' lights no LED: the array reaches NA {reach:.3f}; "
                        "check na_min and na_max, pitch_mm and distance_mm"
                    )
        if isinstance(self.microscope, MicroManagerMicroscope):
            self._light_is_mapped(self.microscope)
        self._probe_can_be_taken()
        if self.calibration.source == "simulator" and self.microscope.driver != "simulator":
            raise ValueError("calibration.source: simulator needs microscope.driver: simulator")
        return self

    def _probe_can_be_taken(self) -> None:
        """A channel that is there, on a microscope that has a focus to move."""
        probe = self.control.probe
        if probe is None:
            return
        if probe.channel is not None and probe.channel not in self.channel_names:
            raise ValueError(
                f"control.probe.channel: '{probe.channel}' is not taken: {nearest(probe.channel, self.channel_names)}"
            )
        if self.microscope.driver == "replay":
            raise ValueError(
                "control.probe needs a microscope: a recording has no other foci to take"
            )
        if isinstance(self.microscope, MicroManagerMicroscope):
            lens = self.microscope.lens
            if lens is None:
                raise ValueError(
                    "control.probe needs microscope.lens: which device moves the focus?"
                )
            for focus_um in probe.foci_um:
                at = lens.position(focus_um)
                if lens.limits is not None and not lens.limits[0] <= at <= lens.limits[1]:
                    raise ValueError(
                        f"control.probe.foci_um: {focus_um} µm is position {at:g} of the lens, beyond its limits "
                        f"{lens.limits[0]:g} to {lens.limits[1]:g}"
                    )

    def _light_is_mapped(self, microscope: MicroManagerMicroscope) -> None:
        """Every channel has its value, and every focus its place."""
        light, lens = microscope.light, microscope.lens
        for name in self.channel_names:
            channel = self.illumination.channels[name]
            if light is not None and channel.brightness > 0 and name not in light.values:
                raise ValueError(
                    f"microscope.light.values has no value for channel '{name}': {nearest(name, light.values)}"
                )
            dims = light is not None and light.brightness is not None
            if not dims and channel.brightness not in (0, 1):
                raise ValueError(
                    f"channel '{name}' has brightness {channel.brightness}, but nothing dims the light: "
                    "give microscope.light.brightness, or use exposure_ms"
                )
        if lens is None and self.sequence.foci_um != (0.0,):
            raise ValueError(
                "sequence.foci_um needs microscope.lens: which device moves the focus?"
            )
        if lens is not None and lens.limits is not None:
            for focus_um in self.sequence.foci_um:
                if not lens.limits[0] <= lens.position(focus_um) <= lens.limits[1]:
                    raise ValueError(
                        f"focus {focus_um} µm is position {lens.position(focus_um):g} of the lens, "
                        f"beyond its limits {lens.limits[0]:g} to {lens.limits[1]:g}"
                    )

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The channels that are taken, in the order of exposure."""
        return self.sequence.channels or tuple(self.illumination.channels)

    @property
    def pixel_um(self) -> float:
        """Nominal edge of a camera pixel (after binning) at the sample."""
        camera = self.microscope.camera
        return camera.pixel_um * camera.binning / self.optics.magnification

    @property
    def field_sampling_um(self) -> float:
        """Largest pixel at the sample that still samples the objective's passband, λ / 2NA."""
        return 0.5 / self.optics.cutoff_per_um

    def slot_s(self) -> float:
        """Least seconds that one slot takes: each frame its exposure, or as long as the camera needs."""
        channels = self.plan().channels
        readout_s = self.microscope.camera.readout_s
        return sum(c.frame_s(readout_s) for c in channels) * len(self.sequence.foci_um)

    def plan(self) -> Plan:
        """Every frame that this experiment asks for."""
        s = self.sequence
        lights = self.illumination.channels
        return Plan(
            timepoints=s.timepoints,
            positions=tuple(
                Position(p.name or f"position {i}", p.x_um, p.y_um)
                for i, p in enumerate(s.positions)
            ),
            channels=tuple(
                PlannedChannel(n, lights[n].exposure_ms, lights[n].brightness)
                for n in self.channel_names
            ),
            foci_um=s.foci_um,
            frame_shape=self.microscope.camera.shape_px,
            bit_depth=self.microscope.camera.bit_depth,
            interval_s=s.interval_s,
            slot_order=s.slot_order,
            frame_order=s.frame_order,
        )

    def fingerprint(self) -> str:
        """sha256 of everything that decides what the run holds; machine settings (device, workers, care, …) do not.

        A field that a later version adds, with a default, leaves it as it is (`chosen_content`).
        """
        content = chosen_content(self)
        content.pop("care", None)
        for section, machine in (
            ("reconstruction", ("device", "workers")),
            ("output", ("ring_gb", "prometheus_port")),
            ("recovery", ("slot_tries", "reconnect_s")),
        ):
            chosen = content.pop(section, {})
            chosen = {key: value for key, value in chosen.items() if key not in machine}
            if chosen:
                content[section] = chosen
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
