"""Orders, requests, heartbeats, the newest result; and stages that don't outlive their supervisor."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipeline import shared_memory
from pipeline.control import (
    ACQUIRE,
    MOST_WORKERS,
    RECONSTRUCT,
    RECORD,
    Command,
    Control,
    Request,
    RunState,
    StageState,
)
from pipeline.errors import StoreError
from pipeline.frames import SlotKey
from pipeline.mailbox import Mailbox
from pipeline.waiting import wait_for

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def name():
    name = f"lp-{uuid.uuid4().hex[:12]}"
    yield name
    shared_memory.unlink(name)


@pytest.fixture
def control(name):
    with Control.create(name) as control:
        yield control


def test_orders_reach_the_stages_and_their_states_come_back(control):
    with Control.attach(control.name) as theirs:
        stage = theirs.stage(RECONSTRUCT)
        assert stage.command == Command.WAIT
        assert (control.state, control.stage(RECONSTRUCT).state) == (
            RunState.IDLE,
            StageState.STARTING,
        )
        control.order(Command.PAUSE)
        control.set_state(RunState.PAUSED)
        assert stage.command == Command.PAUSE
        assert theirs.state == RunState.PAUSED
        theirs.stage(ACQUIRE).say(StageState.PAUSED)
        theirs.stage(RECORD).say(StageState.RUNNING)
        stage.say(StageState.READY)
        assert (stage.acquisition, stage.recording) == (StageState.PAUSED, StageState.RUNNING)
        assert control.stage(RECONSTRUCT).state == StageState.READY
        assert control.report(RECONSTRUCT + 1).state == StageState.STARTING


def test_every_stage_has_a_part_of_its_own(control):
    last = RECONSTRUCT + MOST_WORKERS - 1
    states = list(StageState)
    for index in range(last + 1):
        control.stage(index).say(states[index % len(states)])
    for index in range(last + 1):
        assert control.report(index).state == states[index % len(states)]
    assert control.command == Command.WAIT
    assert control.take_request() is None
    for index in (-1, last + 1):
        with pytest.raises(ValueError, match="there is no stage"):
            control.stage(index)


def test_heartbeats_tell_who_lives_and_how_long_ago(control):
    assert control.report(RECORD) == (StageState.STARTING, 0, float("inf"))
    control.stage(RECORD).beat()
    time.sleep(0.02)
    report = control.report(RECORD)
    assert report.pid == os.getpid()
    assert 0.02 <= report.heartbeat_age_s < 10


def test_requests_are_taken_once_and_in_order(control):
    with Control.attach(control.name) as terminal:
        for request in (Request.PAUSE, Request.RESUME, Request.STOP, Request.STOP):
            terminal.request(request)
            time.sleep(0.001)
        assert not terminal.is_handled(Request.PAUSE)
        taken = [control.take_request() for _ in range(4)]
        assert taken == [Request.PAUSE, Request.RESUME, Request.STOP, None]
        assert all(terminal.is_handled(r) for r in Request)
        terminal.request(Request.STOP)
        assert control.take_request() == Request.STOP


def test_a_control_block_is_not_mistaken_for_another(name):
    with pytest.raises(StoreError, match="there is no shared memory"):
        Control.attach(name)
    with Mailbox.create(name, (4, 4)), pytest.raises(StoreError, match="not a control"):
        Control.attach(name)


def test_the_mailbox_keeps_the_newest_of_all_workers(name):
    with (
        Mailbox.create(name, (6, 8), lanes=2) as page,
        Mailbox.attach(name, lane=0) as first,
        Mailbox.attach(name, lane=1) as second,
    ):
        assert page.newest() is None
        for t, worker in enumerate((first, second, first, first, second)):
            worker.put(SlotKey(t, 1), np.full((6, 8), t + 0.5), {"residual": 1.5 * t})
        result = page.newest()
        assert result.key == SlotKey(4, 1)
        assert result.image.dtype == np.float32
        assert (result.image == 4.5).all()
        assert result.info == {"residual": 6.0}
        assert page.newest(after=result.time_ns) is None
        first.put(SlotKey(9, 0), np.zeros((2, 3), np.float32), {"residual": float("nan")})
        newer = page.newest(after=result.time_ns)
        assert (newer.key, newer.image.shape) == (SlotKey(9, 0), (2, 3))
        assert np.isnan(newer.info["residual"])
        assert (result.image == 4.5).all(), "a result is a copy"


def test_the_mailbox_refuses_what_does_not_fit(name):
    with Mailbox.create(name, (6, 8)) as page, Mailbox.attach(name, lane=0) as worker:
        with pytest.raises(ValueError, match="does not go into"):
            worker.put(SlotKey(0, 0), np.zeros((7, 8), np.float32), {})
        with pytest.raises(ValueError, match="bytes does not go into"):
            worker.put(SlotKey(0, 0), np.zeros((6, 8)), {f"value {i}": 1.0 for i in range(500)})
        with pytest.raises(ValueError, match="for reading"):
            page.put(SlotKey(0, 0), np.zeros((6, 8)), {})
        with pytest.raises(ValueError, match="there is no lane 1"):
            Mailbox.attach(name, lane=1)
        assert page.newest() is None


def test_an_overtaken_look_into_the_mailbox_is_never_torn(name, monkeypatch):
    with Mailbox.create(name, (64, 64)) as page, Mailbox.attach(name, lane=0) as worker:
        worker.put(SlotKey(0, 0), np.zeros((64, 64)), {"value": 0.0})
        pixels, laps = page._pixels, []

        def overtaken(place, rows, columns):
            # Two results come while the first is being copied: its place is written again.
            if not laps:
                laps.append(1)
                for value in (1, 2):
                    worker.put(SlotKey(value, 0), np.full((64, 64), float(value)), {"value": value})
            return pixels(place, rows, columns)

        monkeypatch.setattr(page, "_pixels", overtaken)
        result = page.newest()
        assert result.key == SlotKey(2, 0)
        assert (result.image == 2).all()
        assert result.info == {"value": 2.0}


def _put_forever(name: str, connection) -> None:
    with Mailbox.attach(name, lane=0) as worker:
        connection.send("ready")
        t = 0
        while True:
            worker.put(SlotKey(t, 0), np.full((256, 256), t, np.float32), {"value": t})
            t += 1


def test_results_beside_a_hammering_and_then_killed_worker_are_whole(name):
    with Mailbox.create(name, (256, 256)) as page:
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=_put_forever, args=(name, theirs), daemon=True)
        process.start()
        theirs.close()
        assert ours.recv() == "ready"

        def check() -> int:
            result = page.newest()
            if result is None:
                return -1
            assert (result.image == result.key.timepoint).all()
            assert result.info == {"value": result.key.timepoint}
            return result.key.timepoint

        seen = []
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            seen.append(check())
        process.kill()
        process.join()
        process.close()
        ours.close()
        times = [t for t in seen if t >= 0]
        assert len(set(times)) > 5
        assert times == sorted(times)
        assert check() >= 0, "a killed worker leaves its last whole result"
        with Mailbox.attach(name, lane=0) as successor:
            for value in (7, 8, 9):
                successor.put(SlotKey(value, 0), np.full((256, 256), value), {"value": value})
                assert check() == value


_SUPERVISOR = """
import multiprocessing, sys, time
sys.path.insert(0, {tests!r})
from test_control import _stage

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(
        target=_stage, args=(sys.argv[1], sys.argv[2])
    )
    process.start()
    time.sleep(60)
