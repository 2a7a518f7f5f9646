"""The light goes off within a second, whatever dies, breaks or is ordered; the lamp's own log is the witness.

`pytest -m soak tests/test_light_off.py` does it a hundred times.
"""

import contextlib
import json
import os
import random
import signal
import sys
import time

import numpy as np
import psutil
import pytest
from conftest import merged
from lamp_log import under_the_lamp
from live_runs import LiveRun, ask, livephase, write_experiment

import pipeline
import pipeline.lifecycle.supervisor
from pipeline.control import Request
from pipeline.store.reader import RunReader
from pipeline.store.verify import verify

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="kills processes the POSIX way"),
    pytest.mark.timeout(300),
]

LIMIT_S = 1.0
ENDS_A_SESSION = (
    "acquire",
    "acquire of a frozen supervisor",
    "supervisor",
    "acquire and supervisor",
    "all",
    "interrupt",
    "abort",
)


@pytest.fixture
def experiment_file(tmp_path, make_experiment, lamp):
    """Tiny frames at 200 a second, in one burst: the light is on all the time."""

    def make(name="e.yaml", **changes):
        base = {
            "microscope": under_the_lamp(lamp, frame_rate_hz=200),
            "illumination": {"channels": {"green": {"exposure_ms": 5.0}}},
            "sequence": {"timepoints": 40000, "foci_um": [0.0], "channels": ["green"]},
            "reconstruction": {"method": "none"},
            "output": {"shard_s": 0.5},
        }
        return write_experiment(tmp_path / name, make_experiment(**merged(base, changes)))

    return make


def keeper_of(run):
    """Process id of the newest light keeper."""
    lines = (run.out / "log.jsonl").read_text().splitlines()
    pids = [json.loads(line)["pid"] for line in lines if "light keeper stands by" in line]
    return pids[-1] if pids else 0


def lit(run, lamp):
    run.wait_for(lambda: lamp.is_on() and run.committed() > 0 and run.stage_pid("acquire"))


