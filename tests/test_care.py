"""Alarms and pauses of a run's own: each comes from what it is for, goes again, and stands below the user."""

from __future__ import annotations

import http.server
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
import types
import uuid
from collections.abc import Callable
from typing import NamedTuple

import pytest
from fake_gpu import fake_nvidia_smi
from live_runs import LiveRun, ask, livephase, report, write_experiment
from service_process import ServiceProcess, small

from pipeline import shared_memory
from pipeline.control import Command, Control, Request, RunState
from pipeline.errors import ExperimentError
from pipeline.experiment import ALARM_NAMES
from pipeline.lifecycle.care import StageLook, Watch, care_report, read_alarms, read_suspended
from pipeline.lifecycle.care import watch as watch_module
from pipeline.lifecycle.care.alarms import ALARMS
from pipeline.lifecycle.care.drift import REFERENCE, Drift, first_residuals
from pipeline.lifecycle.care.figures import Disk
from pipeline.lifecycle.care.gpu import GpuFigures, GpuLook
from pipeline.lifecycle.care.hysteresis import Hysteresis
from pipeline.lifecycle.care.rates import Recent, Slope
from pipeline.lifecycle.care.webhook import Webhook
from pipeline.lifecycle.orders import Orders
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunFolder
from pipeline.store.verify import verify
from pipeline.telemetry import Telemetry
from pipeline.telemetry.metrics import alarm_metric
from pipeline.waiting import wait_for

GB = 10**9


class Bench:
    """A run without stages: its counters, its clock, disk and GPU are what a test says."""

    def __init__(self, tmp_path, experiment, telemetry, control, monkeypatch):
        self.folder = RunFolder(tmp_path / "run")
        self.telemetry, self.control = telemetry, control
        self.signals = types.SimpleNamespace(count=0)
        self.told: list[str] = []
        self.orders = Orders(control, self.signals, self.told.append)
        self.acquire = telemetry.writer("acquire")
        self.gpu, self.disk = GpuFigures(), Disk(1000 * GB, 500 * GB)
        self.state, self.stages, self.acquiring = RunState.RUNNING, [], True
        self.now = 1000.0
        clock = types.SimpleNamespace(monotonic=lambda: self.now, time=lambda: 1.7e9 + self.now)
        monkeypatch.setattr(watch_module, "time", clock)
        self.watch = Watch(
            self.folder.path,
            experiment,
            telemetry,
            self.orders,
            self.told.append,
            todo_slots=100,
            ring_slots=8,
            gpu=lambda: self.gpu,
            disk=lambda: self.disk,
        )
        self.orders.begin()

    def look(self, seconds=1):
        """Let the run look after itself for so many seconds, a frame coming each second."""
        for _ in range(seconds):
            self.now += 1
            self.watch.look(self.state, self.stages, acquiring=self.acquiring)

    def frames(self, seconds=1):
        for _ in range(seconds):
            self.acquire.add("frames_acquired")
            self.look()

    def active(self):
        found = {n for n in ALARM_NAMES if self.telemetry.value(alarm_metric(n)) == 1}
        assert found == {entry["name"] for entry in self.watch._state.active}
        return found

    def ask(self, request):
        self.control.request(request)
        self.orders.look(acquiring=True)


@pytest.fixture
def make_bench(tmp_path, make_experiment, monkeypatch):
    benches, names = [], []

    def make(care=None, interval_s=2.0, **changes):
        names.extend(f"lp-{uuid.uuid4().hex[:10]}-{part}" for part in ("t", "c"))
        experiment = make_experiment(
            care={"well_for_s": 5, **(care or {})},
            sequence={"timepoints": 100, "interval_s": interval_s},
            **changes,
        )
        telemetry, control = Telemetry.create(names[-2]), Control.create(names[-1])
        (tmp_path / "run").mkdir(exist_ok=True)
        benches.append(Bench(tmp_path, experiment, telemetry, control, monkeypatch))
        return benches[-1]

    yield make
    for bench in benches:
        bench.watch.close()
        bench.telemetry.close()
        bench.control.close()
    for name in names:
        shared_memory.unlink(name)


