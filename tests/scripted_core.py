"""A core whose camera and devices fail on request: what no test adapter of Micro-Manager does.

LED and lens step at each exposure as triggered devices do; each frame's pixels hold what it saw: LED state, ten times
the lens position, brightness.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np

SHAPE = (4, 4)


class Stepped:
    """A device that holds a sequence and steps on at each exposure."""

    def __init__(self, value: Any, most: int, phase: int = 0) -> None:
        self.value, self.most, self.phase = value, most, phase
        self.sequence: list[Any] = []
        self.step: int | None = None

    def set(self, value: Any) -> None:
        if self.step is not None:
            raise RuntimeError("a sequence is running")
        self.value = value

    def expose(self) -> None:
        if self.step is None:
            return
        entry = self.step + self.phase
        if entry >= 0:
            self.value = self.sequence[entry % len(self.sequence)]
        self.step += 1


class ScriptedCore:
    """Follows `drivers.micromanager.core.Core`.

    Attributes
    ----------
    lose
        Numbers of frames, in each burst, that never reach the buffer.
    overflow_at, stop_at, stall_at
        Number of the frame, in a burst, before which the buffer overflows, the camera stops, delivers nothing more.
    refuse
        Call → how often it is refused from now on.
    hang
        Calls that don't return before `released` is set.
    ahead
        Frames that the camera is ahead of whoever pops.
    """

    def __init__(self, *, led_most: int = 64, lens_most: int = 64, phase: int = 0) -> None:
        self.led = Stepped("0", led_most, phase)
        self.lens = Stepped(0.0, lens_most, phase)
        self.exposure = Stepped(1.0, 0)
        self.properties = {("Dimmer", "Level"): "0", ("Extra", "Mode"): "none"}
        self.lose: set[int] = set()
        self.overflow_at: int | None = None
        self.stop_at: int | None = None
        self.stall_at: int | None = None
        self.refuse: dict[str, int] = defaultdict(int)
        self.hang: set[str] = set()
        self.released = threading.Event()
        self.ahead = 1
        self.gone = False
        self.shutter, self.shutter_open = "", False
        self.place: tuple[float, float] | None = None
        self.calls: list[tuple[Any, ...]] = []
        self.bursts: list[int] = []
        self.running, self.made, self.wanted = False, 0, 0
        self.overflowed = False
        self.waiting: list[tuple[str, np.ndarray[Any, Any]]] = []
        self.lit_while_moving = False

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if name.startswith("_") or not callable(found) or not hasattr(ScriptedCore, name):
            return found

        def call(*arguments: Any) -> Any:
            self.calls.append((name, *arguments))
            if name in self.hang:
                self.released.wait(20)
            if self.gone:
                raise RuntimeError("Serial command failed")
            if self.refuse[name] > 0:
                self.refuse[name] -= 1
                raise RuntimeError(f"{name} refused")
            return found(*arguments)

        return call

    def called(self, name: str) -> list[tuple[Any, ...]]:
        return [tuple(arguments) for call, *arguments in self.calls if call == name]

    # What a driver asks when it opens.
    def get_version_info(self):
        return "MMCore version 12.5.0"

    def get_loaded_devices(self):
        return ("Cam", "LED", "Lens", "Dimmer", "Extra", "XY", "Core")

    def get_device_library(self, label):
        return "Scripted"

    get_device_name = get_device_library

    def get_camera_device(self):
        return "Cam"

    def get_shutter_device(self):
        return self.shutter

    def get_xy_stage_device(self):
        return "XY"

    def get_image_height(self):
        return SHAPE[0]

    def get_image_width(self):
        return SHAPE[1]

    def get_image_bit_depth(self):
        return 8

    def get_bytes_per_pixel(self):
        return 1

    def initialize_circular_buffer(self): ...

    def has_property(self, label, name):
        return False

    # Devices.
    def device_busy(self, label):
        return False

    def get_property(self, label, name):
        return self.led.value if (label, name) == ("LED", "State") else self.properties[label, name]

    def set_property(self, label, name, value):
        assert isinstance(value, str)
        if (label, name) == ("LED", "State"):
            self.led.set(value)
        else:
            self.properties[label, name] = value

    def is_property_sequenceable(self, label, name):
        return self.led.most > 0

    def get_property_sequence_max_length(self, label, name):
        return self.led.most

    def load_property_sequence(self, label, name, values):
        assert len(values) <= self.led.most
        self.led.sequence = list(values)

    def start_property_sequence(self, label, name):
        self.led.step = 0

    def stop_property_sequence(self, label, name):
        self.led.step = None

    def set_position(self, label, position):
        self.lens.set(position)

    def is_stage_sequenceable(self, label):
        return self.lens.most > 0

    def get_stage_sequence_max_length(self, label):
        return self.lens.most

    def load_stage_sequence(self, label, positions):
        assert len(positions) <= self.lens.most
        self.lens.sequence = list(positions)

    def start_stage_sequence(self, label):
        self.lens.step = 0

    def stop_stage_sequence(self, label):
        self.lens.step = None

    def set_xy_position(self, label, x, y):
        self.lit_while_moving |= self.led.value != "0"
        self.place = (x, y)

    def set_shutter_open(self, is_open):
        self.shutter_open = is_open

    # Camera.
    def set_exposure(self, ms):
        self.exposure.value = ms

    def is_exposure_sequenceable(self, label):
        return self.exposure.most > 0

    def get_exposure_sequence_max_length(self, label):
        return self.exposure.most

    def load_exposure_sequence(self, label, values):
        self.exposure.sequence = list(values)

    def start_exposure_sequence(self, label):
        self.exposure.step = 0

    def stop_exposure_sequence(self, label):
        self.exposure.step = None

    def get_buffer_total_capacity(self):
        return 10

    def is_buffer_overflowed(self):
        return self.overflowed

    def start_sequence_acquisition(self, frames, interval_ms, stop_on_overflow):
        assert stop_on_overflow
        assert not self.running
        self.bursts.append(frames)
        self.waiting.clear()
        self.running, self.made, self.wanted, self.overflowed = True, 0, frames, False

    def stop_sequence_acquisition(self):
        self.running = False

    def is_sequence_running(self):
        return self.running

    def get_remaining_image_count(self):
        while self.running and len(self.waiting) < self.ahead and self.made != self.stall_at:
            self._expose()
        return len(self.waiting)

    def pop_next_tagged_image(self):
        if not self.waiting:
            raise IndexError("Circular buffer is empty.")
        number, pixels = self.waiting.pop(0)
        return SimpleNamespace(pix=pixels, tags={"ImageNumber": number})

    def _expose(self):
        if self.made == self.overflow_at or self.made == self.stop_at:
            self.overflowed = self.made == self.overflow_at
            self.running = False
            return
        for device in (self.led, self.lens, self.exposure):
            device.expose()
        if self.made not in self.lose:
            saw = [
                int(self.led.value),
                round(10 * self.lens.value) % 256,
                int(self.properties["Dimmer", "Level"]),
                round(self.exposure.value),
            ]
            # Flat and signed, as Java hands them out.
            self.waiting.append((str(self.made), np.array(saw * 4, np.uint8).view(np.int8)))
        self.made += 1
        self.running = self.made < self.wanted
