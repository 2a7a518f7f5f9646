"""A microscope that Micro-Manager drives: how to reach it, and which device plays which part.

Labels and properties are Micro-Manager's own. `livephase devices` lists those of a microscope.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pipeline.experiment.camera import Camera
from pipeline.experiment.strict import Strict


def _no_boolean(value: object) -> object:
    """YAML reads On and Yes as true: Micro-Manager, which knows only text, would be told 1."""
    if isinstance(value, bool):
        raise ValueError(
            "YAML reads On, Off, Yes and No as true and false: write the value in quotes, such as 'On'"
        )
    return value


# Micro-Manager's property values are text; YAML writes many of them as numbers.
Value = Annotated[str | int | float, BeforeValidator(_no_boolean)]
Settings = dict[str, Value]
"""``Device.Property`` → value, set in this order."""


class AdapterDevice(Strict):
    """One device of a device map: what a line group of a Micro-Manager `.cfg` file says of it."""

    label: str
    """The name by which everything else here calls it."""
    library: str
    """Of the device adapter: DemoCamera, Arduino, IlluminateLedArray, …"""
    name: str
    """Of the device in the adapter."""
    hub: str | None = None
    """Label of its parent device."""
    before: dict[str, Value] = Field(default_factory=dict)
    """Properties set before it is initialised (a serial port, a camera's mode)."""


class InProcessCore(Strict):
    """Micro-Manager's core within livephase, by pymmcore."""

    kind: Literal["in_process"] = "in_process"
    adapters: str = "mm-test-adapters"
    """Micro-Manager's folder, or `mm-test-adapters` for the adapters of that wheel."""
    buffer_mb: PositiveInt = 1024
    """Of the core's circular buffer."""


class RunningCore(Strict):
    """The core of a running Micro-Manager, or one that pycromanager starts headless."""

    kind: Literal["pycromanager"]
    port: PositiveInt = 4827
    """Where a running Micro-Manager (Java) listens: its option "Run server on port 4827"."""
    headless: Literal["no", "python"] = "no"
    """python: pycromanager starts its Python backend in this process."""
    adapters: str = "mm-test-adapters"
    """For a headless one: Micro-Manager's folder, or `mm-test-adapters`."""
    buffer_mb: PositiveInt = 1024


def _in_process_unless_said(value: object) -> object:
    return {"kind": "in_process", **value} if isinstance(value, dict) else value


Connection = Annotated[
    InProcessCore | RunningCore,
    Field(discriminator="kind"),
    BeforeValidator(_in_process_unless_said),
]

Sequencing = Literal["auto", "hardware", "firmware", "software"]


class FirmwareSequence(Strict):
    """A sequence that the light's own firmware steps through, at the camera's triggers.

    Texts may hold ``{length}``, the frames in the sequence, and ``{repeats}``, how often it is run through. With
    ``{repeats}`` in `start` the sequence is that of one slot, repeated for each slot of the burst; without, it
    is that of the whole burst, which is then cut at `max_length`.
    """

    property: str | None = None
    """Takes the sequence: `begin`, then `frame` for each frame; none: the firmware has it already, see `order`."""
    begin: str | None = None
    """Set before the first frame's."""
    frame: str = "{value}"
    """Set for each frame, in the order of exposure, with the channel's value in it."""
    separator: str | None = None
    """For a device that takes all frames as one text: what stands between two of them."""
    values: dict[str, Value] = Field(default_factory=dict)
    """Channel → its value in `frame`, where that is not the light's own in `values`."""
    order: tuple[str, ...] = ()
    """The channels that a sequence built into the firmware shows, in its order; a slot has to be just that."""
    max_length: PositiveInt = 1000
    """Most frames in a sequence."""
    max_repeats: PositiveInt = 65_535
    """Most times that it is run through; a longer burst is cut."""
    start: Settings = Field(min_length=1)
    """Set after the sequence is written, before the camera starts."""
    stop: Settings = Field(default_factory=dict)
    """Set after a burst, before the light goes off."""

    @model_validator(mode="after")
    def _written_or_built_in(self) -> Self:
        if (self.property is None) == (not self.order):
            raise ValueError(
                "give `property:` for a sequence that is written, or `order:` for one that is built in"
            )
        if self.property is not None and "{value}" not in self.frame:
            raise ValueError("`frame:` has no {value}: every frame would be the same")
        return self

    def is_repeated(self) -> bool:
        """Whether the firmware repeats the sequence of one slot."""
        return any("{repeats}" in str(value) for value in self.start.values())


class BrightnessControl(Strict):
    """A numeric property that dims the light."""

    device: str
    property: str
    full: PositiveFloat
    """The value at brightness 1; others in proportion."""


class LightDevice(Strict):
    """What lights the specimen: one property of one device takes one value for each channel."""

    device: str
    property: str
    values: dict[str, Value] = Field(min_length=1)
    """Channel → value of the property."""
    off: Value
    """The value at which there is no light. Set whenever no burst is going on."""
    settings: dict[str, Settings] = Field(default_factory=dict)
    """Channel → further properties; those that only other channels name are as they were found. A channel whose
    further properties differ can't be sequenced with others in hardware."""
    brightness: BrightnessControl | None = None
    """What dims the light; without it every channel has to have brightness 1."""
    sequencing: Sequencing = "auto"
    """hardware: loaded into the device, stepped by the camera. firmware: see `firmware`. software: set before
    each frame, which costs a frame's start and `settle_ms` each time. auto: hardware where the device can,
    else software, and the run says which."""
    firmware: FirmwareSequence | None = None
    settle_ms: NonNegativeFloat = 0.0
    """From a value that was set to light that is steady (software stepping)."""
    phase: int = Field(default=0, ge=-1, le=1)
    """Of hardware triggers: 1 where the device steps on before the first frame, which then would see the
    second value; -1 where the first frame sees what was set before. `livephase calibrate timing` tells."""

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        for channel in self.settings:
            if channel not in self.values:
                raise ValueError(f"settings names the channel '{channel}', but values does not")
        for channel, value in self.values.items():
            if str(value) == str(self.off):
                raise ValueError(f"channel '{channel}' has the value that means off: {self.off}")
        if (self.sequencing == "firmware") != (self.firmware is not None):
            raise ValueError("give `firmware:` with `sequencing: firmware`, and only then")
        return self


class LensDevice(Strict):
    """What moves the plane in focus: a stage, a tunable lens that is one, or one property of a device."""

    device: str
    kind: Literal["stage", "property"] = "stage"
    property: str | None = None
    um_per_unit: float = 1.0
    """Object-side µm per unit of the stage or property; negative where the lens runs the other way."""
    zero: float = 0.0
    """Position, in the device's own unit, of focus 0."""
    safe: float | None = None
    """Position, in the device's own unit, to which it goes whenever the light goes off; none: it stays."""
    limits: tuple[float, float] | None = None
    """Least and greatest position in the device's own unit; an experiment beyond them is refused."""
    sequencing: Literal["auto", "hardware", "software"] = "auto"
    settle_ms: NonNegativeFloat = 0.0
    """From a position that was set to a lens that is still (software stepping, and a burst's first frame)."""
    phase: int = Field(default=0, ge=-1, le=1)
    """As of a light device."""

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if (self.kind == "property") != (self.property is not None):
            raise ValueError("give `property:` with `kind: property`, and only then")
        if self.um_per_unit == 0:
            raise ValueError("um_per_unit is 0: how far does the focus move for one unit?")
        if self.limits is not None:
            low, high = self.limits
            for name, value in (("zero", self.zero), ("safe", self.safe)):
                if value is not None and not low <= value <= high:
                    raise ValueError(f"{name} {value} is beyond limits {low} to {high}")
        return self

    def position(self, focus_um: float) -> float:
        """Where the device has to go, in its own unit, for a focus in µm."""
        return self.zero + focus_um / self.um_per_unit


class XYStage(Strict):
    """What moves the specimen from position to position."""

    device: str | None = None
    """Label; none: Micro-Manager's default XY stage."""
    settle_ms: NonNegativeFloat = 0.0
    x_limits_um: tuple[float, float] | None = None
    y_limits_um: tuple[float, float] | None = None
    """Least and greatest place that a run may be moved to."""


class Patience(Strict):
    """How long to wait for devices, and how often to ask them again."""

    first_frame_s: PositiveFloat = 5.0
    """Beyond the exposure, for a burst's first frame."""
    frame_s: PositiveFloat = 2.0
    """Beyond the exposure, for any other."""
    device_s: PositiveFloat = 10.0
    """For a device that is busy: a stage that moves, a lens that settles."""
    tries: PositiveInt = Field(default=3, le=10)
    """How often a call that a device refused is made in all."""


class MicroManagerMicroscope(Strict):
    """Camera, light, lens and stage of Micro-Manager."""

    driver: Literal["micromanager"]
    camera: Camera
    connection: Connection = Field(default_factory=InProcessCore)
    config_file: str | None = None
    """A Micro-Manager `.cfg`, relative to the experiment file or to Micro-Manager's folder; or `devices`; neither
    for what a running Micro-Manager has loaded."""
    devices: tuple[AdapterDevice, ...] = ()
    """A device map, loaded in this order."""
    setup: Settings = Field(default_factory=dict)
    """Set once after the devices are there: trigger modes, blanking, gain."""
    camera_device: str | None = None
    """Label; none: Micro-Manager's default camera."""
    light: LightDevice | None = None
    """None: the light is not switched by livephase, which then cannot put it out either."""
    lens: LensDevice | None = None
    """None: all frames are taken where the microscope is focused."""
    stage: XYStage = Field(default_factory=XYStage)
    patience: Patience = Field(default_factory=Patience)
    burst_frames: PositiveInt = 100_000
    """Most frames that the camera is armed for at once."""

    @model_validator(mode="after")
    def _one_source_of_devices(self) -> Self:
        if self.config_file is not None and self.devices:
            raise ValueError("give config_file or devices, not both")
        if (
            self.config_file is None
            and not self.devices
            and (self.connection.kind == "in_process" or self.connection.headless == "python")
        ):
            raise ValueError("name the devices: config_file (a Micro-Manager .cfg) or devices")
        labels = [d.label for d in self.devices]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"two devices have the label '{label}': each needs its own")
        return self
