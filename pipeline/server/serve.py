"""`livephase serve`: the process, from the first check to the last signal."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import uvicorn

from pipeline.errors import LivephaseError
from pipeline.log import log_to, stop_logging
from pipeline.server.app import make_app
from pipeline.server.bounded import BoundedProtocol
from pipeline.server.guard import Guard, GuardSettings
from pipeline.server.home import Home
from pipeline.server.service import Service
from pipeline.server.vigil import Vigil

DEFAULT_PORT = 8770
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
# Orders and acknowledgements are short.
_MOST_SOCKET_MESSAGE = 65_536
_LOOK_S = 0.1
# For answers under way, once the run is over.
_LAST_ANSWERS_S = 3


def serve(
    home: Path,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    *,
    allow_hosts: tuple[str, ...] = (),
    open_metrics: bool = True,
) -> None:
    """Serve until a signal; a run that goes on then finishes its timepoint and drains first.

    Parameters
    ----------
    home
        Folder of runs and token; made where it is missing.
    port
        0: any free one.
    allow_hosts
        Names by which browsers may call this service, beside the address that it is bound to: of a reverse proxy.
    open_metrics
        Whether `/metrics` needs no token from this machine.

    Raises
    ------
    LivephaseError
        If the home is in use or can't be written, or the address can't be had.
    """
    place = Home(home)
    place.make()
    token = place.token()
    with place.lock(), _bound(host, port) as listening:
        port = listening.getsockname()[1]
        handler = log_to(place.path / "service.jsonl", "service")
        service = Service(place)
        try:
            service.start()
            settings = GuardSettings(token, port, _names(host, allow_hosts), open_metrics)
            shown = f"[{host}]" if ":" in host else host
            address = f"http://{shown}:{port}/"
            with place.announced(address):
                tell = partial(_tell, address, place, token)
                asyncio.run(_serve(service, settings, listening, tell))
        finally:
            service.close()
            stop_logging(handler)


class _Server(uvicorn.Server):
    """uvicorn's, whose signals end the run before they end the server."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.signals = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Called within the interpreter's own: no more than a number is safe to change."""
        self.signals += 1


async def _serve(
    service: Service, settings: GuardSettings, listening: socket.socket, tell: Callable[[], None]
) -> None:
    config = uvicorn.Config(
        Guard(make_app(service), settings),
        http=BoundedProtocol,
        ws="websockets-sansio",
        ws_max_size=_MOST_SOCKET_MESSAGE,
        # Noise does not compress, and the cores have better things to do.
        ws_per_message_deflate=False,
        # Addresses carry the token once.
        access_log=False,
        log_config=None,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=_LAST_ANSWERS_S,
    )
    server, vigil = _Server(config), Vigil(service)
    ending = asyncio.create_task(_until_the_end(server, service, vigil, tell))
    try:
        await server.serve(sockets=[listening])
    finally:
        ending.cancel()
        with suppress(asyncio.CancelledError):
            await ending
        vigil.close()


async def _until_the_end(
    server: _Server, service: Service, vigil: Vigil, tell: Callable[[], None]
) -> None:
    """Tell when it serves; then wait for signals.

    Once: stop the run and wait until it has drained. Twice: leave its backlog. Three times: end at once.
    """
    handled = 0
    ready = asked = False
    while True:
        await asyncio.sleep(_LOOK_S)
        vigil.loop_turns()
        if server.started and not ready:
            ready = True
            vigil.ready()
            tell()
        if server.signals > handled:
            handled += 1
            if handled == 1:
                _say("stopping" + (": the run finishes and drains" if service.run_goes_on else ""))
                vigil.stopping()
            elif handled == 2:
                await asyncio.to_thread(service.leave_backlog)
        if handled and not asked:
            asked = await asyncio.to_thread(service.stop_run)
        if handled and (handled >= 3 or not service.is_at_work):
            server.should_exit = True
            return


def _bound(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `LivephaseError` if the address can't be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        if sys.platform != "win32":
            # On Windows it would let two services share a port.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
    except (OSError, OverflowError) as error:
        raise LivephaseError(
            f"can't listen on {host}:{port} ({getattr(error, 'strerror', None) or error})",
            "is a service running there already? Give another --port, or 0 for any free one",
        ) from error
    return listening


def _names(host: str, allowed: tuple[str, ...]) -> frozenset[str]:
    """What browsers may call us."""
    own = set(_LOOPBACK) if host in _LOOPBACK else {*_LOOPBACK, host, socket.gethostname()}
    return frozenset(name.lower() for name in (*own, *allowed))


def _tell(address: str, home: Home, token: str) -> None:
    """Where it is. With the token only at a terminal: never in a journal or a log."""
    if sys.stdout.isatty():
        # By print: a library that wraps lines would break the address.
        print(f"livephase: {address}?token={token}", flush=True)
    else:
        _say(f"serving on {address}; the token is in {home.token_file}")
    if urlsplit(address).hostname not in _LOOPBACK:
        _say(
            "reachable from other machines without encryption: put it behind a proxy with TLS, or an ssh tunnel"
        )


def _say(text: str) -> None:
    print(f"livephase: {text}", file=sys.stderr, flush=True)
