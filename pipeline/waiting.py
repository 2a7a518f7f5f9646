"""How every process waits for another: look, sleep a little, look again.

Nothing that a killed process could hold is waited on; the sleeps grow, so that
an idle stage costs next to nothing and a busy hand-off stays below a millisecond.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_SHORTEST_S = 0.0002
# At most this late after a long wait. Half of it is the mean: far below the 3 ms of a hand-off.
_LONGEST_S = 0.002
_GROWTH = 1.5


def wait_for(ready: Callable[[], bool], timeout_s: float) -> bool:
    """Wait until `ready()`; False if it still isn't after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    pause = _SHORTEST_S
    while not ready():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(pause * _GROWTH, _LONGEST_S)
    return True
