"""Everything put into the state in which nothing harms the specimen, though devices may hang or refuse."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from drivers.micromanager.lens import Lens
from drivers.micromanager.light import Light
from drivers.micromanager.popping import BurstCamera
from drivers.micromanager.setting import split_setting
from pipeline.errors import DriverError
from pipeline.experiment.micromanager import LightDevice, MicroManagerMicroscope

# A device that has not answered by then won't in time.
_DEADLINE_S = 0.8
_LOOK_S = 0.002


class Dark:
    """Whether the light was put out, and who is still at it.

    A device that hung may come to itself long after: no burst begins before, for its lens would move, or
    its light go out, in the middle.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._dark = threading.Event()
        self._hands: list[threading.Thread] = []
        self.is_set = self._dark.is_set

    def clear(self, patience_s: float) -> None:
        """Before a burst. Raises `DriverError` if devices are still being made safe after `patience_s`."""
        deadline = time.monotonic() + patience_s
        while True:
            with self._lock:
                busy = [hand.name for hand in self._hands if hand.is_alive()]
                if not busy:
                    self._dark.clear()
                    return
            if time.monotonic() > deadline:
                raise DriverError(
                    f"{' and '.join(busy)} still hangs since the light was put out",
                    "check the devices' power and cables, then `--resume`",
                )
            time.sleep(_LOOK_S)

    def fall(self, light: Light, lens: Lens | None, camera: BurstCamera | None) -> None:
        """Light out, lens to its safe place, camera stopped: all at once, each in a thread of its own.

        A call that hangs in one device, in this thread or another, must not keep the others from being made safe;
        nor for long the caller.

        Raises
        ------
        DriverError
            Naming every device that refused or did not answer in time; all was tried then.
        """
        tasks: dict[str, Callable[[], None]] = {"the light": light.off}
        if lens is not None:
            tasks["the lens"] = lens.leave
        if camera is not None:
            tasks["the camera"] = camera.leave
        trouble: dict[str, DriverError] = {}

        def do(name: str, task: Callable[[], None]) -> None:
            try:
                task()
            except DriverError as error:
                trouble[name] = error

        hands = {
            name: threading.Thread(target=do, args=(name, task), name=name, daemon=True)
            for name, task in tasks.items()
        }
        with self._lock:
            # Set before anything is done: no frame that is popped later counts.
            self._dark.set()
            for hand in hands.values():
                hand.start()
            self._hands = [hand for hand in self._hands if hand.is_alive()] + list(hands.values())
        deadline = time.monotonic() + _DEADLINE_S
        for name, hand in hands.items():
            hand.join(max(deadline - time.monotonic(), 0.0))
            if hand.is_alive():
                trouble[name] = DriverError(f"it did not answer within {_DEADLINE_S:g} s")
        # The light matters most, and comes first.
        causes = [f"{name} is not safe: {trouble[name].cause}" for name in tasks if name in trouble]
        if causes:
            by_hand = "switch the light off by hand, " if "the light" in trouble else ""
            raise DriverError("; ".join(causes), f"{by_hand}check the devices' power and cables")


def needed_to_be_safe(microscope: MicroManagerMicroscope) -> set[str] | None:
    """Labels of the devices without which the light can't be put out, or the lens sent to its safe place.

    None: all of them, as only all together say which shutter there is.
    """
    light, lens = microscope.light, microscope.lens
    if light is None:
        return None
    return needed_to_be_dark(light, microscope) | (set() if lens is None else {lens.device})


def needed_to_be_dark(light: LightDevice, microscope: MicroManagerMicroscope) -> set[str]:
    """Labels of the devices without which the light can't be put out."""
    known = {device.label for device in microscope.devices}
    stop = {} if light.firmware is None else light.firmware.stop
    return {light.device} | {split_setting(key, known)[0] for key in stop}
