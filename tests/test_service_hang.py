"""A run hangs: systemd ends it together with its service, and the service that is started again goes on with it."""

from __future__ import annotations

import os
import signal
import sys

import psutil
import pytest
from service_process import ServiceProcess, small

from pipeline.lifecycle import after_service
from pipeline.server.home import Home
from pipeline.server.service import Service
from pipeline.store.run_folder import RunState
from pipeline.store.verify import verify
from pipeline.waiting import wait_for

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="what systemd does"),
    pytest.mark.timeout(300),
]


def test_a_run_that_hung_goes_on_by_itself(tmp_path, monkeypatch):
    home = tmp_path / "home"
    with ServiceProcess(home) as service:
        name = service.client.begin(small().replace("method: dpc", "method: none"), "hangs")
        stored = service.until(lambda: service.client.status().run.frames_written)
        family = psutil.Process(service.process.pid).children(recursive=True)
        supervisor = family[0]
        os.kill(supervisor.pid, signal.SIGSTOP)
        service.kill()  # as the watchdog does once it is not fed any more

        def alive():
            return [p.pid for p in family if p.is_running() and p.status() != "zombie"]

        assert supervisor.pid in alive()
        monkeypatch.setattr(after_service, "left_over", alive)
        assert after_service.main(home / "runs", "watchdog") == 0
        assert alive() == [], "nothing of it is left to disturb the next one"
    with ServiceProcess(home) as service:
        service.until_state("running")
        service.until(lambda: service.client.status().run.frames_written > stored)
        service.client.stop()
        service.until_over()
        folder = service.folder(name)
        assert folder.state() is RunState.STOPPED
        assert verify(folder.path).mismatches == []
        assert after_service.take_hung_run(home) is None, "once"


def test_a_run_that_can_t_go_on_is_said(tmp_path):
    home = Home(tmp_path)
    home.make()
    (tmp_path / after_service.HUNG_RUN_FILE).write_text("deleted since\n")
    service = Service(home)
    try:
        service.start()
        assert wait_for(lambda: service.events.after(0), 60)
        assert "deleted since hung, and can't go on by itself" in service.events.after(0)[-1].text
        assert not service.run_goes_on
    finally:
        service.close()
