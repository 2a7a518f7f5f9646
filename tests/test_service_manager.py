"""The service and its manager: ready, alive, and not fed when the run hangs."""

from __future__ import annotations

import socket
import time

import psutil
import pytest
from service_process import ServiceProcess, small

from pipeline.server import alive
from pipeline.server.home import Home
from pipeline.server.notify import Notifier
from pipeline.server.service import Service
from pipeline.server.vigil import Vigil
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunState
from pipeline.store.verify import verify

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="systemd's protocol is POSIX"),
]


class Manager:
    """The service manager's end of the line."""

    def __init__(self, path):
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._line.bind(str(path))
        self.address = str(path)
        self.heard: list[str] = []

    def listen(self, seconds=0.0) -> list[str]:
        """What was said within so many seconds."""
        end = time.monotonic() + seconds
        news = []
        while True:
            self._line.settimeout(max(0.01, end - time.monotonic()))
            try:
                news.append(self._line.recv(4096).decode())
            except TimeoutError:
                self.heard += news
                return news

    def close(self):
        self._line.close()


@pytest.fixture
def manager(tmp_path):
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


def test_ready_alive_and_stopping(manager, tmp_path):
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": ""}
    with ServiceProcess(tmp_path / "home", env=environment) as service:
        service.until(lambda: "READY=1" in (manager.listen(0.2), manager.heard)[1])
        name = service.client.begin(small())
        service.until_state("running")
        service.client.pause()
        service.until_state("paused")
        manager.listen()
        said = manager.listen(3.0)
        assert said.count("WATCHDOG=1") >= 3, "a run that is paused is not one that hangs"
        assert any(name in line and line.startswith("STATUS=") for line in said)
        service.client.resume()
        service.until(lambda: (service.client.status().run.reconstructed or 0) >= 1)
        service.process.terminate()
        assert service.process.wait(90) == 0
        said = manager.listen(0.5)
        assert "STOPPING=1" in said
        assert "READY=1" not in said, "the run's processes say nothing to the manager"
        folder = service.folder(name)
        assert folder.state() is RunState.STOPPED
        assert verify(folder.path).ok
        reader = RunReader(folder.path)
        assert reader.committed().sum() == reader.reconstructed().sum() >= 1, "drained"
        assert service.home.address() is None
        text = service.printed.read_text(encoding="utf-8")
        assert "the run finishes and drains" in text
        assert service.token not in text, "the token is for terminals, not for journals"


def test_a_run_that_hangs_is_not_vouched_for(manager, tmp_path, monkeypatch):
    monkeypatch.setattr(alive, "_SUPERVISOR_S", 3.0)
    home = Home(tmp_path / "home")
    home.make()
    service = Service(home)
    service.start()
    vigil = Vigil(service, Notifier({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000000"}))
    name = service.begin(small(), None)
    try:
        _until(lambda: (service.status().run.reconstructed or 0) >= 1)
        vigil.loop_turns()
        assert vigil.look().feed
        assert "WATCHDOG=1" in manager.listen(0.2)
        run = next(
            p
            for p in psutil.process_iter(["cmdline"])
            if str(home.run(name).path) in (p.info["cmdline"] or [])
        )
        run.suspend()
        try:
            time.sleep(4)
            vigil.loop_turns()
            verdict = vigil.look()
            assert not verdict.feed
            assert "no sign of life" in verdict.reason
            assert "WATCHDOG=1" not in manager.listen(0.2)
        finally:
            run.resume()
        _until(lambda: (vigil.loop_turns(), vigil.look().feed)[1])
        service.ask("stop")
        _until(lambda: not service.run_goes_on)
        assert verify(home.run(name).path).ok
    finally:
        service.close()


def test_a_loop_that_hangs_is_not_vouched_for(tmp_path, monkeypatch):
    monkeypatch.setattr(alive, "_LOOP_S", 0.05)
    home = Home(tmp_path / "home")
    home.make()
    vigil = Vigil(Service(home), Notifier({}))
    vigil.loop_turns()
    time.sleep(0.1)
    assert "event loop" in vigil.look().reason
    vigil.loop_turns()
    assert vigil.look().feed


def _until(condition, timeout=90):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
