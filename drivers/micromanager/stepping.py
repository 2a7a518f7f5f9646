"""One device through the values of a burst's frames: set once, or loaded and stepped by the camera's triggers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drivers.micromanager.asking import TRY_IT, Asker
from drivers.micromanager.core import CORE_ERRORS
from drivers.micromanager.reach import endless_period, is_constant, shortest_period
from drivers.micromanager.refusals import said
from drivers.micromanager.sequenced import Sequenced
from pipeline.errors import DriverError


def rotated(values: Sequence[Any], phase: int) -> tuple[Any, ...]:
    """The sequence to load so that frame i shows ``values[i]``, though its trigger comes `phase` steps early.

    A device of phase 1 has stepped on once before the first frame: frame i shows entry i + 1. With phase -1
    the first frame shows what was set before, and frame i shows entry i - 1.
    """
    length = len(values)
    return tuple(values[(i - phase) % length] for i in range(length))


class Stepper:
    """Steps one device.

    Parameters
    ----------
    phase, settle_ms
        As in the experiment's `LightDevice` and `LensDevice`.
    starts_settled
        Whether the first value is set, and settled, before the camera starts though a sequence is loaded: for
        what is slower to get there than from one value to the next.
    """

    def __init__(
        self,
        asker: Asker,
        device: Sequenced,
        *,
        phase: int = 0,
        settle_ms: float = 0.0,
        starts_settled: bool = False,
    ) -> None:
        self._asker = asker
        self._device = device
        self._phase = phase
        self._settle_ms = settle_ms
        self._sets_first = starts_settled or phase == -1
        self._value: Any = None
        self._loaded: tuple[Any, ...] | None = None
        self._is_next_sequence = False
        self._stepping = False

    def forget(self) -> None:
        """Take nothing for granted of where the device stands and what it holds."""
        self._value = self._loaded = None

    def prepare(self, values: Sequence[Any], *, again: bool) -> None:
        """Get ready for a burst: the first value set and settled, or the sequence loaded.

        Parameters
        ----------
        again
            Whether the values are run through more than once.
        """
        self._is_next_sequence = not is_constant(values)
        if not self._is_next_sequence or self._sets_first:
            self.set(values[0])
        if not self._is_next_sequence:
            return
        period = endless_period(values) if again else shortest_period(values)
        sequence = rotated(values[:period], self._phase)
        if sequence != self._loaded:
            # What is loaded counts as lost while a load goes on that may fail.
            self._loaded = None
            self._ask(f"take a sequence of {period}", self._device.load, sequence)
            self._loaded = sequence

    def set(self, value: Any) -> None:
        """Go to one value and wait until the device is there; nothing if it is."""
        if value == self._value:
            return
        self._value = None
        self._ask(f"take {value}", self._device.set, value)
        self._asker.check()
        self._asker.wait(self._device.label, self._settle_ms)
        self._value = value

    def start(self) -> None:
        """Step on at each trigger, if there is a sequence for this burst."""
        if not self._is_next_sequence:
            return
        self._stepping, self._value = True, None
        self._ask("start its sequence", self._device.start)
        self._asker.check()

    def halt(self) -> None:
        """After a burst: step no more."""
        if self._stepping:
            self._ask("stop its sequence", self._device.stop)
            self._stepping = False

    def leave(self, value: Any | None) -> None:
        """From any thread, whatever goes on: step no more and go to `value`, where one is given.

        Raises
        ------
        DriverError
            If the device refuses; all was tried then.
        """
        self.forget()
        asker = self._asker.insistent()
        causes: list[str] = []
        try:
            # Another process may have left it stepping: stopped though this one never started it.
            if self._stepping or self._device.is_sequenceable():
                asker.ask(self._device.label, "stop its sequence", self._device.stop)
            self._stepping = False
        except DriverError as error:
            # A device that was never started need not understand that it is to stop.
            causes += [error.cause] if self._stepping else []
        except CORE_ERRORS as error:
            causes.append(f"'{self._device.label}' does not answer ({said(error)})")
        try:
            if value is not None:
                asker.ask(self._device.label, f"take {value}", self._device.set, value)
        except DriverError as error:
            causes.append(error.cause)
        if causes:
            raise DriverError("; ".join(causes), TRY_IT)

    def _ask(self, what: str, call: Any, *arguments: Any) -> None:
        self._asker.ask(self._device.label, what, call, *arguments)
