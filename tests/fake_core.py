"""A Micro-Manager core made of tables: the devices of real adapters, without their hardware.

Names, values, limits, what can be sequenced, what is refused and what a device does with its outputs are as the
adapters' sources have it (mmCoreAndDevices, read in 2026), quirks included: an Arduino's lines follow its shutter, a
TriggerScope is not told a state that its adapter believes to be set, Illuminate swallows the command that interrupts
its sequence. A frame's pixels all hold the number of its exposure; `exposures` says what each one saw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

CAMERA, SHUTTER, STATE, STAGE, SERIAL, DEVICE, SIGNAL, HUB = 2, 3, 4, 5, 7, 8, 12, 15
ON_OFF = ("On", "Off")
DPC = ("DPC Top", "DPC Bottom", "DPC Left", "DPC Right")


@dataclass
class Prop:
    value: str = ""
    allowed: tuple[str, ...] = ()
    limits: tuple[float, float] | None = None
    read_only: bool = False
    most: Callable[[], int] | None = None


@dataclass
class Device:
    """One loaded device. Subclasses say what their adapter does."""

    core: FakeCore
    label: str
    library: str
    name: str
    type: int = DEVICE
    before: dict[str, Prop] = field(default_factory=dict)
    after: dict[str, Prop] = field(default_factory=dict)
    hub: str = ""
    ready: bool = False
    sequence: list[Any] = field(default_factory=list)
    step: int | None = None

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> None: ...

    def initialize(self) -> None: ...

    @property
    def props(self) -> dict[str, Prop]:
        return {**self.before, **self.after} if self.ready else self.before

    def take(self, name: str, value: str) -> None:
        self.props[name].value = value

    def start(self) -> None:
        if not self.sequence:
            raise RuntimeError(f'Error in device "{self.label}": no sequence was loaded')
        self.step = 0

    def stop(self) -> None:
        self.step = None

    def exposed(self) -> None:
        """At the rising edge of the camera's exposure."""

    def next(self) -> Any:
        assert self.step is not None
        value = self.sequence[self.step % len(self.sequence)]
        self.step += 1
        return value

    def parent(self, kind: type) -> Any:
        hub = self.core.devices.get(self.hub)
        if not isinstance(hub, kind) or not hub.ready:
            raise RuntimeError(f'Error in device "{self.label}": Hub Device not found')
        return hub

    def port(self) -> None:
        found = self.core.devices.get(self.before["Port"].value)
        if not isinstance(found, Serial) or not found.ready:
            raise RuntimeError(f'Error in device "{self.label}": Failed opening serial port')


class Serial(Device):
    def build(self):
        self.type = SERIAL
        bauds = ("9600", "57600", "115200", "230400")
        self.before = {
            "BaudRate": Prop("9600", bauds),
            "StopBits": Prop("1", ("1", "1.5", "2")),
            "Handshaking": Prop("Off", ("Off", "Hardware", "Software")),
            "AnswerTimeout": Prop("500"),
            "DelayBetweenCharsMs": Prop("0"),
        }

    def initialize(self):
        if self.label in self.core.busy_ports:
            raise RuntimeError(f'Error in device "{self.label}": Cannot open serial port. In use?')
        if self.label != self.name:
            raise RuntimeError("the label of a port has to be its name")


class Hamamatsu(Device):
    def build(self):
        self.type = CAMERA
        kinds = ("LOW", "EXPOSURE", "PROGRAMMABLE", "TRIGGER READY", "HIGH")
        self.after = {
            "PixelType": Prop("16bit", ("8bit", "16bit")),
            "Binning": Prop("1", ("1", "2", "4")),
            "Exposure": Prop("10"),
            "TRIGGER SOURCE": Prop("INTERNAL", ("INTERNAL", "EXTERNAL", "SOFTWARE")),
            "OUTPUT TRIGGER KIND[0]": Prop("LOW", kinds),
            "OUTPUT TRIGGER POLARITY[0]": Prop("NEGATIVE", ("NEGATIVE", "POSITIVE")),
        }

    @property
    def triggers(self) -> bool:
        props = self.after
        return (
            props["OUTPUT TRIGGER KIND[0]"].value == "EXPOSURE"
            and props["OUTPUT TRIGGER POLARITY[0]"].value == "POSITIVE"
        )


