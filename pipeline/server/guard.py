"""Who may ask, and how much: in front of everything that the service answers.

- The token, as `Authorization: Bearer` or as the cookie that the page's address sets; compared in constant time.
- The Host must be this machine as it was bound, so that no foreign name can be made to point here; an Origin must be
  the same host: a page of somebody else's can neither send orders nor open the websocket.
- Bodies, and the rate of orders and of wrong tokens, are bounded.
"""

from __future__ import annotations

import http.cookies
import ipaddress
import json
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
# Status, cause and fix.
Refusal = tuple[int, str, str]

MOST_BODY_BYTES = 2_000_000
_TOO_LARGE = (
    f"a body of more than {MOST_BODY_BYTES} bytes is too large",
    "an experiment is a page of text",
)
_SAFE = ("GET", "HEAD")
# Orders a second of one client, and how many at once: no person, and no script with a purpose, gives more.
_ORDERS = (20.0, 40.0)
# Wrong tokens.
_GUESSES = (1.0, 20.0)
_MOST_CLIENTS = 10_000

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_PAGE = (
    b"default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    b"frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
# A run folder may come from elsewhere: what lies in it is shown, and runs nothing.
_RUNS = b"sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data: 'self'"
_NEUROGLANCER = (
    b"default-src 'self' blob: data:; script-src 'self' 'unsafe-eval' blob:; "
    b"style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; frame-ancestors 'none'"
)
_WELCOME = (
    b'<!doctype html><html lang="en"><meta charset="utf-8"><title>livephase</title>'
    b"<body style='font:16px system-ui;max-width:40rem;margin:4rem auto;padding:0 1rem'>"
    b"<h1>livephase</h1><p>This page needs the token of the service. Open the address that "
    b"<code>livephase serve</code> printed when it started, or ask <code>livephase address</code>.</p></body></html>"
)


class Buckets:
    """Bounds how often each client does something: so many a second on the long run, and so many at once."""

    def __init__(self, per_s: float, at_once: float) -> None:
        self._per_s, self._at_once = per_s, at_once
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, client: str) -> bool:
        """Whether once more is allowed."""
        now = time.monotonic()
        left, before = self._left.get(client, (self._at_once, now))
        left = min(self._at_once, left + (now - before) * self._per_s)
        if len(self._left) >= _MOST_CLIENTS and client not in self._left:
            self._left.clear()
        self._left[client] = (left - 1 if left >= 1 else left), now
        return left >= 1


@dataclass
class GuardSettings:
    """What the guard goes by.

    Parameters
    ----------
    token
        The service's.
    port
        Where it listens: cookies know no ports, so its name is in the cookie's.
    hosts
        Names and addresses by which it may be called, without port.
    open_metrics
        Whether `/metrics` needs no token from this machine.
    """

    token: str
    port: int
    hosts: frozenset[str]
    open_metrics: bool = True
    orders: Buckets = field(default_factory=lambda: Buckets(*_ORDERS))
    guesses: Buckets = field(default_factory=lambda: Buckets(*_GUESSES))

    @property
    def cookie(self) -> str:
        """Name of the cookie."""
        return f"livephase_{self.port}"


class Guard:
    """ASGI middleware; outermost."""

    def __init__(self, app: App, settings: GuardSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through, or answer."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request = _Request(scope)
        refusal = self._refusal(request)
        if refusal is not None:
            await _refuse(request, refusal, receive, send)
        elif request.path == "/" and request.query_token(self._settings.token):
            await _redirect(self._settings, send)
        else:
            await self._pass_on(request, receive, send)

    def _refusal(self, request: _Request) -> Refusal | None:
        """Status, cause and fix; None where the request may pass."""
        return self._foreign(request) or self._unknown(request) or self._excessive(request)

    def _foreign(self, request: _Request) -> Refusal | None:
        if request.host not in self._settings.hosts:
            return 421, f"this service is not called '{request.host}'", "add --allow-host NAME"
        if request.origin is not None and urlsplit(request.origin).netloc != request.header(
            b"host"
        ):
            return 403, "a page of another origin may not ask this service", ""
        return None

    def _unknown(self, request: _Request) -> Refusal | None:
        settings = self._settings
        if request.path == "/metrics" and settings.open_metrics and request.is_loopback:
            return None
        bearer = request.bearer()
        by_cookie = request.cookie(settings.cookie)
        known = [t for t in (bearer, by_cookie) if t is not None and _same(t, settings.token)]
        if not known and not (request.path == "/" and request.query_token(settings.token)):
            if not settings.guesses.take(request.client):
                return 429, "too many requests without the right token", "wait a minute"
            return (
                401,
                "the token is missing or wrong",
                "it is in the file `token` of the service's home",
            )
        if request.is_order and bearer is None and request.origin is None:
            return (
                403,
                "an order from a page must say where it comes from",
                "send the token as Authorization: Bearer",
            )
        return None

    def _excessive(self, request: _Request) -> Refusal | None:
        if request.is_order and not self._settings.orders.take(request.client):
            return 429, "too many orders in a second", "send fewer"
        if request.body_bytes > MOST_BODY_BYTES:
            return 413, *_TOO_LARGE

        return None

    async def _pass_on(self, request: _Request, receive: Receive, send: Send) -> None:
        taken = 0
        answered = False

        async def bounded() -> Message:
            nonlocal taken, answered
            message = await receive()
            taken += len(message.get("body", b"")) if message["type"] == "http.request" else 0
            if taken > MOST_BODY_BYTES and not answered:
                # At once, and closed: nobody reads on to the end of it.
                answered = True
                await _answer(413, *_TOO_LARGE, send)
            return {"type": "http.disconnect"} if answered else message

        async def with_headers(message: Message) -> None:
            if answered:
                return
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_headers_for(request.path)]
            await send(message)

        await self._app(request.scope, bounded, with_headers)


