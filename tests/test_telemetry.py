"""Counters that outlive their writer, and a Prometheus that can read them."""

from __future__ import annotations

import json
import math
import multiprocessing
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pipeline import shared_memory
from pipeline.control import RunState
from pipeline.errors import LivephaseError, StoreError
from pipeline.frames import MissingReason
from pipeline.telemetry import METRICS, Telemetry, serve_metrics
from pipeline.telemetry import block as block_module

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def telemetry():
    name = f"lp-{uuid.uuid4().hex[:12]}"
    with Telemetry.create(name) as telemetry:
        yield telemetry
    shared_memory.unlink(name)


@pytest.fixture
def served(telemetry):
    server, port = serve_metrics(telemetry, 0)
    yield port
    server.shutdown()
    server.server_close()


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return answer.read().decode()


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_counters_of_all_stages_add_up(telemetry):
    with Telemetry.attach(telemetry.name) as other:
        telemetry.writer("acquire").add("frames_acquired", 5)
        other.writer("record").add("frames_acquired")
        other.writer("reconstruct-63").add("frames_acquired", 2**40)
        assert telemetry.total("frames_acquired") == 6 + 2**40
        assert telemetry.total("frames_written") == 0
        telemetry.writer("acquire").add("frames_missing_dropped", 2)
        telemetry.writer("supervisor").add("frames_missing_interrupted", 3)
        assert other.missing_frames() == 5


def test_gauges_are_the_newest_or_the_sum(telemetry):
    acquire, supervisor = telemetry.writer("acquire"), telemetry.writer("supervisor")
    assert telemetry.value("light_on") == 0
    assert math.isnan(telemetry.value("residual")), "nobody has measured it yet"
    acquire.set("light_on", 1)
    assert telemetry.value("light_on") == 1
    supervisor.set("light_on", 0)  # on behalf of an acquire stage that died
    assert telemetry.value("light_on") == 0
    acquire.set("light_on", 1)
    assert telemetry.value("light_on") == 1
    for worker, waiting in enumerate((3, 4)):
        telemetry.writer(f"reconstruct-{worker}").set("reconstruction_queue", waiting)
    assert telemetry.value("reconstruction_queue") == 7


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    times=st.lists(st.floats(1.01e-4, 99.0), min_size=1, max_size=200),
    q=st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]),
)
def test_percentiles_are_right_to_one_bound(times, q):
    name = f"lp-{uuid.uuid4().hex[:12]}"
    try:
        with Telemetry.create(name) as telemetry:
            writers = [telemetry.writer("reconstruct-0"), telemetry.writer("reconstruct-1")]
            for i, seconds in enumerate(times):
                writers[i % 2].observe("latency_seconds", seconds)
            estimate = telemetry.quantile("latency_seconds", q)
            exact = np.quantile(times, q, method="inverted_cdf")
            assert exact / 1.13 <= estimate <= exact * 1.13
            histogram = telemetry.histogram("latency_seconds")
            assert histogram.observations == len(times)
            assert histogram.sum_s == pytest.approx(sum(times))
    finally:
        shared_memory.unlink(name)


def test_percentiles_without_or_beyond_the_bounds(telemetry):
    writer = telemetry.writer("record")
    assert telemetry.quantile("commit_seconds", 0.5) is None
    writer.observe("commit_seconds", 0.0)
    assert telemetry.quantile("commit_seconds", 0.5) == pytest.approx(1e-4)
    for _ in range(9):
        writer.observe("commit_seconds", 1e6)
    assert telemetry.quantile("commit_seconds", 0.5) == pytest.approx(100)


def test_unknown_names_are_refused(telemetry):
    writer = telemetry.writer("acquire")
    with pytest.raises(ValueError, match="no counter 'frames_aquired'"):
        writer.add("frames_aquired")
    with pytest.raises(ValueError, match="no gauge 'frames_acquired'"):
        writer.set("frames_acquired", 1)
    with pytest.raises(ValueError, match="no histogram 'ring_fill'"):
        writer.observe("ring_fill", 1)
    for stage in ("aquire", "reconstruct-64", "reconstruct-", "reconstruct-x"):
        with pytest.raises(ValueError, match="there is no stage"):
            telemetry.writer(stage)


def _count(name: str, connection) -> None:
    with Telemetry.attach(name) as telemetry:
        writer = telemetry.writer("record")
        for _ in range(100):
            writer.add("frames_written")
            writer.observe("commit_seconds", 0.01)
        writer.set("ring_fill", 0.25)
        connection.send("ready")
        connection.recv()


def test_a_restarted_stage_goes_on_counting_from_its_killed_predecessor(telemetry):
    for life in (1, 2):
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=_count, args=(telemetry.name, theirs), daemon=True)
        process.start()
        theirs.close()
        assert ours.recv() == "ready"
        process.kill()
        process.join()
        process.close()
        ours.close()
        assert telemetry.total("frames_written") == 100 * life
        assert telemetry.histogram("commit_seconds").observations == 100 * life
        assert telemetry.value("ring_fill") == 0.25


