"""Getting the devices back: how long, how often, and what the user hears of it. Free of any driver."""

from __future__ import annotations

from pipeline.errors import DriverError
from pipeline.experiment import Recovery
from pipeline.frames import SlotKey

# From one attempt to open the devices to the next: a USB device is back in a second or two, one whose cable
# somebody has to find is not asked too often.
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 30.0
# A camera that gave not one frame over so many slots in a row, each tried as often as allowed, is not stuck but gone.
_MOST_EMPTY_SLOTS = 3


class Tries:
    """Counts the tries of the slot being taken, and slots that were given up without a single frame."""

    def __init__(self, recovery: Recovery) -> None:
        self._most = recovery.slot_tries
        self._slot: SlotKey | None = None
        self._failed = 0
        self._empty = 0

    def another_failed(self, slot: SlotKey) -> bool:
        """One more try of a slot came to nothing; whether there is another."""
        self._failed = self._failed + 1 if slot == self._slot else 1
        self._slot = slot
        return self._failed < self._most

    def given_up(self, any_frame: bool) -> bool:
        """The slot is recorded as it is; whether the camera may still be believed to be there."""
        self._slot = None
        self._empty = 0 if any_frame else self._empty + 1
        return self._empty < _MOST_EMPTY_SLOTS

    def worked(self) -> None:
        """A frame came and was published."""
        self._empty = 0


class Outage:
    """From the first failure of a device until a frame is published again.

    Devices that come back and fail again at once are one outage: its time limit holds, and the waits grow.
    """

    def __init__(self, recovery: Recovery, began: float) -> None:
        self._limit_s = recovery.reconnect_s
        self._began = began
        self._wait_s = _FIRST_WAIT_S

    def next_wait(self, now: float, error: DriverError) -> float:
        """Seconds to wait before the next attempt.

        Raises
        ------
        DriverError
            `error`, once the time is up.
        """
        left = self._began + self._limit_s - now
        if left <= 0:
            raise error
        # The last attempt is at the very end.
        wait_s, self._wait_s = self._wait_s, min(2 * self._wait_s, _LONGEST_WAIT_S)
        return min(wait_s, left)

    def hold(self, seconds: float) -> None:
        """The run was paused for so long: that does not count."""
        self._began += seconds

    def lasted_s(self, now: float) -> float:
        """How long it has lasted."""
        return now - self._began
