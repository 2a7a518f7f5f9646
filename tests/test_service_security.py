"""Who may do what to the service, and what nobody can do to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import sys
import time

import httpx
import pytest
import schemathesis
import websockets
from hypothesis import HealthCheck, settings
from service_process import ServiceProcess, small

from pipeline.server.guard import MOST_BODY_BYTES
from pipeline.server.home import Home, is_name
from pipeline.store.verify import verify

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """With a run that is over."""
    with ServiceProcess(tmp_path_factory.mktemp("service") / "home") as process:
        process.client.begin(small(timepoints=3, interval_s=0), "short")
        process.until_over()
        yield process


def _every_request(service):
    """Method and path of all that there is."""
    document = service.http.get("api/openapi.json").json()
    for path, methods in document["paths"].items():
        for method in methods:
            yield method.upper(), path.replace("{name}", "short").lstrip("/")
    for path in (
        "",
        "page/index.html",
        "runs/short/raw.ledger",
        "neuroglancer/",
        "static/plotly.min.js",
    ):
        yield "GET", path


def test_nothing_without_the_token(service):
    before = service.client.events().events
    with httpx.Client(base_url=service.address) as nobody:
        for method, path in _every_request(service):
            answer = nobody.request(method, path, json={})
            if path == "metrics":
                assert answer.status_code == 200, "open on this machine by a setting that is on"
                continue
            # After some guesses without even a look at them.
            assert answer.status_code in (401, 429), (method, path)
            wrong = nobody.request(method, path, headers={"Authorization": "Bearer wrong"}, json={})
            assert wrong.status_code in (401, 429), (method, path)
    assert service.client.events().events == before


def test_the_token_is_its_owners(service, tmp_path):
    if os.name == "posix":
        assert stat.S_IMODE(service.home.token_file.stat().st_mode) == 0o600
        other = Home(tmp_path / "open")
        other.make()
        other.token_file.chmod(0o644)
        with pytest.raises(Exception, match="others than its owner"):
            other.token()
    with httpx.Client(base_url=service.address) as page:
        first = page.get(f"/?token={service.token}")
        assert first.status_code == 303
        assert first.headers["location"] == "/"
        cookie = first.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        shown = page.get("/")
        assert shown.status_code == 200
        assert "script-src" not in shown.headers["content-security-policy"]
        assert "default-src 'self'" in shown.headers["content-security-policy"]
        # A form of a foreign page could send the cookie, but no Origin of ours.
        assert page.post("/api/stop").status_code == 403
        own = {"Origin": service.address.rstrip("/")}
        assert page.post("/api/stop", headers=own).status_code == 409  # no run goes on
        foreign = {"Origin": "http://evil.example"}
        assert page.get("/api/status", headers=foreign).status_code == 403


def test_a_foreign_name_or_page_gets_nowhere(service):
    for host in ("evil.example", "127.0.0.1.evil.example", ""):
        answer = service.http.get("api/status", headers={"Host": host})
        assert answer.status_code in (400, 421), host

    async def opened(**headers) -> bool:
        address = service.address.replace("http", "ws") + "api/live"
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.suppress(websockets.InvalidStatus):
            async with websockets.connect(address, additional_headers=headers):
                return True
        return False

    bearer = f"Bearer {service.token}"
    assert asyncio.run(opened(Authorization=bearer))
    assert not asyncio.run(opened())
    assert not asyncio.run(opened(Authorization=bearer, Origin="http://evil.example"))
    assert not asyncio.run(
        opened(Authorization=bearer, Origin=f"http://127.0.0.1:{service.port + 1}")
    )


def test_no_spelling_of_a_path_leads_out_of_a_run(service):
    run = service.folder("short").path
    if os.name == "posix":
        (run / "out").symlink_to(service.home.path)
        (run / "token").symlink_to(service.home.token_file)
    ups = (
        "../../token",
        "..%2f..%2ftoken",
        "%2e%2e/%2e%2e/token",
        "..%5c..%5ctoken",
        "%2e%2e%2f%2e%2e%2ftoken",
    )
    twice = (
        "..%252f..%252ftoken",
        "....//....//token",
        "/../../token",
        "./../../token",
        "%00token",
    )
    links = ("out/token", "token", "raw.ome.zarr/../../../token", "%2fetc%2fpasswd", "//etc/passwd")
    for spelling in (*ups, *twice, *links):
        assert _raw_get(service, f"/runs/short/{spelling}") == 404, spelling
    for name in ("..", "%2e%2e", ".", "short%2f..%2f..", "short%00"):
        assert _raw_get(service, f"/runs/{name}/token") == 404, name
    for page in ("../../guard.py", "..%2f..%2fguard.py", "%2e%2e/guard.py"):
        assert _raw_get(service, f"/page/{page}") == 404, page
    for name in ("..", "a/b", "a\\b", "con", "CON.txt", "", ".hidden", "a" * 101, "x..y", "ends."):
        assert not is_name(name), name
    for name in ("first run", "2026-11-29_cells", "a", "v1.2"):
        assert is_name(name), name


def _raw_get(service, path: str) -> int:
    """Status of a request whose path no client library has tidied up."""
    head = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {service.token}\r\n"
        "Connection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(head.encode("latin-1"))
        return int(connection.makefile("rb").readline().split()[1])


def test_whatever_is_sent_is_answered_in_words(service):
    """Every operation of the OpenAPI document, with what it allows and with what it doesn't: no 5xx."""
    document = service.http.get("api/openapi.json").json()
    api = schemathesis.openapi.from_dict(document)
    # Each call begins a process that looks for devices, or reads all counters.
    slow = {"/api/devices", "/api/calibrate"}

    @settings(
        max_examples=12,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def fuzz(case):
        # As fast as a person with a script at most: orders are bounded.
        if case.method.upper() != "GET":
            time.sleep(0.05)
        answer = case.call(
            base_url=service.address.rstrip("/"),
            headers={"Authorization": f"Bearer {service.token}"},
            timeout=60,
        )
        assert answer.status_code < 500, (case.method, case.path, answer.text)
        if answer.status_code >= 400 and answer.status_code not in (404, 405):
            assert answer.json()["error"]["cause"]

    seen = 0
    for result in api.get_all_operations():
        operation = result.ok()
        if operation.path in slow:
            continue
        seen += 1
        from hypothesis import given

        given(case=operation.as_strategy())(fuzz)()
    assert seen > 15
    assert service.client.status().service.state == "idle"


def test_a_flood_does_not_stop_a_run(service):
    name = service.client.begin(small(interval_s=0.3), "flooded")
    service.until(lambda: (service.client.status().run.reconstructed or 0) >= 1)
    # A gigabyte is refused at its announcement, and where it isn't announced soon after its beginning.
    assert _upload(service, 1_000_000_000, chunked=False) < 10_000_000
    assert _upload(service, 1_000_000_000, chunked=True) < 100_000_000
    acquired = service.client.status().run.frames_acquired
    _open_many(service, 10_000)
    run = service.until(lambda: _more_than(service, acquired))
    assert run.state == "running"
    service.client.stop()
    service.until_over()
    found = verify(service.folder(name).path)
    assert found.ok
    assert service.client.status().run.frames_missing == 0


def _more_than(service, acquired: int):
    # Idle connections are closed within seconds; until then there may be no room for ours.
    with contextlib.suppress(Exception):
        run = service.client.status().run
        return run if run.frames_acquired > acquired + 4 else None
    return None


def _upload(service, size: int, *, chunked: bool) -> int:
    """How many bytes of a body the service took before it said no."""
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    head = (
        f"POST /api/validate HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {service.token}\r\n"
        f"Content-Type: application/json\r\n{length}\r\n\r\n"
    )
    block = b"x" * 65_536
    sent = 0
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(head.encode())
        try:
            while sent < size:
                connection.sendall(b"%x\r\n%s\r\n" % (len(block), block) if chunked else block)
                sent += len(block)
        except OSError:
            return sent
        # All of it fitted into the buffers of the two sides.
        assert int(connection.makefile("rb").readline().split()[1]) == 413
    assert sent > MOST_BODY_BYTES
    return sent


def _open_many(service, count: int) -> None:
    """Connections that say nothing."""
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        count = min(count, most - 500)
    opened = []
    try:
        for _ in range(count):
            connection = socket.socket()
            connection.settimeout(5)
            opened.append(connection)
            with contextlib.suppress(OSError):
                connection.connect(("127.0.0.1", service.port))
    finally:
        for connection in opened:
            connection.close()
