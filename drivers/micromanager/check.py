"""The experiment's map, held against the devices that are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from drivers.micromanager.core import CAMERA, CORE_ERRORS, SHUTTER, STAGE, STATE, XY_STAGE, Core
from drivers.micromanager.setting import split_setting
from pipeline.errors import DriverError
from pipeline.experiment.micromanager import (
    LensDevice,
    LightDevice,
    MicroManagerMicroscope,
    Settings,
)
from pipeline.experiment.strict import nearest

_TYPE_NAMES = {CAMERA: "camera", STAGE: "stage", XY_STAGE: "XY stage"}
# More than this would not be read.
_MOST_VALUES = 24


def check_map(core: Core, microscope: MicroManagerMicroscope) -> None:
    """Refuse what the devices can't be or do. Asks only; sets nothing.

    Raises
    ------
    DriverError
        Naming the experiment's key, and what would be right there.
    """
    for fault in map_faults(core, microscope):
        raise fault


def map_faults(core: Core, microscope: MicroManagerMicroscope) -> Iterator[DriverError]:
    """The first fault of each part (camera, light, lens, stage) that has one; as `check_map`."""
    light, lens, stage = microscope.light, microscope.lens, microscope.stage.device
    checks: list[Callable[[], None]] = [lambda: _check_camera(core, microscope)]
    if light is not None:
        checks.append(lambda: _check_light(core, light))
    if lens is not None:
        checks.append(lambda: _check_lens(core, lens))
    if stage is not None:
        checks.append(lambda: check_type(core, stage, XY_STAGE, "microscope.stage.device"))
    for check in checks:
        try:
            check()
        except DriverError as fault:
            yield fault


def check_off(core: Core, light: LightDevice) -> None:
    """As `check_map`, of no more than what it takes to put the light out."""
    key = "microscope.light"
    check_property(core, light.device, light.property, f"{key}.property")
    check_value(core, light.device, light.property, str(light.off), f"{key}.off")
    if light.firmware is not None:
        _check_settings(core, light.firmware.stop, f"{key}.firmware.stop")


def devices_of_type(core: Core, kind: int) -> list[str]:
    """Labels of all loaded devices of one type."""
    return [
        label
        for label in core.get_loaded_devices()
        if label != "Core" and core.get_device_type(label) == kind
    ]


def check_type(core: Core, label: str, kind: int, key: str) -> None:
    """Refuse a device that is not there, or of another type."""
    fit = devices_of_type(core, kind)
    if label in fit:
        return
    name = _TYPE_NAMES[kind]
    fix = f"give one of: {', '.join(fit)}" if fit else f"no {name} is loaded: check the devices"
    if label not in core.get_loaded_devices():
        raise DriverError(f"{key}: there is no device '{label}'", fix)
    raise DriverError(f"{key}: '{label}' is no {name}", fix)


def check_property(core: Core, label: str, name: str, key: str) -> None:
    """Refuse a property that is not there or can't be set. `key` ends in ``property`` or ``Device.Property``."""
    loaded = [other for other in core.get_loaded_devices() if other != "Core"]
    if label not in loaded:
        key = f"{key.removesuffix('property')}device" if key.endswith(".property") else key
        raise DriverError(f"{key}: there is no device '{label}'", nearest(label, loaded))
    if not core.has_property(label, name):
        raise DriverError(
            f"{key}: '{label}' has no property '{name}'",
            nearest(name, core.get_device_property_names(label)),
        )
    if core.is_property_read_only(label, name):
        raise DriverError(
            f"{key}: '{name}' of '{label}' can only be read", "name a property that can be set"
        )


def check_value(core: Core, label: str, name: str, value: str, key: str) -> None:
    """Refuse a value that the property would not take."""
    takes = allowed_values(core, label, name)
    if takes and value not in takes:
        raise DriverError(
            f"{key}: '{name}' of '{label}' does not take {value}", allowed(core, label, name)
        )
    if core.has_property_limits(label, name):
        low = core.get_property_lower_limit(label, name)
        high = core.get_property_upper_limit(label, name)
        try:
            within = low <= float(value) <= high
        except ValueError:
            within = False
        if not within:
            raise DriverError(
                f"{key}: '{name}' of '{label}' does not take {value}", allowed(core, label, name)
            )


def allowed_values(core: Core, label: str, name: str) -> list[str]:
    """The values that a property takes; empty where it does not list them."""
    values = list(core.get_allowed_property_values(label, name))
    if not values and name == "State" and core.has_property(label, "Label"):
        # A state device lists the names of its states, not their numbers.
        values = [str(i) for i in range(len(core.get_allowed_property_values(label, "Label")))]
    if not values and name == "Label" and core.get_device_type(label) == STATE:
        # Nor their names, as long as nobody gave them any.
        values = list(core.get_state_labels(label))
    return values


