"""Tells the service manager how things are: a thread, so that a loop that hangs is noticed."""

from __future__ import annotations

import logging
import threading
import time

from pipeline.server.alive import Judge, Verdict
from pipeline.server.notify import Notifier
from pipeline.server.service import Service

log = logging.getLogger("livephase.service")

# Where no manager waits: for its status line.
_USUAL_S = 5.0
# While the run drains and gets on.
_EXTENSION_S = 120.0


class Vigil:
    """Feeds the watchdog while the service's loop turns and its run shows signs of life."""

    def __init__(self, service: Service, notifier: Notifier | None = None) -> None:
        self._service = service
        self._notifier = notifier or Notifier()
        self._judge = Judge()
        self._turned = time.monotonic()
        self._stopping = False
        self._complaint = ""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="vigil", daemon=True)

    def loop_turns(self) -> None:
        """The event loop turned."""
        self._turned = time.monotonic()

    def ready(self) -> None:
        """The service listens."""
        self._notifier.ready()
        self._thread.start()

    def stopping(self) -> None:
        """The service was told to end; its run drains."""
        self._stopping = True
        self._notifier.stopping()

    def close(self) -> None:
        """End the thread."""
        self._end.set()
        if self._thread.ident is not None:
            self._thread.join()

    def look(self) -> Verdict:
        """One look, and what the manager is told after it."""
        watch = self._service.watch
        signs = None if watch is None else watch.signs()
        verdict = self._judge.judge(time.monotonic() - self._turned, signs)
        if verdict.feed:
            self._notifier.watchdog()
            if self._stopping:
                self._notifier.extend(_EXTENSION_S)
        elif verdict.reason != self._complaint:
            log.error("not well: %s", verdict.reason)
        self._complaint = "" if verdict.feed else verdict.reason
        self._notifier.status(
            verdict.reason if watch is None else f"{watch.name}: {verdict.reason}"
        )
        return verdict

    def _watch(self) -> None:
        every_s = min(self._notifier.watchdog_interval_s() or _USUAL_S, _USUAL_S)
        while not self._end.wait(every_s):
            self.look()
