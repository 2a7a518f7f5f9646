"""Alarms sent to a web address as they come and go."""

from __future__ import annotations

import json
import logging
import queue
import threading
import urllib.error
import urllib.request
from typing import Any, Final
from urllib.parse import urlsplit

log = logging.getLogger("livephase")

_TIMEOUT_S: Final = 5.0
_WAITS_S: Final = (1.0, 5.0)  # before the second and the third try
_MOST_WAITING: Final = 100


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A POST that is sent elsewhere would arrive as a GET without its content: it is a failure."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Webhook:
    """Sends from a thread: tries three times, then logs that it was not heard. Never keeps anybody waiting."""

    def __init__(self, url: str) -> None:
        self._url = url
        # All that a log may show: such addresses carry secrets.
        self._host = urlsplit(url).hostname
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(_MOST_WAITING)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def send(self, content: dict[str, Any]) -> None:
        """Soon; not at all where a hundred are waiting already."""
        try:
            self._waiting.put_nowait(content)
        except queue.Full:
            self._not_sent(content, "too many are waiting")

    def close(self, timeout_s: float) -> None:
        """Send what is waiting, once each, and give up after that time."""
        self._over.set()
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (content := self._waiting.get()) is not None:
            reason = self._post(content)
            for wait_s in _WAITS_S:
                if reason is None or self._over.wait(wait_s):
                    break
                reason = self._post(content)
            if reason is not None:
                self._not_sent(content, reason)

    def _post(self, content: dict[str, Any]) -> str | None:
        """None if it was taken, otherwise why not."""
        request = urllib.request.Request(
            self._url,
            json.dumps(content).encode(),
            {"Content-Type": "application/json", "User-Agent": "livephase"},
            method="POST",
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S):
                return None
        except urllib.error.HTTPError as error:
            with error:
                return f"it answers {error.code}"
        except (OSError, ValueError) as error:
            return type(error).__name__ if self._url in str(error) else str(error)

    def _not_sent(self, content: dict[str, Any], reason: str) -> None:
        log.warning(
            "the webhook was not heard",
            extra={"host": self._host, "reason": reason, "alarm": content.get("alarm")},
        )