def test_an_alarm_neither_flickers_nor_forgets():
    hot = Hysteresis(on=80, off=70, on_for_s=3, off_for_s=5)
    levels = [(0, 90), (1, 79), (2, 90), (4, 90)]
    assert not any(hot.look(level, t) for t, level in levels), "never hot for three seconds"
    assert hot.look(90, 5)
    for t, level in [(6, 71), (60, 75), (61, 60), (65, 72), (66, 60), (70, 60), (80, math.nan)]:
        assert hot.look(level, t), (
            "between the thresholds it stays, and so it does where nothing is known"
        )
    assert hot.look(60, 70.5)
    assert not hot.look(60, 71)
    with pytest.raises(ValueError, match="can't stay"):
        Hysteresis(on=1, off=2, on_for_s=0, off_for_s=0)


def test_a_drift_is_one_against_the_run_s_own_beginning():
    noisy = [1.0, 1.4, 0.8, 1.3, 0.7, 1.1] * 2
    drift = Drift()
    for value in [*noisy, 1.3, 9.0, 1.2, 1.4]:
        drift.add(value)
    assert math.isnan(drift.ratio()), "too early to tell"
    drift.add(1.3)
    assert drift.ratio() <= 1, "within the first ones' own spread, one outlier or not"
    for value in [4.0] * 3:
        drift.add(value)
    assert drift.ratio() == pytest.approx(4.0 / 1.05, rel=0.05)
    resumed = Drift([*noisy, 7.0, math.nan])
    for value in [4.0] * 5:
        resumed.add(value)
    assert resumed.ratio() == pytest.approx(drift.ratio())
    assert len(noisy) == REFERENCE


def _count(name, n=1):
    return lambda bench: bench.acquire.add(name, n)


def _quiet(bench):
    """Nothing happens any more."""


def _residuals(bench, value, n):
    for _ in range(n):
        bench.telemetry.writer("reconstruct-0").set("residual", value)
        time.sleep(0.0015)
        bench.frames()


def _stall(bench):
    bench.look(14)


def _no_progress(bench):
    bench.state = RunState.DRAINING
    bench.look(603)


def _wait_for_results(bench):
    bench.telemetry.writer("reconstruct-0").set("stage_up", 1)
    bench.acquire.add("slots_published")


def _result(bench):
    bench.telemetry.writer("reconstruct-0").observe("reconstruction_seconds", 1.0)


def _drift(bench):
    _residuals(bench, 1.0, REFERENCE)
    _residuals(bench, 1.9, 5)


def _gauge(name, value):
    return lambda bench: bench.telemetry.writer("record").set(name, value)


def _set(name, value):
    return lambda bench: setattr(bench, name, value)


def _silent(bench):
    bench.stages = [
        StageLook("acquire", True, math.inf, False),
        StageLook("record", True, 61.0, False),
    ]


def _dead(bench):
    bench.stages = [StageLook("reconstruct-0", False, 61.0, True)]


class Case(NamedTuple):
    """How an alarm is provoked, what undoes it, what its text says, which others it brings along, what it takes."""

    provoke: Callable[[Bench], object]
    undo: Callable[[Bench], object]
    says: str
    brings: frozenset = frozenset()
    after_s: int = 15