class _Request:
    """What the guard reads of a scope."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.type: str = scope["type"]
        self.path: str = scope["path"]
        self.method: str = scope.get("method", "GET")
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self.client: str = (scope.get("client") or ("?", 0))[0]

    def header(self, name: bytes) -> str:
        """A header, empty where it isn't there."""
        return self._headers.get(name, b"").decode("latin-1")

    @property
    def is_order(self) -> bool:
        """Whether it asks for something to be done."""
        return self.type == "http" and self.method not in _SAFE

    @property
    def host(self) -> str:
        """As the client calls us, without the port."""
        return (
            (urlsplit(f"//{self.header(b'host')}").hostname or "") if self.header(b"host") else ""
        )

    @property
    def origin(self) -> str | None:
        """Of the page that asks, if one does."""
        return self.header(b"origin") or None

    @property
    def is_loopback(self) -> bool:
        """Whether the client is on this machine."""
        try:
            return ipaddress.ip_address(self.client).is_loopback
        except ValueError:
            return False

    @property
    def body_bytes(self) -> int:
        """As announced."""
        text = self.header(b"content-length")
        return int(text) if text.isdecimal() else 0

    def bearer(self) -> str | None:
        """The token of the Authorization header."""
        kind, _, token = self.header(b"authorization").partition(" ")
        return token.strip() if kind.lower() == "bearer" else None

    def cookie(self, name: str) -> str | None:
        """A cookie."""
        try:
            cookies = http.cookies.SimpleCookie(self.header(b"cookie"))
        except http.cookies.CookieError:
            return None
        return cookies[name].value if name in cookies else None

    def query_token(self, token: str) -> bool:
        """Whether the address carries the token, as the one that is printed does."""
        given = parse_qs(self.scope.get("query_string", b"").decode("latin-1")).get("token", [])
        return any(_same(g, token) for g in given)


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "replace"), token.encode())


def _headers_for(path: str) -> list[tuple[bytes, bytes]]:
    policy = _PAGE
    caching = b"no-cache"
    if path.startswith("/runs/"):
        policy = _RUNS
    elif path.startswith("/neuroglancer/"):
        policy = _NEUROGLANCER
    elif path.startswith("/api/"):
        caching = b"no-store"
    return [*_HEADERS, (b"content-security-policy", policy), (b"cache-control", caching)]


async def _refuse(request: _Request, refusal: Refusal, receive: Receive, send: Send) -> None:
    status, cause, fix = refusal
    if request.type == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": cause})
    elif status == 401 and request.path == "/" and request.method in _SAFE:
        await _send(401, b"text/html; charset=utf-8", _WELCOME, [], send)
    else:
        await _answer(status, cause, fix, send)


async def _redirect(settings: GuardSettings, send: Send) -> None:
    """To the page, the token in a cookie: out of the address bar, the history and what is copied from them."""
    cookie = (
        f"{settings.cookie}={settings.token}; HttpOnly; SameSite=Strict; Path=/; Max-Age=31536000"
    )
    headers = [(b"location", b"/"), (b"set-cookie", cookie.encode())]
    await _send(303, b"text/plain", b"", headers, send)


async def _answer(status: int, cause: str, fix: str, send: Send) -> None:
    body = json.dumps({"error": {"cause": cause, "fix": fix, "path": None}}).encode()
    headers = [(b"connection", b"close")] if status == 413 else []
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await _send(status, b"application/json", body, headers, send)


async def _send(
    status: int, kind: bytes, body: bytes, headers: list[tuple[bytes, bytes]], send: Send
) -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *headers, *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