def test_another_table_of_metrics_is_refused(telemetry, monkeypatch):
    monkeypatch.setattr(block_module, "_TABLE", block_module._TABLE ^ 1)
    with pytest.raises(StoreError, match="has other metrics"):
        Telemetry.attach(telemetry.name)


def test_the_table_knows_every_reason_and_every_state():
    reasons = {dict(m.labels).get("reason") for m in METRICS if m.family == "frames_missing"}
    assert reasons == {r.name.lower() for r in MissingReason if r is not MissingReason.NONE}
    (run_state,) = (m for m in METRICS if m.name == "run_state")
    assert run_state.states == tuple(s.name.lower() for s in RunState)
    assert len({m.name for m in METRICS}) == len(METRICS)


def test_every_name_is_there_before_the_first_event(served):
    text = scrape(served)
    exported = {family.name for family in text_string_to_metric_families(text)}
    # The parser takes the _total of a counter off its family's name.
    assert exported == {m.exported for m in METRICS}
    assert all(name.startswith("livephase_") for name in exported)
    assert samples(text)["livephase_frames_missing_total", (("reason", "overflow"),)] == 0


def test_what_the_stages_counted_is_what_is_exported(telemetry, served):
    acquire, supervisor = telemetry.writer("acquire"), telemetry.writer("supervisor")
    acquire.add("frames_acquired", 12)
    acquire.add("frames_missing_timeout", 3)
    acquire.set("ring_fill", 0.5)
    supervisor.set("run_state", RunState.DRAINING)
    telemetry.writer("record").set("stage_up", 1)
    telemetry.writer("record").add("stage_restarts", 2)
    for seconds in (0.0005, 0.002, 0.002, 0.9, 1000):
        telemetry.writer("reconstruct-0").observe("latency_seconds", seconds)
    found = samples(scrape(served))
    assert found["livephase_frames_acquired_total", ()] == 12
    assert found["livephase_frames_missing_total", (("reason", "timeout"),)] == 3
    assert found["livephase_ring_fill_ratio", ()] == 0.5
    assert found["livephase_run_state", (("state", "draining"),)] == 1
    assert sum(v for (n, _), v in found.items() if n == "livephase_run_state") == 1
    assert found["livephase_stage_up", (("stage", "record"),)] == 1
    assert found["livephase_stage_restarts_total", (("stage", "record"),)] == 2
    assert ("livephase_stage_up", (("stage", "reconstruct-1"),)) not in found
    assert found["livephase_latency_seconds_count", ()] == 5
    assert found["livephase_latency_seconds_sum", ()] == pytest.approx(1000.9045)
    below = {
        float(dict(labels)["le"]): value
        for (name, labels), value in found.items()
        if name == "livephase_latency_seconds_bucket"
    }
    assert below[0.001] == 1
    assert below[0.01] == 3
    assert below[1.0] == below[100.0] == 4
    assert below[math.inf] == 5
    assert list(below.values()) == sorted(below.values())


def test_a_port_in_use_is_said(telemetry, served):
    with pytest.raises(LivephaseError, match="prometheus_port"):
        serve_metrics(telemetry, served)


needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian package prometheus) isn't installed"
)


@needs_promtool
def test_promtool_finds_nothing_to_say(telemetry, served):
    telemetry.writer("record").set("stage_up", 1)
    telemetry.writer("record").observe("commit_seconds", 0.1)
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=scrape(served),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus (Debian package) isn't installed"
)
def test_a_real_prometheus_scrapes_it(telemetry, served, tmp_path):
    telemetry.writer("acquire").add("frames_acquired", 41)
    telemetry.writer("reconstruct-0").observe("latency_seconds", 0.2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(
        "global: {scrape_interval: 1s}\n"
        "scrape_configs:\n"
        "- job_name: livephase\n"
        f"  static_configs: [{{targets: ['127.0.0.1:{served}']}}]\n"
    )
    server = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={configuration}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def query(expression: str) -> list[float]:
        url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(expression)}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                result = json.load(answer)["data"]["result"]
        except OSError:
            return []  # not up yet
        return [float(series["value"][1]) for series in result]

    try:
        deadline = time.monotonic() + 40
        while not query("livephase_frames_acquired_total") and time.monotonic() < deadline:
            time.sleep(0.2)
        assert query("livephase_frames_acquired_total") == [41.0]
        assert query("sum(livephase_frames_missing_total)") == [0.0]
        (median,) = query("histogram_quantile(0.5, livephase_latency_seconds_bucket)")
        assert 0.1 < median < 0.4
    finally:
        server.terminate()
        server.wait(timeout=20)