class ArduinoHub(Device):
    def build(self):
        self.type = HUB
        self.switch, self.shutter, self.lines, self.blanking = 0, 0, 0, False
        self.before = {
            "Port": Prop("Undefined"),
            "Logic": Prop("Inverted", ("Inverted", "Normal")),
        }
        self.after = {"Version": Prop("2", read_only=True)}

    def initialize(self):
        self.port()
        if self.core.devices[self.before["Port"].value].before["BaudRate"].value != "57600":
            raise RuntimeError(f'Error in device "{self.label}": Did not find an Arduino board')


class ArduinoSwitch(Device):
    def build(self):
        self.type = STATE

    def initialize(self):
        self.hub_device = self.parent(ArduinoHub)
        labels = tuple(str(i) for i in range(64))
        self.after = {
            "State": Prop("0", limits=(0, 63), most=self.most),
            "Label": Prop("0", labels),
            "Sequence": Prop("Off", ON_OFF),
            "Blanking Mode": Prop("Off", ON_OFF),
            "Blank On": Prop("Low", ("Low", "High")),
        }

    def most(self):
        return 12 if self.after["Sequence"].value == "On" else 0

    def take(self, name, value):
        super().take(name, value)
        hub = self.hub_device
        if name == "State":
            hub.switch = int(value)
            if hub.shutter:
                hub.lines = hub.switch
        if name == "Blanking Mode":
            hub.blanking = value == "On"

    def start(self):
        super().start()
        self.hub_device.lines = 0

    def stop(self):
        super().stop()
        self.hub_device.lines = 0

    def exposed(self):
        if self.step is not None:
            self.hub_device.lines = int(self.next())

    def output(self, exposing):
        dark = self.hub_device.blanking or self.step is not None
        return 0 if dark and not exposing else self.hub_device.lines


class ArduinoShutter(Device):
    def build(self):
        self.type = SHUTTER

    def initialize(self):
        self.hub_device = self.parent(ArduinoHub)
        self.after = {"OnOff": Prop("0", ("0", "1"))}

    def take(self, name, value):
        super().take(name, value)
        self.hub_device.shutter = int(value)
        self.hub_device.lines = self.hub_device.switch if int(value) else 0


class TriggerScopeHub(Device):
    def build(self):
        self.type = HUB
        self.lines = self.core.left_on
        self.before = {"Port": Prop("")}
        self.after = {"Serial Send": Prop(""), "Serial Receive": Prop("", read_only=True)}

    def initialize(self):
        self.port()

    def take(self, name, value):
        super().take(name, value)
        if name == "Serial Send" and value.startswith("SDO0-"):
            self.lines = int(value.removeprefix("SDO0-"))


class TriggerScopeTtl(Device):
    def build(self):
        self.type = STATE
        self.believed = 0

    def initialize(self):
        self.hub_device = self.parent(TriggerScopeHub)
        self.after = {
            "State": Prop("0", limits=(0, 255), most=self.most),
            "Sequence": Prop("On", ON_OFF),
            "Sequence Trigger Edge": Prop("Rising", ("Falling", "Rising")),
            "Blanking": Prop("Off", ON_OFF),
            "Blank On": Prop("Low", ("Low", "High")),
            **{f"TTL-{i}": Prop("0", limits=(0, 1)) for i in range(1, 9)},
        }

    def most(self):
        return 560 if self.after["Sequence"].value == "On" else 0

    def take(self, name, value):
        super().take(name, value)
        if name == "State" and int(value) != self.believed:
            self.believed = self.hub_device.lines = int(value)

    def exposed(self):
        if self.step is not None:
            self.hub_device.lines = int(self.next())

    def output(self, exposing):
        blanked = self.after["Blanking"].value == "On" and not exposing
        return 0 if blanked else self.hub_device.lines