def kill(*pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def pause_and_resume(run, lamp):
    """Seconds from the order until it was dark."""
    moment = time.monotonic()
    ask(run, Request.PAUSE)
    dark_s = lamp.dark_after(moment)
    time.sleep(0.1)
    assert not lamp.is_on()
    ask(run, Request.RESUME)
    run.wait_for(lamp.is_on)
    return dark_s


def kill_and_go_on(run, lamp, who):
    """A process dies without which the run goes on: who comes in its place obeys the light's orders as well."""
    pid_of = {
        "keeper": lambda: keeper_of(run),
        "record": lambda: run.stage_pid("record"),
        "reconstruct": lambda: run.stage_pid("reconstruct"),
    }[who]
    run.wait_for(pid_of)
    before = pid_of()
    kill(before)
    run.wait_for(lambda: pid_of() not in (0, before))
    return pause_and_resume(run, lamp)


def events_in_a_run(path, out, lamp, kinds, rng):
    """Events that a run survives, one after the other; how long after each order the light was on."""
    dark_s = []
    with LiveRun(path, out) as run:
        lit(run, lamp)
        for kind in kinds:
            time.sleep(rng.uniform(0.0, 0.4))
            assert lamp.is_on()
            took = (
                pause_and_resume(run, lamp) if kind == "pause" else kill_and_go_on(run, lamp, kind)
            )
            dark_s.append((kind, took))
        moment = time.monotonic()
        ask(run, Request.ABORT)
        dark_s.append(("abort", lamp.dark_after(moment)))
        run.wait()
    return dark_s


def end_a_session(run, lamp, kind):
    """One event that a session does not survive; how long the light was on afterwards, None where all died."""
    acquire, supervisor = run.stage_pid("acquire"), psutil.Process(run.process.pid)
    everybody = [child.pid for child in supervisor.children(recursive=True)]
    if "frozen" in kind:
        supervisor.suspend()
    moment = time.monotonic()
    if kind == "interrupt":
        run.signal(signal.SIGINT)
    elif kind == "abort":
        ask(run, Request.ABORT)
    else:
        kill(
            *{
                "acquire": [acquire],
                "acquire of a frozen supervisor": [acquire],
                "supervisor": [supervisor.pid],
                "acquire and supervisor": [acquire, supervisor.pid],
                "all": [supervisor.pid, *everybody],
            }[kind]
        )
    dark_s = None if kind == "all" else lamp.dark_after(moment)
    if "frozen" in kind:
        supervisor.resume()
    run.wait()
    return dark_s


def events_that_end_sessions(path, out, lamp, kinds, rng):
    """Events that end a session, each followed by a resume."""
    dark_s, left_on = [], None
    for kind in kinds:
        with LiveRun(path, out, "--resume", "--even-aborted") as run:
            if left_on is not None:
                assert_put_out_first(run, lamp, left_on)
                left_on = None
            lit(run, lamp)
            time.sleep(rng.uniform(0.0, 0.5))
            assert lamp.is_on()
            took = end_a_session(run, lamp, kind)
        if took is not None:
            dark_s.append((kind, took))
            continue
        # Everything died at once: whoever comes next turns the light off, the first thing that it does.
        time.sleep(0.3)
        assert lamp.is_on()
        left_on = len(lamp.lines())
        if rng.random() < 0.5:
            status, text, errors = livephase("abort", out)
            assert status == 0, errors
            assert "is off" in text
            assert not lamp.is_on()
            left_on = None
    assert left_on is None, "the last event must leave no light on"
    return dark_s


def assert_put_out_first(run, lamp, lines):
    """The run that begins has put out the light that was on when the log had so many lines."""
    run.wait_for(lambda: len(lamp.lines()) > lines)
    off = lamp.lines()[lines]
    # Not by the acquire process, seconds later.
    assert (off["on"], off["pid"]) == (False, run.process.pid)


def assert_in_time(dark_s):
    late = [(kind, round(seconds, 3)) for kind, seconds in dark_s if seconds > LIMIT_S]
    assert not late, f"later than {LIMIT_S} s of {len(dark_s)}: {late}"
    for kind in sorted({kind for kind, _ in dark_s}):
        took_s = [seconds for k, seconds in dark_s if k == kind]
        print(f"{kind}: {len(took_s)} times, the slowest {max(took_s) * 1e3:.0f} ms")


def assert_accounted(out):
    found = verify(out)
    assert found.ok, found.mismatches
    assert found.planned == found.written + found.missing + found.pending


def random_kinds(kinds, count, rng):
    """Each of them as often, in random order."""
    chosen = [kinds[n % len(kinds)] for n in range(count)]
    rng.shuffle(chosen)
    return chosen


def test_a_pause_and_a_dead_record_stage_or_keeper_in_a_run(tmp_path, experiment_file, lamp):
    rng = random.Random(1)
    kinds = random_kinds(["pause", "record", "keeper"], 4, rng)
    assert_in_time(events_in_a_run(experiment_file(), tmp_path / "run", lamp, kinds, rng))
    assert_accounted(tmp_path / "run")


def test_what_ends_a_session_leaves_no_light_on(tmp_path, experiment_file, lamp):
    kinds = [
        "supervisor",
        "acquire and supervisor",
        "all",
        "acquire of a frozen supervisor",
        "interrupt",
    ]
    out, rng = tmp_path / "run", random.Random(2)
    assert_in_time(events_that_end_sessions(experiment_file(), out, lamp, kinds, rng))
    assert_accounted(out)


def exceptions_in_the_driver(path, out, lamp, count):
    """The driver breaks again and again, each time in a new session."""
    dark_s = []
    for _ in range(count):
        status, _, errors = livephase("run", path, "--out", out, "--resume")
        assert status != 0
        assert "RuntimeError" in errors
        assert not lamp.is_on()
        times = RunReader(out).frame_table()["time_monotonic"]
        last_frame = times[times == times].max()
        dark_s.append(("exception", lamp.lines()[-1]["monotonic"] - last_frame))
    return dark_s


def test_a_driver_that_breaks_leaves_no_light_on(tmp_path, experiment_file, lamp):
    path = experiment_file(microscope={"faults": {"break_at_frame": [37]}})
    assert_in_time(exceptions_in_the_driver(path, tmp_path / "run", lamp, 1))
    assert verify(tmp_path / "run").written == 37


def test_a_driver_that_hangs_does_not_keep_the_light_on(
    tmp_path, experiment_file, lamp, monkeypatch
):
    """Nobody orders anything: its process is killed, in seconds here, in minutes on a microscope."""
    monkeypatch.setattr(pipeline.lifecycle.supervisor, "longest_silence_s", lambda _: 1.0)
    path = experiment_file(microscope={"faults": {"stall_at_frame": 37, "stall_s": 200}})
    result = pipeline.run_experiment(path, tmp_path / "run")
    assert "acquire stage was killed" in str(result.error)
    assert verify(tmp_path / "run").written == 37
    last_frame = np.nanmax(RunReader(tmp_path / "run").frame_table()["time_monotonic"])
    assert lamp.lines()[-1]["on"] is False
    assert lamp.lines()[-1]["monotonic"] - last_frame < 1.0 + LIMIT_S + 0.5


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_soak_a_hundred_random_times(tmp_path, experiment_file, lamp):
    rng = random.Random(3)
    kinds = random_kinds(["pause", "record", "keeper"], 33, rng)
    dark_s = events_in_a_run(experiment_file(), tmp_path / "a", lamp, kinds, rng)
    # Two foci and a method, so that there is a reconstruct stage to be killed.
    path = experiment_file(
        "tie.yaml",
        microscope={"camera": {"frame_rate_hz": 50}},
        sequence={"foci_um": [-3.0, 3.0]},
        reconstruction={"method": "tie"},
    )
    kinds = random_kinds(["reconstruct", "pause", "record"], 12, rng)
    dark_s += events_in_a_run(path, tmp_path / "b", lamp, kinds, rng)
    kinds = [*random_kinds(ENDS_A_SESSION, 48, rng), "interrupt"]
    dark_s += events_that_end_sessions(experiment_file(), tmp_path / "c", lamp, kinds, rng)
    path = experiment_file("x.yaml", microscope={"faults": {"break_at_frame": [60, 200, 301]}})
    dark_s += exceptions_in_the_driver(path, tmp_path / "d", lamp, 3)
    path = experiment_file("y.yaml", microscope={"faults": {"break_at_frame": [7, 31, 99]}})
    dark_s += exceptions_in_the_driver(path, tmp_path / "e", lamp, 3)
    assert_in_time(dark_s)
    for run in "abcde":
        assert_accounted(tmp_path / run)
