"""What a service manager is told: ready, still alive, stopping. systemd's protocol, a datagram a message.

Without a service manager (at a terminal, on Windows) there is nobody to tell, and nothing happens.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger("livephase")

# A manager that is busy gets a moment; the service does not wait for one that hangs.
_TIMEOUT_S = 1.0


class Notifier:
    """The service's line to its manager.

    Each call returns whether the manager was reached; none raises, as a service that can't speak to
    its manager still has a run to look after.

    Parameters
    ----------
    environment
        Where the manager left its address (``NOTIFY_SOCKET``) and what it expects.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._watchdog_s = _watchdog_s(environment)
        self._reached = True

    def watchdog_interval_s(self) -> float | None:
        """Seconds between two calls of `watchdog`: half of what the manager waits. None: it does not wait for us."""
        return None if self._watchdog_s is None else self._watchdog_s / 2

    def ready(self) -> bool:
        """The service does its work from now on."""
        return self._send("READY=1")

    def status(self, text: str) -> bool:
        """A line for `systemctl status`."""
        return self._send("STATUS=" + " ".join(text.split()))

    def stopping(self) -> bool:
        """The service is about to end."""
        return self._send("STOPPING=1")

    def watchdog(self) -> bool:
        """The service is alive. Where this is not said in time, it is killed and started again."""
        return self._send("WATCHDOG=1")

    def extend(self, seconds: float) -> bool:
        """Starting or stopping goes on: it may last at least `seconds` more."""
        return self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def _send(self, message: str) -> bool:
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
                line.settimeout(_TIMEOUT_S)
                line.connect(self._address)
                line.send(message.encode())
        except OSError as error:
            if self._reached:
                log.warning("the service manager can't be told: %s", error)
            self._reached = False
            return False
        self._reached = True
        return True


def _address(named: str) -> str:
    """A path, or a name in Linux's abstract namespace: ``@`` stands for its leading zero byte."""
    if named.startswith("@"):
        return "\0" + named[1:]
    return named if named.startswith("/") else ""


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """How long the manager waits for a sign of life of this process, in seconds."""
    usec = environment.get("WATCHDOG_USEC", "")
    pid = environment.get("WATCHDOG_PID", "")
    # A child inherits the environment, and is not the one who is waited for.
    if not usec.isdecimal() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1e6