class NidaqHub(Device):
    def build(self):
        self.type = HUB
        self.before = {"Device": Prop("", ("Dev1",)), "MaxSequenceLength": Prop("1024")}

    def initialize(self):
        ports = tuple(f"/Dev1/PFI{i}" for i in range(3))
        self.after = {
            "Sequence": Prop("Off", ON_OFF),
            "AOTriggerInputPort": Prop(ports[0], ports),
            "SampleRateHz": Prop("10000"),
        }

    def most(self):
        return int(self.before["MaxSequenceLength"].value) if self.on else 0

    @property
    def on(self):
        return self.after["Sequence"].value == "On"


class NidaqDigital(Device):
    def build(self):
        self.type = STATE
        self.lines = self.state = 0
        self.before = {
            "Sequencing": Prop("Use hub setting", ("Use hub setting", "Never")),
            "Input Line": Prop("7", limits=(-1, 7)),
            "Nr of TTL Sliders": Prop("4", limits=(0, 8)),
        }

    def initialize(self):
        self.hub_device = self.parent(NidaqHub)
        watches = int(self.before["Input Line"].value) >= 0 and self.core.change_detection
        self.after = {
            "State": Prop("0", limits=(0, 127), most=self.most if watches else None),
            "ClosedPosition": Prop("0"),
        }
        if watches:
            self.after["Blanking"] = Prop("Off", ON_OFF)
            self.after["Blank on"] = Prop("Low", ("Low", "High"))

    def most(self):
        return 0 if self.before["Sequencing"].value == "Never" else self.hub_device.most()

    def take(self, name, value):
        if self.step is not None:
            raise RuntimeError(
                f'Error in device "{self.label}": A sequence is running on this port'
            )
        super().take(name, value)
        if name == "State":
            self.lines = self.state = int(value)

    def stop(self):
        super().stop()
        self.lines = self.state

    def exposed(self):
        if self.step is not None:
            self.lines = int(self.next())

    def output(self, exposing):
        blanking = self.after.get("Blanking")
        return 0 if blanking and blanking.value == "On" and not exposing else self.lines


class NidaqAnalogue(Device):
    def build(self):
        self.type = SIGNAL
        self.volts = 0.0
        self.before = {
            "MinVolts": Prop("0"),
            "MaxVolts": Prop("5"),
            "Sequencing": Prop("Use hub setting", ("Use hub setting", "Never")),
        }

    def initialize(self):
        self.hub_device = self.parent(NidaqHub)
        limits = (float(self.before["MinVolts"].value), float(self.before["MaxVolts"].value))
        self.after = {"Voltage": Prop("0", limits=limits)}

    def most(self):
        return 0 if self.before["Sequencing"].value == "Never" else self.hub_device.most()


class DaZStage(Device):
    def build(self):
        self.type = STAGE
        self.before = {
            "Stage Low Voltage": Prop("0"),
            "Stage High Voltage": Prop("5"),
            "Stage Low Position(um)": Prop("0"),
            "Stage High Position(um)": Prop("200"),
        }

    def initialize(self):
        outputs = tuple(d.label for d in self.core.devices.values() if d.type == SIGNAL and d.ready)
        if not outputs:
            raise RuntimeError(f'Error in device "{self.label}": No DA Device loaded')
        low, high = self.range("Position(um)")
        self.after = {
            "DA Device": Prop(outputs[0], outputs),
            "Position": Prop("0", limits=(low, high)),
        }

    def range(self, what):
        return tuple(float(self.before[f"Stage {end} {what}"].value) for end in ("Low", "High"))

    @property
    def output_device(self):
        return self.core.devices[self.after["DA Device"].value]

    def volts(self, position):
        low, high = self.range("Position(um)")
        v0, v1 = self.range("Voltage")
        return v0 + (position - low) / (high - low) * (v1 - v0)

    @property
    def position(self):
        low, high = self.range("Position(um)")
        v0, v1 = self.range("Voltage")
        return low + (self.output_device.volts - v0) / (v1 - v0) * (high - low)

    def go(self, position):
        low, high = self.range("Position(um)")
        if not low <= position <= high:
            raise RuntimeError(
                f'Error in device "{self.label}": requested position is out of range'
            )
        self.output_device.volts = self.volts(position)

    def most(self):
        return self.output_device.most()

    def exposed(self):
        if self.step is not None:
            low, high = self.range("Position(um)")
            # As the adapter: clamped without a word.
            self.output_device.volts = self.volts(min(max(self.next(), low), high))


