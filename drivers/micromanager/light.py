"""The light: lit for a burst, and put out whatever happens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from drivers.micromanager.asking import TRY_IT, Asker
from drivers.micromanager.core import CORE_ERRORS
from drivers.micromanager.firmware import FirmwareSteps, firmware_reach
from drivers.micromanager.programme import LightValue, Part
from drivers.micromanager.reach import Reach, is_constant
from drivers.micromanager.sequenced import PropertyValue, hardware_reach
from drivers.micromanager.setting import split_setting
from drivers.micromanager.stepping import Stepper
from pipeline.errors import DriverError
from pipeline.experiment.micromanager import LightDevice
from pipeline.frames import PlannedChannel


class Light(Protocol):
    """What lights the specimen."""

    def reach(self) -> Reach:
        """How far it gets by itself, as the experiment wants it. Asks only."""
        ...

    def forget(self) -> None:
        """Take nothing for granted of how it stands."""
        ...

    def prepare(self, part: Part, passes: int) -> None:
        """Get ready for a burst; may light up."""
        ...

    def start(self) -> None:
        """Light up, and step on at the camera's triggers."""
        ...

    def halt(self) -> None:
        """After a burst: step no more."""
        ...

    def off(self) -> None:
        """Put it out; from any thread, whatever goes on. Raises `DriverError`."""
        ...

    def is_as_set(self) -> bool | None:
        """Whether it says that it is what was set; None where that can't be asked."""
        ...


def value_of(light: LightDevice, channel: PlannedChannel) -> LightValue:
    """What the light has to be for a channel."""
    off = str(light.off)
    if channel.brightness == 0:
        return LightValue(off, off)
    own = str(light.values[channel.name])
    firmware = light.firmware
    return LightValue(own, "" if firmware is None else str(firmware.values.get(channel.name, own)))


def dim_of(light: LightDevice, channel: PlannedChannel) -> tuple[tuple[str, str], ...] | None:
    """What else has to be set for a channel, in this order; None for a dark one, which takes any."""
    if channel.brightness == 0:
        return None
    further = [(key, str(value)) for key, value in light.settings.get(channel.name, {}).items()]
    control = light.brightness
    if control is not None:
        level = f"{control.full * channel.brightness:.9g}"
        further.append((f"{control.device}.{control.property}", level))
    return tuple(further)


class PropertyLight:
    """A light that takes one value of one property for each channel.

    Parameters
    ----------
    found
        The values that the further properties had before any channel set them, filled in here: a channel that
        does not name one that others set has it as it was.
    """

    def __init__(self, asker: Asker, light: LightDevice, found: dict[str, str]) -> None:
        self._asker = asker
        self._light = light
        self._property = PropertyValue(asker.core, light.device, light.property)
        self._steps = Stepper(asker, self._property, phase=light.phase, settle_ms=light.settle_ms)
        self._firmware = None if light.firmware is None else FirmwareSteps(asker, light)
        self._firmware_next = False
        self._labels = set(asker.core.get_loaded_devices())
        self._found = found
        self._further: dict[str, str] = {}
        self._set: str | None = None

    def reach(self) -> Reach:
        """How far it gets by itself, as the experiment wants it. Asks only."""
        if self._light.sequencing == "firmware":
            return firmware_reach(self._light)
        if self._light.sequencing == "software":
            return Reach(1, "sequencing: software")
        return hardware_reach(self._property)

    def forget(self) -> None:
        """Take nothing for granted."""
        self._steps.forget()
        self._further = {}
        if self._firmware is not None:
            self._firmware.forget()

    def prepare(self, part: Part, passes: int) -> None:
        """Brightness and further properties first, so that it lights up as it is to be."""
        if part.dim is not None:
            self._find()
            self._set_further({**self._found, **dict(part.dim)})
        values = [value for value in part.light if value is not None]
        self._firmware_next = self._firmware is not None and not is_constant(values)
        self._set = values[0].value if is_constant(values) else None
        if self._firmware is not None and self._firmware_next:
            if self._light.phase == -1:
                self._steps.set(values[0].value)
            self._firmware.prepare([value.firmware for value in values], passes)
        else:
            self._steps.prepare([value.value for value in values], again=passes > 1)

    def start(self) -> None:
        """The sequence, if there is one."""
        if self._firmware is not None and self._firmware_next:
            self._firmware.start()
            self._asker.check()
        else:
            self._steps.start()

    def halt(self) -> None:
        """Step no more."""
        if self._firmware is not None and self._firmware_next:
            self._firmware.stop()
            self._firmware_next = False
            self._steps.forget()
        else:
            self._steps.halt()

    def off(self) -> None:
        """Out: the sequence is stopped first, as it would go on from whatever is set."""
        causes: list[str] = []
        try:
            if self._firmware is not None:
                self._firmware.stop()
        except DriverError as error:
            causes.append(error.cause)
        try:
            self._steps.leave(str(self._light.off))
        except DriverError as error:
            causes.append(error.cause)
        if causes:
            raise DriverError("; ".join(causes), TRY_IT)

    def is_as_set(self) -> bool | None:
        """Whether the property reads as it was set, for a burst in one light."""
        if self._set is None:
            return None
        try:
            return _same(self._property.get(), self._set)
        except CORE_ERRORS:
            return None  # a command, which can only be given

    def _find(self) -> None:
        """Remember how the channels' further properties are before they are set."""
        for key in {key for settings in self._light.settings.values() for key in settings}:
            if key not in self._found:
                label, name = split_setting(key, self._labels)
                self._found[key] = self._asker.ask(
                    label, f"say its {name}", self._asker.core.get_property, label, name
                )

    def _set_further(self, further: Mapping[str, str]) -> None:
        core, changed = self._asker.core, set()
        for key, value in further.items():
            if self._further.get(key) == value:
                continue
            label, name = split_setting(key, self._labels)
            self._further.pop(key, None)
            self._asker.ask(label, f"take {name}={value}", core.set_property, label, name, value)
            self._asker.check()
            self._further[key] = value
            changed.add(label)
        for label in changed:
            self._asker.wait(label, self._light.settle_ms)


class ShutterLight:
    """A light that livephase can't switch, behind a shutter; or, with no shutter, one that it can't put out."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._shutter = str(asker.core.get_shutter_device() or "")
        self._open = False

    @property
    def label(self) -> str:
        """The shutter's; empty where there is none."""
        return self._shutter

    def reach(self) -> Reach:
        """It never changes."""
        return Reach()

    def forget(self) -> None:
        """Take it for closed, so that it is opened."""
        self._open = False

    def prepare(self, part: Part, passes: int) -> None:
        """Nothing to do."""

    def start(self) -> None:
        """Open."""
        if self._shutter and not self._open:
            self._asker.ask(self._shutter, "open", self._asker.core.set_shutter_open, True)
            self._asker.check()
            self._asker.wait(self._shutter, 0.0)
            self._open = True

    def halt(self) -> None:
        """It stays open from one burst to the next."""

    def off(self) -> None:
        """Close."""
        self._open = False
        if self._shutter:
            asker = self._asker.insistent()
            asker.ask(self._shutter, "close", asker.core.set_shutter_open, False)

    def is_as_set(self) -> bool | None:
        """There is no light to ask."""
        return None


def _same(said: str, asked: str) -> bool:
    """Whether two texts mean one value: devices write 1 as 1.0000."""
    if said == asked:
        return True
    try:
        return abs(float(said) - float(asked)) <= 1e-6 * max(1.0, abs(float(asked)))
    except ValueError:
        return False
