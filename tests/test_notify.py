"""What the service manager hears, and when it hears nothing: a hung pipeline, never a slow one."""

from __future__ import annotations

import math
import os
import socket
import uuid
from dataclasses import replace

import pytest

from pipeline import shared_memory
from pipeline.control import ACQUIRE, RECORD, Control, RunState, StageReport, StageState
from pipeline.lifecycle.silence import longest_silence_s
from pipeline.server.alive import Judge, RunSigns
from pipeline.server.notify import Notifier
from pipeline.telemetry import Telemetry


@pytest.fixture
def manager():
    """A service manager's end of the line, as systemd's own: an abstract address."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        address = f"livephase-{uuid.uuid4().hex}"
        end.bind("\0" + address)
        end.settimeout(5)
        yield end, "@" + address


def test_the_manager_hears_each_message(manager):
    end, address = manager
    notifier = Notifier({"NOTIFY_SOCKET": address})

    def heard() -> bytes:
        return end.recv(4096)

    assert notifier.ready()
    assert heard() == b"READY=1"
    assert notifier.status("running: 12 of 20\nlight µ")
    assert heard() == "STATUS=running: 12 of 20 light µ".encode(), "a line break would end it"
    assert notifier.watchdog()
    assert heard() == b"WATCHDOG=1"
    assert notifier.extend(90)
    assert heard() == b"EXTEND_TIMEOUT_USEC=90000000"
    assert notifier.stopping()
    assert heard() == b"STOPPING=1"


def test_a_socket_in_the_file_system(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.settimeout(5)
        assert Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}).ready()
        assert end.recv(100) == b"READY=1"


def test_without_a_manager_nothing_happens(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    notifier = Notifier()
    assert not notifier.ready()
    assert not notifier.watchdog()
    assert notifier.watchdog_interval_s() is None
    assert not Notifier({"NOTIFY_SOCKET": "vsock:2:1234"}).ready(), "a kind that it doesn't speak"


def test_a_manager_that_is_gone_or_hangs_disturbs_nobody(tmp_path, manager, caplog):
    gone = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    assert not gone.watchdog()
    assert not gone.watchdog()
    assert len(caplog.records) == 1, "said once, not every few seconds"
    end, address = manager
    notifier = Notifier({"NOTIFY_SOCKET": address})
    for _ in range(10_000):  # it reads nothing: its queue fills
        if not notifier.watchdog():
            break
    else:
        pytest.fail("the queue never filled")
    end.recv(4096)
    assert notifier.watchdog(), "it reads again"


@pytest.mark.parametrize(
    ("environment", "interval_s"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_how_often_the_watchdog_is_fed(environment, interval_s):
    assert Notifier(environment).watchdog_interval_s() == interval_s


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def judge(clock):
    return Judge(clock)


@pytest.fixture
def healthy(make_experiment):
    """A run of a simulated microscope with everybody at work."""
    stage = StageReport(StageState.RUNNING, 4242, 0.01)
    return RunSigns(
        session="one",
        state=RunState.RUNNING,
        longest_silence_s=longest_silence_s(make_experiment()),
        supervisor_age_s=0.02,
        acquire=stage,
        record=stage,
        ring_fill=0.1,
        stored=7,
        reconstructed=5,
        image_s=0.3,
    )


def silent(seconds: float, state: StageState = StageState.RUNNING) -> StageReport:
    return StageReport(state, 4242, seconds)


DAY_S = 86_400.0


def watch(judge, clock, signs, seconds=2 * DAY_S, step_s=600.0):
    """The verdicts of a time in which the signs stay as they are."""
    for _ in range(math.ceil(seconds / step_s)):
        yield judge.judge(0.1, signs)
        clock.s += step_s


@pytest.mark.parametrize(
    "slow",
    [
        {},  # an interval of a day: nothing is done, the stages live
        {"state": RunState.PAUSED, "acquire": silent(0.01, StageState.PAUSED)},
        {"image_s": None, "reconstructed": 0},  # reconstruction hangs: acquisition goes on
        {"ring_fill": 0.99},
        {"longest_silence_s": math.inf, "acquire": silent(5000)},  # a recording from a slow disk
        {"acquire": silent(100)},  # within what the driver may take
        {"record": silent(900)},  # a disk that hangs, and comes back
        {"state": RunState.ARMING, "acquire": silent(math.inf, StageState.STARTING)},
        {"acquire": silent(9000, StageState.GONE), "record": silent(9000, StageState.STARTING)},
    ],
)
def test_a_slow_run_is_let_alone(judge, clock, healthy, slow):
    for verdict in watch(judge, clock, replace(healthy, **slow)):
        assert verdict.feed, verdict.reason


@pytest.mark.parametrize(
    ("hung", "reason"),
    [
        ({"supervisor_age_s": 200.0}, "supervisor has shown no sign of life for 200 s"),
        ({"acquire": silent(300)}, "the driver has hung for 300 s"),
        ({"acquire": silent(300, StageState.PAUSED), "state": RunState.PAUSED}, "driver has hung"),
        ({"record": silent(2000, StageState.READY)}, "storage has hung for 2000 s"),
    ],
)
def test_a_hung_run_is_not(judge, healthy, hung, reason):
    assert judge.judge(0.1, healthy).feed
    verdict = judge.judge(0.1, replace(healthy, **hung))
    assert not verdict.feed
    assert reason in verdict.reason


def test_an_event_loop_that_hangs_is_not_alive_even_without_a_run(judge):
    assert judge.judge(2.0, None).feed
    verdict = judge.judge(31.0, None)
    assert not verdict.feed
    assert "event loop" in verdict.reason


def test_a_supervisor_that_never_looks(judge, clock, healthy):
    arming = replace(healthy, supervisor_age_s=math.inf, state=RunState.IDLE)
    verdicts = list(watch(judge, clock, arming, seconds=900, step_s=60))
    assert all(v.feed for v in verdicts[:11]), "memory for the ring may take its time"
    assert not verdicts[11].feed


def test_a_backlog_that_gets_less_is_waited_for_and_one_that_does_not_is_not(judge, clock, healthy):
    draining = replace(
        healthy, state=RunState.DRAINING, acquire=silent(1e4, StageState.FINISHED), image_s=1000.0
    )
    # As long as twenty images take on average; each that is finished begins anew.
    for done in range(5):
        for verdict in watch(judge, clock, replace(draining, reconstructed=done), seconds=18_000):
            assert verdict.feed, verdict.reason
    verdicts = list(watch(judge, clock, replace(draining, reconstructed=4), seconds=9000))
    assert verdicts[0].feed
    assert not verdicts[-1].feed
    assert "backlog" in verdicts[-1].reason
    # Frames are taken again: another session begins with all the time there is.
    assert judge.judge(0.1, replace(draining, session="two")).feed


def test_the_first_image_may_take_hours(judge, clock, healthy):
    first = replace(healthy, state=RunState.DRAINING, image_s=None, reconstructed=0)
    verdicts = list(watch(judge, clock, first, seconds=7 * 3600))
    assert all(v.feed for v in verdicts[:36])
    assert not verdicts[-1].feed


def test_a_full_ring_that_storage_takes_nothing_of(judge, clock, healthy):
    full = replace(healthy, ring_fill=1.0)
    verdicts = list(watch(judge, clock, full, seconds=3000))
    assert all(v.feed for v in verdicts[:4])
    assert "nothing was stored for 2400 s" in verdicts[-1].reason
    assert judge.judge(0.1, replace(full, stored=8)).feed, "the disk came back"


@pytest.fixture
def blocks():
    names = [f"lp-{uuid.uuid4().hex[:12]}" for _ in range(2)]
    with Control.create(names[0]) as control, Telemetry.create(names[1]) as telemetry:
        yield control, telemetry
    for name in names:
        shared_memory.unlink(name)


def test_the_signs_are_read_from_a_run_s_shared_memory(blocks):
    control, telemetry = blocks
    signs = RunSigns.read(control, telemetry, 120.0)
    assert math.isinf(signs.supervisor_age_s)
    assert math.isinf(signs.acquire.heartbeat_age_s)
    assert signs.image_s is None
    control.beat()
    control.set_state(RunState.DRAINING)
    for index in (ACQUIRE, RECORD):
        control.stage(index).beat()
    control.stage(ACQUIRE).say(StageState.FINISHED)
    writer = telemetry.writer("reconstruct-0")
    writer.add("slots_reconstructed", 3)
    writer.add("slots_skipped", 1)
    for seconds in (100.0, 500.0):
        writer.observe("reconstruction_seconds", seconds)
    telemetry.writer("record").add("slots_committed", 6)
    telemetry.writer("record").set("ring_fill", 0.5)
    signs = RunSigns.read(control, telemetry, 120.0)
    assert signs.supervisor_age_s < 100
    assert (signs.acquire.state, signs.acquire.pid) == (StageState.FINISHED, os.getpid())
    assert signs.record.heartbeat_age_s < 100
    assert (signs.stored, signs.reconstructed, signs.ring_fill) == (6, 4, 0.5)
    assert signs.image_s == pytest.approx(300), "also beyond the histogram's bounds"
    assert signs.state == RunState.DRAINING