class Illuminate(Device):
    def build(self):
        self.type = SHUTTER
        self.shown, self.left = "Clear", []
        self.before = {"Port": Prop("Undefined")}

    def initialize(self):
        self.port()
        modes = (
            "Disabled",
            "Every Pattern Change",
            "Every Pattern Cycle",
            "Start of First Pattern",
        )
        sequences = (
            "",
            "Individual LEDs (All)",
            "Individual LEDs (Brightfield)",
            "Individual LEDs (Darkfield)",
            "DPC Patterns",
        )
        patterns = ("Clear", "Brightfield", "Darkfield", *DPC, "Manual LED Indicies", "Center LED")
        self.after = {
            "IlluminationPattern": Prop("Clear", patterns),
            "ManualLedList": Prop(""),
            "Brightness": Prop("63", limits=(0, 255)),
            "NumericalAperture": Prop("0.25"),
            "ArrayDistanceFromSample": Prop("50"),
            "TriggerInput0Mode": Prop("Disabled", modes),
            "TriggerInputTimeoutSeconds": Prop("30"),
            "SequenceDelaySeconds": Prop("0"),
            "SequenceRunCount": Prop("1"),
            "Sequence": Prop("", sequences),
            "SerialCommand": Prop(""),
            "LedCount": Prop("225", read_only=True),
        }

    def take(self, name, value):
        super().take(name, value)
        if name in {"SequenceRunCount", "SequenceDelaySeconds"}:
            return  # kept by the adapter, nothing is sent
        if self.left:
            self.left, self.shown = [], "Clear"
            return  # the firmware swallows what interrupts it
        if name == "Sequence" and value == "DPC Patterns":
            assert self.after["TriggerInput0Mode"].value == "Every Pattern Change"
            self.left = list(DPC) * int(self.after["SequenceRunCount"].value)
            self.shown = self.left[0]
        elif name != "SerialCommand":
            self.shown = self.after["IlluminationPattern"].value

    def after_exposure(self):
        if self.left:
            self.left.pop(0)
            self.shown = self.left[0] if self.left else "Clear"

    def output(self, exposing):
        return self.shown


class Optotune(Device):
    def build(self):
        self.before = {"Port": Prop("Undefined"), "MaxI_mA": Prop("293"), "MinI_mA": Prop("-293")}

    def initialize(self):
        self.port()
        self.after = {"Current-mA": Prop("0", limits=(-293, 293))}

    @property
    def position(self):
        return float(self.after["Current-mA"].value)


ADAPTERS: dict[str, dict[str, type[Device]]] = {
    "SerialManager": {"COM": Serial, "/dev/tty": Serial},
    "HamamatsuHam": {"HamamatsuHam_DCAM": Hamamatsu},
    "Arduino": {
        "Arduino-Hub": ArduinoHub,
        "Arduino-Switch": ArduinoSwitch,
        "Arduino-Shutter": ArduinoShutter,
    },
    "TriggerScopeMM": {"TriggerScopeMM-Hub": TriggerScopeHub, "TS_TTL1-8": TriggerScopeTtl},
    "NIDAQ": {"NIDAQHub": NidaqHub, "NIDAQDO-": NidaqDigital, "NIDAQAO-": NidaqAnalogue},
    "Utilities": {"DA Z Stage": DaZStage},
    "IlluminateLedArray": {"IlluminateLedArray": Illuminate},
    "ETL": {"ETL": Optotune},
}