CASES = {
    "missing_frames": Case(_count("frames_missing_timeout", 3), _quiet, "3 timeout", after_s=1),
    "overflow": Case(
        _count("frames_missing_overflow", 2),
        _quiet,
        "microscope.buffer_mb",
        {"missing_frames"},
        after_s=1,
    ),
    "queue_filling": Case(_gauge("ring_fill", 0.8), _gauge("ring_fill", 0.3), "ring is 80%"),
    "camera_stalled": Case(_stall, Bench.frames, "no frame has come for 1", after_s=0),
    "no_progress": Case(_no_progress, Bench.frames, "log.jsonl", after_s=0),
    "latency": Case(_wait_for_results, _result, "longer than the interval of 2 s"),
    "residual_drift": Case(_drift, lambda b: _residuals(b, 1.0, 5), "1.9 times"),
    "focus_drift": Case(
        _gauge("focus_error_um", -1.1), _gauge("focus_error_um", 0.1), "1.1 µm out of focus"
    ),
    "focus_lost": Case(
        _gauge("focus_error_um", 2.1), _gauge("focus_error_um", 0.1), "2.1 µm", {"focus_drift"}
    ),
    "disk_filling": Case(
        _set("disk", Disk(1000 * GB, 49 * GB)), _set("disk", Disk(1000 * GB, 90 * GB)), "4.9%"
    ),
    "disk_nearly_full": Case(
        _set("disk", Disk(1000 * GB, GB // 2)),
        _set("disk", Disk(1000 * GB, 500 * GB)),
        "make space",
        {"disk_filling"},
    ),
    "gpu_hot": Case(_set("gpu", GpuFigures(91.0)), _set("gpu", GpuFigures(70.0)), "91 °C"),
    "gpu_lost": Case(_set("gpu", GpuFigures(50.0, 1)), _set("gpu", GpuFigures(50.0)), "1 GPU"),
    "stage_restarted": Case(_count("stage_restarts"), _quiet, "acquire 1 times", after_s=1),
    "stage_silent": Case(_silent, _set("stages", []), "record for 61 s"),
    "stage_dead": Case(_dead, _set("stages", []), "reconstruct-0"),
}


def test_every_alarm_has_its_case_and_its_metric():
    assert tuple(alarm.name for alarm in ALARMS) == ALARM_NAMES
    assert set(CASES) == set(ALARM_NAMES)


@pytest.mark.parametrize("name", ALARM_NAMES)
def test_each_alarm_comes_from_what_it_is_for_and_goes_again(make_bench, name):
    bench = make_bench(care={"focus_limit_um": 1.0, "suspend": []})
    case = CASES[name]
    bench.frames(30)
    assert bench.active() == set(), "a healthy run has none"
    case.provoke(bench)
    bench.frames(case.after_s)
    assert bench.active() == {name} | case.brings
    (entry,) = [e for e in bench.watch._state.active if e["name"] == name]
    assert case.says in entry["text"]
    assert f"alarm: {entry['text']}" in bench.told
    case.undo(bench)
    bench.state = RunState.RUNNING
    bench.frames(8)
    assert bench.active() == set()
    assert f"over: {name.replace('_', ' ')}" in bench.told
    assert {e["name"] for e in bench.watch._state.past} == {name} | case.brings
    assert all(e["to_utc"] > e["from_utc"] for e in bench.watch._state.past)


def test_a_disk_that_would_be_full_before_the_run_is_over(make_bench):
    bench = make_bench(care={"suspend": []})
    for second in range(45):
        # 1 GB a second: full in eight minutes or so; 100 timepoints of two seconds take three.
        bench.disk = Disk(1000 * GB, (500 - second) * GB)
        bench.frames()
    assert bench.active() == set()
    assert bench.telemetry.value("disk_left_seconds") == pytest.approx(456, rel=0.05)
    for second in range(60):
        bench.disk = Disk(1000 * GB, (455 - 6 * second) * GB)
        bench.frames()
    assert bench.active() == {"disk_filling"}
    assert "it lasts for" in bench.watch._state.active[0]["text"]


def test_what_is_known_of_a_run_is_read_from_its_folder(make_bench, make_experiment):
    bench = make_bench()
    run = bench.folder.path
    with bench.folder.lock():
        bench.folder.create(make_experiment())
        assert (read_alarms(run), read_suspended(run)) == ([], None)
        bench.gpu = GpuFigures(95.0)
        bench.frames(6)
        assert wait_for(lambda: read_suspended(run) is not None, timeout_s=10)
        (alarm,) = read_alarms(run)
        assert alarm.keys() == {"name", "severity", "text", "since_utc"}
        assert (alarm["name"], alarm["severity"]) == ("gpu_hot", "critical")
        assert "95 °C" in read_suspended(run)
        bench.watch.close()
        assert (read_alarms(run), read_suspended(run)) == ([], None), "it is over with the session"
    past = care_report(run)
    assert [a["name"] for a in past["alarms"]] == ["gpu_hot"]
    assert [s["alarms"] for s in past["suspensions"]] == [["gpu_hot"]]
    assert past["suspensions"][0]["to_utc"] > past["suspensions"][0]["from_utc"]


def test_alarms_of_a_killed_session_are_not_those_of_now(make_bench, make_experiment):
    bench = make_bench()
    run = bench.folder.path
    with bench.folder.lock():
        bench.folder.create(make_experiment())
        bench.gpu = GpuFigures(95.0)
        bench.frames(6)
        assert wait_for(lambda: len(read_alarms(run)) == 1, timeout_s=10)
    assert read_alarms(run) == [], "nobody holds the lock: it was killed"
    assert care_report(run)["alarms"][0]["to_utc"] is None
    make_bench().watch.close()  # resumed
    assert care_report(run)["alarms"][0]["to_utc"] is None
    assert care_report(run)["suspensions"][0]["to_utc"] is None


def test_a_run_pauses_itself_and_goes_on_when_all_is_well(make_bench):
    bench = make_bench()
    bench.gpu = GpuFigures(91.0)
    bench.frames(3)
    assert bench.control.command == Command.RUN
    bench.frames(2)
    assert bench.control.command == Command.PAUSE
    assert bench.telemetry.value("suspended") == 1
    bench.state = RunState.PAUSED
    bench.gpu = GpuFigures(85.0)
    bench.look(20)
    assert bench.control.command == Command.PAUSE, "cooler, and not yet cool"
    bench.gpu = GpuFigures(70.0)
    bench.look(4)
    assert bench.control.command == Command.PAUSE
    bench.look(3)
    assert bench.control.command == Command.RUN
    assert bench.telemetry.value("suspended") == 0
    assert bench.telemetry.total("suspensions") == 1
    assert any(line.startswith("suspended by gpu hot") for line in bench.told)
    assert bench.told[-1] == "no longer suspended: going on"


def test_the_user_s_orders_stand_above_a_suspension(make_bench):
    bench = make_bench()
    bench.ask(Request.PAUSE)
    bench.gpu = GpuFigures(91.0)
    bench.look(10)
    assert bench.telemetry.value("suspended") == 0
    bench.gpu = GpuFigures(70.0)
    bench.look(10)
    assert bench.control.command == Command.PAUSE, "a pause of the user's is not ended"
    bench.ask(Request.RESUME)
    bench.gpu = GpuFigures(91.0)
    bench.look(6)
    assert bench.telemetry.value("suspended") == 1
    bench.ask(Request.RESUME)
    bench.look(30)
    assert bench.control.command == Command.RUN, "told to go on, it goes on in spite of the alarm"
    bench.gpu = GpuFigures(70.0)
    bench.look(10)
    bench.gpu = GpuFigures(91.0)
    bench.look(6)
    assert bench.control.command == Command.PAUSE, "another time it is suspended again"
    bench.ask(Request.PAUSE)
    bench.gpu = GpuFigures(70.0)
    bench.look(10)
    assert bench.control.command == Command.PAUSE, "paused by the user meanwhile, it stays so"
    assert bench.telemetry.value("suspended") == 0
    bench.ask(Request.RESUME)
    bench.gpu = GpuFigures(91.0)
    bench.look(6)
    assert bench.control.command == Command.PAUSE
    bench.ask(Request.STOP)
    bench.look(2)
    assert bench.control.command == Command.STOP
    bench.gpu = GpuFigures(70.0)
    bench.look(10)
    assert bench.control.command == Command.STOP


def test_a_run_that_takes_no_more_frames_is_not_suspended(make_bench):
    bench = make_bench()
    bench.acquiring, bench.state = False, RunState.DRAINING
    bench.gpu = GpuFigures(91.0)
    bench.look(10)
    assert bench.active() == {"gpu_hot"}
    assert bench.control.command == Command.RUN


def test_a_lost_focus_is_looked_at_again(make_bench):
    """While it is paused nothing measures the focus: only new frames can show that it is back."""
    bench = make_bench(care={"focus_limit_um": 1.0, "try_again_s": 100})
    focus = bench.telemetry.writer("acquire")
    focus.set("focus_error_um", 5.0)
    bench.frames(6)
    assert bench.control.command == Command.PAUSE
    bench.state = RunState.PAUSED
    bench.look(95)
    assert bench.control.command == Command.PAUSE
    bench.look(8)
    assert bench.control.command == Command.RUN
    bench.state = RunState.RUNNING
    bench.frames(20)
    assert bench.control.command == Command.PAUSE, "it is still lost"
    bench.look(96)
    assert bench.control.command == Command.RUN
    focus.set("focus_error_um", 0.2)
    bench.frames(40)
    assert bench.control.command == Command.RUN
    assert bench.active() == set()


def test_looking_costs_next_to_nothing(make_bench):
    bench = make_bench()
    bench.frames(10)
    began = time.process_time()
    bench.frames(200)
    assert (time.process_time() - began) / 200 < 0.02, "of each second"


def test_what_care_may_not_be(make_experiment):
    with pytest.raises(ExperimentError, match="gpu_hot"):
        make_experiment(care={"suspend": ["gpu_warm"]})
    for url in ("file:///etc/passwd", "ftp://example.org/x", "https://"):
        with pytest.raises(ExperimentError, match=r"http:// or https://"):
            make_experiment(care={"webhook_url": url})
    with pytest.raises(ExperimentError, match="well_for_s"):
        make_experiment(care={"well_for": 3})
    cared_for = make_experiment(care={"gpu_hot_c": 70, "suspend": []})
    assert cared_for.fingerprint() == make_experiment().fingerprint(), "it may change at a resume"


class Hook:
    """A web server that takes what is posted, after failing so many times."""

    def __init__(self, failures=0):
        hook = self
        self.taken, self.left, self.asked = [], failures, 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                content = self.rfile.read(int(self.headers["Content-Length"]))
                hook.asked += 1
                hook.left -= 1
                if hook.left >= 0:
                    self.send_response(503)
                else:
                    hook.taken.append(json.loads(content))
                    self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?token=secret"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def test_a_webhook_hears_of_alarms_also_at_the_second_try(make_bench, caplog):
    hook = Hook(failures=1)
    try:
        bench = make_bench(care={"webhook_url": hook.url})
        bench.gpu = GpuFigures(91.0)
        bench.frames(5)
        bench.gpu = GpuFigures(50.0)
        bench.look(10)
        assert wait_for(lambda: len(hook.taken) == 4, timeout_s=20)
    finally:
        hook.close()
    assert [(h["alarm"], h["state"]) for h in hook.taken] == [
        ("gpu_hot", "on"),
        ("suspended", "on"),
        ("gpu_hot", "off"),
        ("suspended", "off"),
    ]
    assert hook.taken[0].keys() == {"run", "alarm", "state", "text", "time_utc"}
    assert hook.taken[0]["run"] == "run"
    assert "91 °C" in hook.taken[0]["text"]


def test_a_webhook_hears_that_an_alarm_is_over_with_its_session(make_bench):
    hook = Hook()
    try:
        bench = make_bench(care={"webhook_url": hook.url, "suspend": []})
        bench.gpu = GpuFigures(91.0)
        bench.frames(5)
        bench.watch.close()
    finally:
        hook.close()
    assert [(h["alarm"], h["state"]) for h in hook.taken] == [("gpu_hot", "on"), ("gpu_hot", "off")]


def test_a_short_run_may_lie_in_the_ring_as_a_whole(make_bench):
    bench = make_bench()
    bench.acquire.add("slots_published", 98)  # of 100, and the ring takes 8
    bench.acquire.set("ring_fill", 0.75)
    bench.frames(5)
    assert bench.active() == set()


def test_a_webhook_that_nobody_hears_keeps_nobody_waiting(caplog):
    hook = Hook()
    hook.close()  # nobody listens there any more
    webhook = Webhook(hook.url)
    began = time.monotonic()
    for n in range(300):
        webhook.send({"alarm": f"alarm {n}"})
    assert time.monotonic() - began < 1
    webhook.close(timeout_s=1)
    assert time.monotonic() - began < 5
    assert wait_for(lambda: "the webhook was not heard" in caplog.text, timeout_s=5)
    assert "secret" not in caplog.text


def test_gpus_are_asked_by_their_own_program(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert GpuLook()() is None, "no such program: no GPU, no alarm"
    gpu = fake_nvidia_smi(tmp_path)
    look = GpuLook()
    gpu.write_text("GPU-a, 61\nGPU-b, 88\n")
    assert look() == GpuFigures(88.0, 0)
    gpu.write_text("GPU-a, 62\nGPU-b, [GPU is lost]\n")
    assert look() == GpuFigures(62.0, 1)
    gpu.unlink()
    assert look() == GpuFigures(None, 2)
    gpu.write_text("GPU-a, 40\nGPU-b, 41\n")
    assert look() == GpuFigures(41.0, 0)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 700 MB: the preflight wants 500 MB to spare."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting needs root on Linux")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700m", "tmpfs", disk], check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_disk_that_is_nearly_full_pauses_the_run_in_the_dark(
    tmp_path, small_disk, make_experiment, lamp
):
    experiment = make_experiment(
        microscope={
            "camera": {"shape_px": [16, 16], "binning": 1, "frame_rate_hz": 20},
            "specimen": {"kind": "target", "shape": "beads"},
            "oversampling": 1,
            "lamp_file": str(lamp.path),
        },
        sequence={"timepoints": 400, "foci_um": [-3.0, 3.0]},
        reconstruction={"method": "tie"},
        care={"well_for_s": 1},
    )
    path = write_experiment(tmp_path / "e.yaml", experiment)
    out = small_disk / "run"
    ballast = small_disk / "ballast"
    with LiveRun(path, out) as run:
        run.wait_for(lambda: run.committed() > 10, timeout=200)
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(small_disk).free - 400_000_000)
        run.wait_for(lambda: read_suspended(out) is not None)
        assert "disk nearly full" in read_suspended(out)
        assert {"disk_filling", "disk_nearly_full"} >= {a["name"] for a in read_alarms(out)}
        run.wait_for(lambda: not lamp.is_on())
        stored = run.committed()
        time.sleep(1)
        assert run.committed() - stored <= 40, "what was taken is stored, and no more is taken"
        assert not lamp.is_on()
        ballast.unlink()
        run.wait_for(lambda: read_suspended(out) is None)
        run.wait_for(lambda: run.committed() > stored + 40)
        ask(run, Request.STOP)
        assert run.wait() == 0, run.errors()
    found = verify(out)
    assert found.ok, found.mismatches
    care = report(out)["care"]
    assert "disk_nearly_full" in [a["name"] for a in care["alarms"]]
    (suspension,) = care["suspensions"]
    assert suspension["to_utc"] > suspension["from_utc"]
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    told = [(x["alarm"], x["state"]) for x in lines if x["message"] == "alarm"]
    assert ("disk_nearly_full", "on") in told
    assert ("disk_nearly_full", "off") in told
    assert "suspended by disk nearly full" in run.errors()
    # The same run resumed holds its residuals against those that it began with.
    assert len(first_residuals(RunReader(out))) == REFERENCE
    assert livephase("status", out)[0] == 0


