"""The alert rules, by promtool; and a real Prometheus that sees real runs go wrong, and get well again."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import types
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml
from fake_gpu import fake_nvidia_smi
from live_runs import LiveRun, write_experiment

from pipeline import shared_memory
from pipeline.control import Control, RunState
from pipeline.experiment import ALARM_NAMES, load_experiment
from pipeline.lifecycle.care import StageLook, Watch, read_alarms
from pipeline.lifecycle.care.figures import Disk
from pipeline.lifecycle.care.gpu import GpuFigures
from pipeline.lifecycle.orders import Orders
from pipeline.store.verify import verify
from pipeline.telemetry import METRICS, Telemetry, serve_metrics

REPOSITORY = Path(__file__).parent.parent
RULES = REPOSITORY / "deploy" / "prometheus"
GB = 10**9

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="prometheus (Debian package) isn't installed",
)


def rules():
    content = yaml.safe_load((RULES / "alerts.yml").read_text(encoding="utf-8"))
    return {rule["alert"]: rule for group in content["groups"] for rule in group["rules"]}


@needs_prometheus
@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts.test.yml"),
    ],
)
def test_promtool_has_nothing_to_say(command):
    done = subprocess.run(
        ["promtool", *command], cwd=RULES, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout + done.stderr


def test_every_alarm_of_a_run_is_an_alert_that_says_cause_and_fix():
    alerts = rules()
    alarms = [rule["labels"]["alarm"] for rule in alerts.values()]
    assert len(set(alarms)) == len(alarms)
    assert set(ALARM_NAMES) < set(alarms)
    assert set(alarms) - set(ALARM_NAMES) == {"suspended", "unwatched", "down"}
    for rule in alerts.values():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "cause", "fix"}
        assert "for" in rule
    tested = (RULES / "alerts.test.yml").read_text(encoding="utf-8")
    assert set(re.findall(r'alertname="(\w+)", alertstate', tested)) == set(alerts)


def test_rules_ask_only_for_metrics_that_there_are():
    exported = {m.exported + ("_total" if m.kind == "counter" else "") for m in METRICS}
    for rule in rules().values():
        assert set(re.findall(r"livephase_\w+", rule["expr"])) <= exported


def hurried(text: str) -> str:
    """The rules with a patience of seconds instead of minutes."""
    text = re.sub(r"for: \w+$", "for: 1s", text, flags=re.MULTILINE)
    text = text.replace("_timestamp_seconds > 30", "_timestamp_seconds > 4")
    return re.sub(r"\[\d+m\]", "[6s]", text)


class Prometheus:
    """A server of its own that scrapes and evaluates every second."""

    def __init__(self, folder: Path, targets: dict[str, int]) -> None:
        folder.mkdir()
        (folder / "alerts.yml").write_text(hurried((RULES / "alerts.yml").read_text()))
        jobs = [
            {
                "job_name": "livephase",
                "static_configs": [
                    {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": name}}
                    for name, port in targets.items()
                ],
            }
        ]
        (folder / "prometheus.yml").write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": ["alerts.yml"],
                    "scrape_configs": jobs,
                }
            )
        )
        self._url = f"http://127.0.0.1:{free_port()}"
        self._log = (folder / "log.txt").open("wb")
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self._url.removeprefix('http://')}",
            ],
            stdout=self._log,
            stderr=self._log,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=20)
        self._log.close()

    def _get(self, path):
        with urllib.request.urlopen(f"{self._url}/api/v1/{path}", timeout=5) as answer:
            return json.load(answer)["data"]

    def firing(self, instance):
        """Alarms whose alert fires, by the label `alarm`."""
        try:
            alerts = self._get("alerts")["alerts"]
        except OSError:
            return set()  # not up yet
        return {
            a["labels"]["alarm"]
            for a in alerts
            if a["state"] == "firing" and a["labels"]["instance"] == instance
        }

    def fired(self, instance):
        """Alarms whose alert has fired at any time."""
        query = f'last_over_time(ALERTS{{alertstate="firing", instance="{instance}"}}[30m])'
        found = self._get(f"query?query={urllib.parse.quote(query)}")["result"]
        return {series["metric"]["alarm"] for series in found}


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def eventually(condition, what, timeout_s=120.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.2)


@needs_prometheus
@pytest.mark.skipif(sys.platform == "win32", reason="stops processes by SIGSTOP")
@pytest.mark.timeout(600)
def test_a_real_prometheus_sees_a_run_go_wrong_and_get_well_again(
    tmp_path, make_experiment, monkeypatch
):
    """Every fault that the simulator has, and what befalls processes and GPUs, in one run."""
    tools = tmp_path / "bin"
    tools.mkdir()
    gpu = fake_nvidia_smi(tools)
    gpu.write_text("GPU-a, 50\nGPU-b, 51\n")
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    first = load_experiment(REPOSITORY / "deploy/experiments/first_experiment.yaml")
    port = free_port()
    experiment = first.model_validate(
        first.model_dump(mode="json")
        | {
            "microscope": {
                "driver": "simulator",
                "camera": {
                    "shape_px": [64, 64],
                    "pixel_um": 6.5,
                    "bit_depth": 12,
                    "frame_rate_hz": 40,
                },
                "specimen": {"kind": "target", "shape": "beads"},
                "oversampling": 1,
                "faults": {
                    "drop_frames": [4 * 4 + 1],
                    "overflow_at_frame": [4 * 6 + 1],
                    "stall_at_frame": 4 * 12,
                    "stall_s": 5.0,
                },
                # The light is a frame late from here on: what is measured is no longer what was calibrated.
                "imperfections": {"light_missed_triggers": [4 * 22]},
            },
            "sequence": {"timepoints": 2000, "interval_s": 0.7},
            # A ring of a few slots: a recorder that hangs fills it within seconds.
            "output": {"prometheus_port": port, "ring_gb": 3e-4},
            "care": {
                "well_for_s": 2,
                "stalled_after_s": 1,
                "no_progress_after_s": 2,
                "silent_after_s": 2.5,
                "focus_limit_um": 1,
                "try_again_s": 4,
            },
        }
    )
    path = write_experiment(tmp_path / "e.yaml", experiment)
    out = tmp_path / "run"
    with LiveRun(path, out) as run, Prometheus(tmp_path / "prometheus", {"run": port}) as server:

        def fires(*alarms):
            eventually(
                lambda: set(alarms) <= server.firing("run") | server.fired("run"),
                lambda: (
                    f"{alarms}: fired {server.fired('run')}, {read_alarms(out)}\n{run.errors()}"
                ),
            )

        run.wait_for(lambda: run.committed() > 0, timeout=200)
        gpu.write_text("GPU-a, 50\n")
        fires("missing_frames", "overflow")
        fires("camera_stalled", "no_progress")
        fires("residual_drift", "gpu_lost")
        with stopped(run.stage_pid("record")), stopped(run.stage_pid("reconstruct")):
            fires("queue_filling", "stage_silent", "latency")
        run.kill_stage("reconstruct")
        fires("stage_restarted")
        # A GPU gets too hot: the run pauses itself, and goes on when it has cooled down.
        gpu.write_text("GPU-a, 95\n")
        fires("gpu_hot", "suspended")
        gpu.write_text("GPU-a, 60\nGPU-b, 51\n")

        # The light stays late; images do, too, where other work keeps the machine busy. Everything else is well again.
        lasting = {"residual_drift", "latency"}
        eventually(
            lambda: server.firing("run") <= lasting and run.committed() > 0,
            lambda: f"still firing: {server.firing('run')}\n{run.errors()}",
        )
        before = run.committed()
        run.wait_for(lambda: run.committed() > before, timeout=120)
        run.signal(signal.SIGINT)
        assert run.wait() == 0, run.errors()
        eventually(lambda: server.firing("run") == {"down"}, lambda: str(server.firing("run")))
    found = verify(out)
    assert found.ok, found.mismatches


@contextmanager
def stopped(pid):
    """A process that hangs meanwhile."""
    process = psutil.Process(pid)
    process.suspend()
    try:
        yield
    finally:
        process.resume()


@needs_prometheus
@pytest.mark.timeout(300)
def test_a_real_prometheus_sees_what_no_simulator_can_do(tmp_path, make_experiment):
    """A disk that fills, a focus that is lost, a stage that is dead, a supervisor that hangs."""
    names = [f"lp-{time.monotonic_ns() % 10**9}-{part}" for part in ("tel", "ctl")]
    experiment = make_experiment(
        care={"well_for_s": 1, "focus_limit_um": 1},
        sequence={"timepoints": 100, "interval_s": 1.0},
    )
    disk, stages = [Disk(1000 * GB, 500 * GB)], [[]]
    (tmp_path / "run").mkdir()
    try:
        with Telemetry.create(names[0]) as telemetry, Control.create(names[1]) as control:
            orders = Orders(control, types.SimpleNamespace(count=0), lambda _: None)
            watch = Watch(
                tmp_path / "run",
                experiment,
                telemetry,
                orders,
                lambda _: None,
                todo_slots=100,
                ring_slots=4,
                gpu=GpuFigures,
                disk=lambda: disk[0],
            )
            supervisor, acquire = telemetry.writer("supervisor"), telemetry.writer("acquire")
            supervisor.set("run_state", RunState.RUNNING)
            reconstruct = telemetry.writer("reconstruct-0")
            reconstruct.set("stage_up", 1)
            orders.begin()
            exporter, port = serve_metrics(telemetry, 0)
            with Prometheus(tmp_path / "prometheus", {"desk": port}) as server:

                def look_until(condition, timeout_s=120.0):
                    deadline = time.monotonic() + timeout_s
                    while not condition(server.firing("desk")):
                        assert time.monotonic() < deadline, server.firing("desk")
                        acquire.add("frames_acquired")
                        watch.look(RunState.RUNNING, stages[0], acquiring=True)
                        time.sleep(0.25)

                disk[0] = Disk(1000 * GB, GB // 4)
                acquire.set("focus_error_um", 3.0)
                stages[0] = [StageLook("reconstruct-0", False, math.inf, True)]
                reconstruct.set("stage_up", 0)
                wanted = {"disk_filling", "disk_nearly_full", "focus_drift", "focus_lost"}
                wanted |= {"stage_dead", "suspended"}
                look_until(lambda firing: wanted <= firing)
                assert server.firing("desk") == wanted
                disk[0] = Disk(1000 * GB, 500 * GB)
                acquire.set("focus_error_um", 0.1)
                stages[0] = []
                reconstruct.set("stage_up", 1)
                look_until(lambda firing: not firing)
                # Nobody looks any more.
                eventually(
                    lambda: server.firing("desk") == {"unwatched"},
                    lambda: str(server.firing("desk")),
                )
                look_until(lambda firing: not firing)
            exporter.shutdown()
            exporter.server_close()
            watch.close()
    finally:
        for name in names:
            shared_memory.unlink(name)
