"""Calls to the core that may fail once: asked again, and what failed for good said with its cause and fix."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from drivers.driver import DeviceDisconnectedError
from drivers.micromanager.core import CORE_ERRORS, Core
from drivers.micromanager.refusals import said
from pipeline.errors import DriverError
from pipeline.experiment.micromanager import Patience

# Before a call is made again; doubled each time. A serial line that stumbled is itself again within this.
_BACK_OFF_S = 0.02
TRY_IT = "`livephase devices` lists what it takes; try it in Micro-Manager itself"
# How often a device that is busy is looked at.
_LOOK_S = 0.001


class Asker:
    """Makes calls to one core as often as `patience` allows.

    Parameters
    ----------
    interrupted
        Called again and again while something is waited for; raises to end the wait.
    tell
        Takes a sentence for the user.
    """

    def __init__(
        self,
        core: Core,
        patience: Patience,
        interrupted: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        self.core = core
        self.patience = patience
        self._interrupted = interrupted
        self.tell = tell
        self._took: set[tuple[str, str]] = set()

    def insistent(self) -> Asker:
        """One that nothing interrupts: for what has to be done to be safe."""
        other = Asker(self.core, self.patience, lambda: None, self.tell)
        other._took = self._took
        return other

    def check(self) -> None:
        """Raise if the burst was ended from elsewhere."""
        self._interrupted()

    def ask(self, device: str, what: str, call: Callable[..., Any], *arguments: Any) -> Any:
        """`call(*arguments)`, made again where it is refused.

        Parameters
        ----------
        device
            Label of the device that it goes to.
        what
            What it does, as in "'LED' did not take State=3": follows "did not".

        Raises
        ------
        DeviceDisconnectedError
            If the device answers nothing any more, or refuses what it took before.
        DriverError
            If it refuses.
        """
        tries = self.patience.tries
        for attempt in range(1, tries + 1):
            try:
                answer = call(*arguments)
            except CORE_ERRORS as error:
                self._interrupted()
                if attempt == tries:
                    raise self.refused(device, what, error) from error
                time.sleep(_BACK_OFF_S * 2 ** (attempt - 1))
            else:
                self._took.add((device, what))
                if attempt > 1:
                    self.tell(f"'{device}' did not {what} at first, but at try {attempt}")
                return answer
        raise AssertionError("unreachable: patience.tries is at least 1")

    def refused(self, device: str, what: str, error: BaseException) -> DriverError:
        """What a refusal means: a device that went away, or one that never took it."""
        cause = f"'{device}' did not {what} ({said(error)})"
        if (device, what) in self._took or not self._answers(device):
            return DeviceDisconnectedError(
                f"{cause}: it seems to be gone", "check its power and cable, then `--resume`"
            )
        return DriverError(cause, TRY_IT)

    def wait(self, device: str, settle_ms: float) -> None:
        """Wait until a device is no longer busy, and then for it to settle.

        Raises
        ------
        DriverError
            If it stays busy for longer than `patience.device_s`.
        """
        deadline = time.monotonic() + self.patience.device_s
        while self.ask(device, "say whether it is busy", self.core.device_busy, device):
            self._interrupted()
            if time.monotonic() > deadline:
                raise DriverError(
                    f"'{device}' is still busy after {self.patience.device_s:g} s",
                    "check that it can move, or raise microscope.patience.device_s",
                )
            time.sleep(_LOOK_S)
        if settle_ms > 0:
            self.pause(settle_ms / 1e3)

    def pause(self, seconds: float) -> None:
        """Sleep, but look up now and then."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._interrupted()
            time.sleep(min(left, 0.02))

    def _answers(self, device: str) -> bool:
        try:
            self.core.device_busy(device)
        except CORE_ERRORS:
            return False
        return True