def allowed(core: Core, label: str, name: str) -> str:
    """What a property takes, as a fix."""
    values = allowed_values(core, label, name)
    if values:
        more = f" and {len(values) - _MOST_VALUES} more" if len(values) > _MOST_VALUES else ""
        return f"it takes {', '.join(repr(value) for value in values[:_MOST_VALUES])}{more}"
    if core.has_property_limits(label, name):
        low = core.get_property_lower_limit(label, name)
        high = core.get_property_upper_limit(label, name)
        return f"it takes {low:g} to {high:g}"
    return "the device's manual says what it takes"


def _check_camera(core: Core, microscope: MicroManagerMicroscope) -> None:
    key = "microscope.camera_device"
    label = microscope.camera_device or core.get_camera_device()
    if not label:
        cameras = devices_of_type(core, CAMERA)
        raise DriverError(
            f"{key}: Micro-Manager has no default camera",
            f"give one of: {', '.join(cameras)}" if cameras else "none of its devices is a camera",
        )
    check_type(core, label, CAMERA, key)
    try:
        components, size = core.get_number_of_components(), core.get_bytes_per_pixel()
    except CORE_ERRORS as error:
        raise DriverError(
            f"the camera '{label}' does not say what its pixels are ({error})",
            "check that it is switched on",
        ) from error
    if components != 1 or size not in {1, 2}:
        what = "colour" if components != 1 else f"{8 * size} bit"
        name = "PixelType"
        fix = "set the camera to 8 or 16 bit grey in microscope.setup"
        if core.has_property(label, name):
            fix += f" ('{label}.{name}'; {allowed(core, label, name)})"
        raise DriverError(f"the camera '{label}' gives {what} pixels", fix)


def _check_light(core: Core, light: LightDevice) -> None:
    check_off(core, light)
    key = "microscope.light"
    for channel, value in light.values.items():
        check_value(core, light.device, light.property, str(value), f"{key}.values.{channel}")
    for channel, settings in light.settings.items():
        _check_settings(core, settings, f"{key}.settings.{channel}")
    if light.brightness is not None:
        dims = light.brightness
        check_property(core, dims.device, dims.property, f"{key}.brightness.property")
        check_value(core, dims.device, dims.property, f"{dims.full:g}", f"{key}.brightness.full")
    if light.firmware is not None:
        firmware = light.firmware
        if firmware.property is not None:
            check_property(core, light.device, firmware.property, f"{key}.firmware.property")
        _check_settings(core, firmware.start, f"{key}.firmware.start")
    _check_adapter(core, light)


def _check_adapter(core: Core, light: LightDevice) -> None:
    """Refuse what two adapters are known to do with light: not to switch it on, not to switch it off."""
    label, library = light.device, core.get_device_library(light.device)
    if library == "Arduino" and core.get_device_name(label) == "Arduino-Switch":
        # The lines follow State only while the shutter is open, and it is closed until it is told.
        shutters = [
            other
            for other in devices_of_type(core, SHUTTER)
            if core.get_device_name(other) == "Arduino-Shutter"
        ]
        if not any(core.get_property(shutter, "OnOff") == "1" for shutter in shutters):
            shutter = shutters[0] if shutters else "Shutter"
            raise DriverError(
                f"microscope.light: '{label}' stays dark while the Arduino's shutter is closed",
                ("" if shutters else f"load the device Arduino-Shutter as '{shutter}', and ")
                + f"set '{shutter}.OnOff': 1 in microscope.setup",
            )
    # A TriggerScope is sent no state that its adapter believes to be set, and that does not know where a sequence
    # ended: State 0 after one that began at 0 is not sent. It is blanking that makes the lines low then.
    if (
        library == "TriggerScopeMM"
        and light.sequencing != "software"
        and core.has_property(label, "Blanking")
        and core.get_property(label, "Blanking") != "On"
    ):
        raise DriverError(
            f"microscope.light: '{label}' would stay on after a sequence: a TriggerScope has to blank",
            f"set '{label}.Blanking': 'On' in microscope.setup, or use sequencing: software",
        )


def _check_settings(core: Core, settings: Settings, key: str) -> None:
    loaded = set(core.get_loaded_devices())
    for setting, value in settings.items():
        label, name = split_setting(setting, loaded)
        check_property(core, label, name, f"{key}.{setting}")
        if "{" not in str(value):
            check_value(core, label, name, str(value), f"{key}.{setting}")


def _check_lens(core: Core, lens: LensDevice) -> None:
    key = "microscope.lens"
    if lens.property is None:
        check_type(core, lens.device, STAGE, f"{key}.device")
        return
    check_property(core, lens.device, lens.property, f"{key}.property")
    for name, value in (("zero", lens.zero), ("safe", lens.safe)):
        if value is not None:
            check_value(core, lens.device, lens.property, f"{value:g}", f"{key}.{name}")
    for value in lens.limits or ():
        check_value(core, lens.device, lens.property, f"{value:g}", f"{key}.limits")


def not_a_camera(core: Core, label: str) -> DriverError:
    """Why a label can't be the camera."""
    try:
        check_type(core, label, CAMERA, "microscope.camera_device")
    except DriverError as error:
        return error
    return DriverError(
        f"microscope.camera_device: Micro-Manager does not take '{label}' for its camera",
        "check that it is switched on",
    )
