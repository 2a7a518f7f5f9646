"""Questions that may take long to be answered, asked from a thread; the newest answer is there at once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

log = logging.getLogger("livephase")

T = TypeVar("T")


class Asked(Generic[T]):
    """Asks every few seconds; called, it gives the newest answer.

    Parameters
    ----------
    ask
        None as its answer: there is nothing to be known, and it is not asked again.
    unknown
        The answer before the first one.
    """

    def __init__(self, ask: Callable[[], T | None], unknown: T, every_s: float) -> None:
        self._ask, self._newest, self._every_s = ask, unknown, every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="asking", daemon=True)
        self._thread.start()

    def __call__(self) -> T:
        """The newest answer."""
        return self._newest

    def close(self) -> None:
        """Ask no more. A question that is under way is left to itself."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            try:
                answer = self._ask()
            except Exception:
                log.exception("not answered, and not asked again")  # the run does not depend on it
                return
            if answer is None:
                return
            self._newest = answer
            self._over.wait(max(0.0, self._every_s - (time.monotonic() - began)))
