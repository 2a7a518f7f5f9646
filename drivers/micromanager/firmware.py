"""A light that steps through a sequence of its own firmware, at the camera's triggers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from drivers.micromanager.asking import Asker
from drivers.micromanager.reach import BuiltInReach, FirmwareReach, Reach, is_constant
from drivers.micromanager.setting import split_setting
from drivers.micromanager.stepping import rotated
from pipeline.experiment.micromanager import FirmwareSequence, LightDevice, Value


def firmware_reach(light: LightDevice) -> Reach:
    """How far the light gets by its firmware."""
    firmware = light.firmware
    assert firmware is not None
    repeats = firmware.max_repeats if firmware.is_repeated() else None
    if firmware.order:
        return BuiltInReach(len(firmware.order), most_passes=repeats or 1)
    # One that stepped on before the first frame is given a frame more, where it does not begin anew.
    spare = 1 if repeats is None and light.phase == 1 else 0
    return FirmwareReach(max(firmware.max_length - spare, 1), most_passes=repeats)


class FirmwareSteps:
    """Writes, starts and stops the sequence of a light's firmware."""

    def __init__(self, asker: Asker, light: LightDevice) -> None:
        assert light.firmware is not None
        self._asker = asker
        self._device = light.device
        self._firmware: FirmwareSequence = light.firmware
        self._phase = light.phase
        self._written: tuple[str, ...] = ()
        self._labels = set(asker.core.get_loaded_devices())
        self._start: dict[str, str] = {}

    def forget(self) -> None:
        """Take nothing for granted of what the firmware holds."""
        self._written = ()

    def prepare(self, frames: Sequence[str], passes: int) -> None:
        """Write the sequence of the next burst: `frames`, run through `passes` times."""
        firmware = self._firmware
        if firmware.order:
            length, repeats = len(firmware.order), passes * len(frames) // len(firmware.order)
        elif firmware.is_repeated():
            frames = rotated(frames, self._phase)
            length, repeats = len(frames), passes
        else:
            frames = _shifted(tuple(frames) * passes, self._phase)
            length, repeats = len(frames), 1
        marks = {"{length}": str(length), "{repeats}": str(repeats)}
        self._start = {key: _fill(value, marks) for key, value in firmware.start.items()}
        if firmware.property is None:
            return
        texts = tuple(self._texts(frames, marks))
        if texts == self._written:
            return
        self._written = ()
        core, name = self._asker.core, firmware.property

        def write() -> None:
            # As a whole, also where one of them is refused once: set twice, a frame would be there twice.
            for text in texts:
                core.set_property(self._device, name, text)

        self._asker.ask(self._device, f"take a sequence of {len(frames)} in {name}", write)
        self._asker.wait(self._device, 0.0)
        self._written = texts

    def start(self) -> None:
        """Let the firmware step on at each trigger."""
        self._apply(self._asker, self._start)

    def stop(self) -> None:
        """Step no more; from any thread."""
        stop = {key: str(value) for key, value in self._firmware.stop.items()}
        self._apply(self._asker.insistent(), stop)

    def _texts(self, frames: Sequence[str], marks: Mapping[str, str]) -> Iterator[str]:
        firmware = self._firmware
        if firmware.begin is not None:
            yield _fill(firmware.begin, marks)
        filled = [_fill(firmware.frame, {**marks, "{value}": value}) for value in frames]
        if firmware.separator is None:
            yield from filled
        else:
            yield firmware.separator.join(filled)

    def _apply(self, asker: Asker, settings: Mapping[str, str]) -> None:
        for key, value in settings.items():
            label, name = split_setting(key, self._labels)
            self._set(asker, label, name, value)

    @staticmethod
    def _set(asker: Asker, label: str, name: str, value: str) -> None:
        asker.ask(label, f"take {name}={value}", asker.core.set_property, label, name, value)


def _shifted(frames: tuple[str, ...], phase: int) -> tuple[str, ...]:
    """As `rotated`, for a sequence that is run through once and does not begin anew."""
    if phase == 1:
        return (frames[0], *frames)
    return frames[1:] if phase == -1 and not is_constant(frames) else frames


def _fill(text: Value, marks: Mapping[str, str]) -> str:
    filled = str(text)
    for mark, value in marks.items():
        filled = filled.replace(mark, value)
    return filled