@pytest.mark.timeout(400)
def test_the_service_tells_why_a_run_has_paused_itself(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    fake_nvidia_smi(tools).write_text("GPU-a, 95\n")
    env = {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    with ServiceProcess(tmp_path / "home", env=env) as service:
        service.client.begin(small(), "hot")
        service.until(lambda: service.client.status().run.suspended, timeout=200)
        service.until_state("paused")
        run = service.client.status().run
        assert [a.name for a in run.alarms] == ["gpu_hot"]
        assert "95 °C" in run.suspended
        metrics = service.http.get("/metrics").text
        assert 'livephase_alarm_active{alarm="gpu_hot"} 1.0' in metrics
        assert 'livephase_alarm_active{alarm="overflow"} 0.0' in metrics
        assert "livephase_suspended 1.0" in metrics
        # Somebody who knows better.
        service.client.resume()
        service.until_state("running")
        service.until(lambda: service.client.status().run.suspended is None)
        assert [a.name for a in service.client.status().run.alarms] == ["gpu_hot"]
        service.client.stop()
        service.until_over()
        assert service.client.status().run.alarms == []


def test_figures_of_the_last_while_remember_little_of_it(make_bench):
    slope, telemetry = Slope(3600.0), make_bench().telemetry
    recent, worker = Recent(3600.0), telemetry.writer("reconstruct-0")
    assert recent.quantile(0.5, telemetry.histogram("latency_seconds"), 0) is None
    for second in range(1, 10_001):
        if second == 5000:
            worker.observe("latency_seconds", 30.0)
        rate = slope.per_s(2.0 * second, second)
        latency = recent.quantile(0.99, telemetry.histogram("latency_seconds"), second)
        if second == 8000:
            assert latency == pytest.approx(30, rel=0.13)
    assert rate == pytest.approx(2.0)
    assert latency is None, "that was longer ago"
    assert len(slope._history) <= 62
    assert len(recent._history) <= 62