"""


def _stage(marker: str, how: str) -> None:
    """A stage that would run for a minute."""
    from pipeline.stages.orphan import watch_parent

    # As real stages do: a terminal's Ctrl+C must not be what ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def light_off() -> None:
        Path(marker + ".dark").write_text("off")
        if how == "hanging":
            time.sleep(60)
        if how == "failing":
            raise RuntimeError("the shutter does not answer")

    assert watch_parent(None if how == "plain" else light_off) is not None
    Path(marker + ".tmp").write_text(str(os.getpid()))
    Path(marker + ".tmp").rename(marker)
    time.sleep(60)


@pytest.mark.parametrize("how", ["plain", "light", "hanging", "failing"])
def test_a_stage_ends_within_two_seconds_of_its_supervisor_s_death(tmp_path, how):
    script = tmp_path / "supervisor.py"
    script.write_text(_SUPERVISOR.format(tests=str(Path(__file__).parent)))
    marker = tmp_path / "stage"
    supervisor = subprocess.Popen(
        [sys.executable, str(script), str(marker), how],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert wait_for(marker.exists, timeout_s=30)
        stage = psutil.Process(int(marker.read_text()))
        assert stage.is_running()
        began = time.monotonic()
    finally:
        supervisor.kill()
        supervisor.wait()

    def over() -> bool:
        # Where nobody reaps orphans it stays behind as a zombie: dead all the same.
        try:
            return stage.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    assert wait_for(over, timeout_s=10)
    assert time.monotonic() - began < 2.0
    assert Path(f"{marker}.dark").exists() == (how != "plain")


def test_a_process_without_a_parent_to_watch_goes_on():
    from pipeline.stages.orphan import watch_parent

    assert watch_parent() is None
