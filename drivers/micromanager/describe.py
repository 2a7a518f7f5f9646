"""What is connected: every device, every property, what can be sequenced, and which part each could play."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from drivers.micromanager.check import allowed_values
from drivers.micromanager.core import CAMERA, CORE_ERRORS, SHUTTER, STAGE, STATE, XY_STAGE, Core
from drivers.micromanager.sequenceable import property_sequencing, stage_sequencing

_KINDS = {
    CAMERA: "camera",
    SHUTTER: "shutter",
    STATE: "state device",
    STAGE: "stage",
    XY_STAGE: "XY stage",
    7: "serial port",
    8: "device",
    9: "autofocus",
    11: "image processor",
    12: "analogue output",
    13: "magnifier",
    14: "spatial light modulator",
    15: "hub",
    16: "galvo",
    17: "pressure pump",
    18: "volumetric pump",
}
# Properties that light or focus takes: only of these it is said why they can't be sequenced.
_STEPPED = {"State", "Label", "Volts", "Voltage", "Current-mA", "IlluminationPattern"}


@dataclass(frozen=True)
class PropertyInfo:
    """One property. `sequence` is the most values that can be loaded; 0: none, and `why_not` says why."""

    name: str
    value: str
    allowed: tuple[str, ...]
    limits: tuple[float, float] | None
    read_only: bool
    before: bool
    sequence: int
    why_not: str


@dataclass(frozen=True)
class DeviceInfo:
    """One device. `sequence` and `why_not` are a stage's own; `states` the names of a state device's, by number."""

    label: str
    kind: str
    library: str
    name: str
    hub: str
    properties: tuple[PropertyInfo, ...]
    sequence: int = 0
    why_not: str = ""
    states: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def property(self, name: str) -> PropertyInfo | None:
        """The property of a name, if it has one."""
        return next((p for p in self.properties if p.name == name), None)


def kind_name(number: int) -> str:
    """What MMCore's number of a device type means."""
    return _KINDS.get(number, "device")


def describe(core: Core) -> list[DeviceInfo]:
    """All loaded devices, in the order of their loading. Asks only; sets nothing."""
    return [_device(core, label) for label in core.get_loaded_devices() if label != "Core"]


def _device(core: Core, label: str) -> DeviceInfo:
    kind = core.get_device_type(label)
    sequence, why_not = stage_sequencing(core, label) if kind == STAGE else (0, "")
    states = tuple(core.get_state_labels(label)) if kind == STATE else ()
    try:
        hub = core.get_parent_label(label)
    except CORE_ERRORS:
        hub = ""  # devices of some types can't be asked
    return DeviceInfo(
        label,
        kind_name(kind),
        core.get_device_library(label),
        core.get_device_name(label),
        hub,
        tuple(_property(core, label, name) for name in core.get_device_property_names(label)),
        sequence,
        why_not,
        states,
    )


def _property(core: Core, label: str, name: str) -> PropertyInfo:
    try:
        value = core.get_property(label, name)
    except CORE_ERRORS:
        value = "?"  # a device that is switched off answers nothing
    limits = None
    if core.has_property_limits(label, name):
        limits = (
            core.get_property_lower_limit(label, name),
            core.get_property_upper_limit(label, name),
        )
    sequence, why_not = property_sequencing(core, label, name)
    return PropertyInfo(
        name,
        value,
        tuple(allowed_values(core, label, name)),
        limits,
        core.is_property_read_only(label, name),
        core.is_property_pre_init(label, name),
        sequence,
        why_not if name in _STEPPED else "",
    )