class FakeCore:
    """Follows `drivers.micromanager.core.Core`, as far as livephase goes with these devices."""

    def __init__(self, shape=(16, 16)):
        self.shape = shape
        self.devices: dict[str, Device] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.exposures: list[dict[str, Any]] = []
        self.busy_ports: set[str] = set()
        self.change_detection = True
        self.left_on = 0
        """What a run that died left on a TriggerScope's lines."""
        self.camera = ""
        self.running, self.made, self.wanted = False, 0, 0
        self.waiting: list[tuple[int, int]] = []
        self.unloaded = 0

    # devices

    def get_version_info(self):
        return "FakeCore 1.0"

    def get_api_version_info(self):
        return "Device API version 75, Module API version 10"

    def set_device_adapter_search_paths(self, folders): ...
    def set_timeout_ms(self, ms): ...
    def set_auto_shutter(self, on): ...
    def set_circular_buffer_memory_footprint(self, mb): ...
    def initialize_circular_buffer(self): ...

    def get_loaded_devices(self):
        return (*self.devices, "Core")

    def load_device(self, label, library, name):
        if label in self.devices:
            raise ValueError(f'The specified device label "{label}" is already in use')
        if library not in ADAPTERS:
            raise RuntimeError(f'Failed to load device adapter "{library}"')
        for begins, model in ADAPTERS[library].items():
            if name == begins or (begins[-1] in "-My" and name.startswith(begins)):
                self.devices[label] = model(self, label, library, name)
                return
        raise RuntimeError(f'Device adapter "{library}" failed to instantiate device "{name}"')

    def get_available_devices(self, library):
        return tuple(ADAPTERS.get(library, ()))

    def set_parent_label(self, label, parent):
        self._device(label).hub = parent

    def get_parent_label(self, label):
        return self._device(label).hub

    def initialize_device(self, label):
        device = self._device(label)
        device.initialize()
        device.ready = True

    def unload_all_devices(self):
        self.devices.clear()
        self.unloaded += 1

    def get_device_type(self, label):
        return self._device(label).type

    def get_device_library(self, label):
        return self._device(label).library

    def get_device_name(self, label):
        return self._device(label).name

    def get_state_labels(self, label):
        found = self._device(label).props.get("Label")
        return found.allowed if found else ()

    def device_busy(self, label):
        self._device(label)
        return False

    def wait_for_device(self, label): ...

    # properties

    def get_device_property_names(self, label):
        return tuple(self._device(label).props)

    def has_property(self, label, name):
        return name in self._device(label).props

    def get_property(self, label, name):
        return self._property(label, name).value

    def is_property_read_only(self, label, name):
        return self._property(label, name).read_only

    def is_property_pre_init(self, label, name):
        return name in self._device(label).before

    def get_allowed_property_values(self, label, name):
        return self._property(label, name).allowed

    def has_property_limits(self, label, name):
        return self._property(label, name).limits is not None

    def get_property_lower_limit(self, label, name):
        return self._property(label, name).limits[0]

    def get_property_upper_limit(self, label, name):
        return self._property(label, name).limits[1]

    def set_property(self, label, name, value):
        found = self._property(label, name)
        refused = RuntimeError(f'Cannot set property "{name}" to "{value}"')
        if not isinstance(value, str):
            raise TypeError("Micro-Manager's property values are text")
        if found.read_only or (found.allowed and value not in found.allowed):
            raise refused
        if found.limits is not None and not found.limits[0] <= float(value) <= found.limits[1]:
            raise refused
        self.calls.append(("set", f"{label}.{name}", value))
        device = self._device(label)
        if device.ready:
            device.take(name, value)
        else:
            found.value = value

    def is_property_sequenceable(self, label, name):
        most = self._property(label, name).most
        return most is not None and most() > 0

    def get_property_sequence_max_length(self, label, name):
        most = self._property(label, name).most
        return 0 if most is None else most()

    def load_property_sequence(self, label, name, values):
        if not 0 < len(values) <= self.get_property_sequence_max_length(label, name):
            raise RuntimeError(f'Error in device "{label}": sequence is too large')
        self.calls.append(("load", f"{label}.{name}", tuple(values)))
        self._device(label).sequence = list(values)

    def start_property_sequence(self, label, name):
        self.calls.append(("start", f"{label}.{name}"))
        self._device(label).start()

    def stop_property_sequence(self, label, name):
        self.calls.append(("stop", f"{label}.{name}"))
        self._device(label).stop()

    # stages

    def get_position(self, label):
        return self._device(label).position

    def set_position(self, label, position):
        self.calls.append(("go", label, position))
        self._device(label).go(position)

    def is_stage_sequenceable(self, label):
        return self._device(label).most() > 0

    def get_stage_sequence_max_length(self, label):
        return self._device(label).most()

    def load_stage_sequence(self, label, positions):
        if not 0 < len(positions) <= self.get_stage_sequence_max_length(label):
            raise RuntimeError(f'Error in device "{label}": sequence is too large')
        self.calls.append(("load", label, tuple(positions)))
        self._device(label).sequence = list(positions)

    def start_stage_sequence(self, label):
        self.calls.append(("start", label))
        self._device(label).start()

    def stop_stage_sequence(self, label):
        self.calls.append(("stop", label))
        self._device(label).stop()

    def get_xy_stage_device(self):
        return ""

    def get_shutter_device(self):
        return ""

    # camera

    def get_camera_device(self):
        return self.camera

    def set_camera_device(self, label):
        if self._device(label).type != CAMERA:
            raise ValueError(f'Cannot set Core property Camera to invalid value "{label}"')
        self.camera = label

    def get_image_height(self):
        return self.shape[0]

    def get_image_width(self):
        return self.shape[1]

    def get_image_bit_depth(self):
        return 16

    def get_bytes_per_pixel(self):
        return 2

    def get_number_of_components(self):
        return 1

    def set_exposure(self, ms):
        self.calls.append(("exposure", ms))

    def is_exposure_sequenceable(self, label):
        return False

    def get_exposure_sequence_max_length(self, label):
        return 0

    def clear_circular_buffer(self):
        self.waiting.clear()

    def get_buffer_total_capacity(self):
        return 100

    def is_buffer_overflowed(self):
        return False

    def start_sequence_acquisition(self, frames, interval_ms, stop_on_overflow):
        self.calls.append(("camera", frames))
        self.running, self.made, self.wanted = True, 0, frames

    def stop_sequence_acquisition(self):
        self.calls.append(("camera stop",))
        self.running = False

    def is_sequence_running(self):
        return self.running

    def get_remaining_image_count(self):
        # One frame at a time, as it is asked for: the software that steps a device has its turn before it.
        if self.running and not self.waiting:
            self._expose()
        return len(self.waiting)

    def pop_next_tagged_image(self):
        number, exposure = self.waiting.pop(0)
        pixels = np.full(self.shape, exposure, np.uint16)
        return SimpleNamespace(pix=pixels, tags={"ImageNumber": str(number), "ElapsedTime-ms": "1"})

    def _expose(self):
        if self.devices[self.camera].triggers:
            for device in self.devices.values():
                device.exposed()
        self.exposures.append(
            {
                "light": self.lights(exposing=True),
                "lens": {
                    label: device.position
                    for label, device in self.devices.items()
                    if isinstance(device, DaZStage | Optotune)
                },
            }
        )
        for device in self.devices.values():
            if isinstance(device, Illuminate):
                device.after_exposure()
        self.waiting.append((self.made, len(self.exposures) - 1))
        self.made += 1
        self.running = self.made < self.wanted

    def lights(self, *, exposing=False):
        """What the outputs of the light devices really are now."""
        return {
            label: device.output(exposing)
            for label, device in self.devices.items()
            if hasattr(device, "output") and device.ready
        }

    def _device(self, label):
        if label not in self.devices:
            raise RuntimeError(f'No device with label "{label}"')
        return self.devices[label]

    def _property(self, label, name):
        props = self._device(label).props
        if name not in props:
            raise RuntimeError(f'Error in device "{label}": Invalid property name: {name}')
        return props[name]
