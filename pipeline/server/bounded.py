"""Connections that cost the service nothing: so many at most, and none that never asks anything."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 256
# From the connection to the first complete request's head.
_SILENCE_S = 10.0


class BoundedProtocol(H11Protocol):
    """uvicorn's own, with a bound on their number and on their silence.

    Each open connection is an open file. Without a bound, whoever opens thousands takes away those that the
    service needs to look at a run.
    """

    _silence: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Take it, or close it at once."""
        if len(self.connections) >= MOST_CONNECTIONS:
            transport.abort()
            # uvicorn's own `connection_lost` looks at what this one would have set.
            self.transport = transport
            return
        super().connection_made(transport)
        self._silence = self.loop.call_later(_SILENCE_S, self._close_silent)

    def _close_silent(self) -> None:
        if vars(self)["scope"] is None and not self.transport.is_closing():
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        super().connection_lost(exc)
