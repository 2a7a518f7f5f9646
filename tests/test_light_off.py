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

import psutil
import pytest
from lamp_log import LampLog, assert_dark_between_timepoints
from live_runs import LiveRun, ask, livephase, report, write_experiment

from pipeline.control import Request
from pipeline.store.reader import RunReader
from pipeline.store.verify import verify

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="kills processes the POSIX way"),
    pytest.mark.timeout(300),
]

LIMIT_S = 1.0
ENDS_A_SESSION = ("acquire", "supervisor", "acquire and supervisor", "all", "interrupt", "abort")


@pytest.fixture
def lamp(tmp_path):
    return LampLog(tmp_path / "lamp.jsonl")


@pytest.fixture
def experiment_file(tmp_path, make_experiment, lamp):
    """Tiny frames at 200 a second, in one burst: the light is on all the time."""

    def make(name="e.yaml", **changes):
        from conftest import merged

        base = {
            "microscope": {
                "camera": {"shape_px": [16, 16], "binning": 1, "frame_rate_hz": 200},
                "specimen": {"kind": "target", "shape": "blank"},
                "oversampling": 1,
                "lamp_file": str(lamp.path),
            },
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
    acquire, supervisor = run.stage_pid("acquire"), run.process.pid
    everybody = [c.pid for c in psutil.Process(supervisor).children(recursive=True)]
    moment = time.monotonic()
    if kind == "interrupt":
        run.signal(signal.SIGINT)
    elif kind == "abort":
        ask(run, Request.ABORT)
    else:
        kill(
            *{
                "acquire": [acquire],
                "supervisor": [supervisor],
                "acquire and supervisor": [acquire, supervisor],
                "all": [supervisor, *everybody],
            }[kind]
        )
    dark_s = None if kind == "all" else lamp.dark_after(moment)
    run.wait()
    return dark_s


def events_that_end_sessions(path, out, lamp, kinds, rng):
    """Events that end a session, each followed by a resume."""
    dark_s = []
    for n, kind in enumerate(kinds):
        with LiveRun(path, out, "--resume", "--even-aborted") as run:
            lit(run, lamp)
            time.sleep(rng.uniform(0.0, 0.5))
            assert lamp.is_on()
            took = end_a_session(run, lamp, kind)
        if took is not None:
            dark_s.append((kind, took))
            continue
        # Everything died at once: the next start turns the light off, the first thing that it does.
        time.sleep(0.3)
        assert lamp.is_on()
        left_on = len(lamp.lines())
        if n % 2:
            status, text, errors = livephase("abort", out)
            assert status == 0, errors
            assert "is off" in text
            assert not lamp.is_on()
        else:
            with LiveRun(path, out, "--resume", "--even-aborted") as run:
                run.wait_for(lambda n=left_on: len(lamp.lines()) > n)
                off = lamp.lines()[left_on]
                # Not by the acquire process, seconds later.
                assert (off["on"], off["pid"]) == (False, run.process.pid)
                lit(run, lamp)
                end_a_session(run, lamp, "abort")
    return dark_s


def assert_in_time(dark_s):
    late = [(kind, round(seconds, 3)) for kind, seconds in dark_s if seconds > LIMIT_S]
    assert not late, f"later than {LIMIT_S} s of {len(dark_s)}: {late}"
    slowest = max(dark_s, key=lambda event: event[1])
    print(f"{len(dark_s)} events, the slowest {slowest[1] * 1e3:.0f} ms after {slowest[0]}")


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
    kinds = random_kinds(["pause", "pause", "record", "keeper"], 8, rng)
    assert_in_time(events_in_a_run(experiment_file(), tmp_path / "run", lamp, kinds, rng))
    assert_accounted(tmp_path / "run")


def test_what_ends_a_session_leaves_no_light_on(tmp_path, experiment_file, lamp):
    rng = random.Random(2)
    kinds = random_kinds(ENDS_A_SESSION, len(ENDS_A_SESSION), rng)
    assert_in_time(events_that_end_sessions(experiment_file(), tmp_path / "run", lamp, kinds, rng))
    assert_accounted(tmp_path / "run")


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
    path = experiment_file(microscope={"faults": {"break_at_frame": [37, 60]}})
    assert_in_time(exceptions_in_the_driver(path, tmp_path / "run", lamp, 2))
    assert verify(tmp_path / "run").written == 60


def test_it_is_dark_between_slow_timepoints(tmp_path, experiment_file, lamp):
    path = experiment_file(sequence={"timepoints": 12, "interval_s": 0.25})
    out = tmp_path / "run"
    with LiveRun(path, out) as run:
        lit_at_all = []
        run.wait_for(lambda: run.committed() > 0)
        for _ in range(2):
            pause_and_resume(run, lamp)
        while not run.over:
            lit_at_all.append(lamp.is_on())
            time.sleep(0.005)
        assert run.wait() == 0, run.errors()
    assert_dark_between_timepoints(out, lamp, most=1)
    on_s = sum(until - since for since, until in lamp.intervals())
    assert on_s < 12 * 0.1
    assert report(out)["light_on_s"] == pytest.approx(on_s, abs=0.1)


def test_a_light_may_stay_on_for_the_next_timepoint_if_that_is_soon(
    tmp_path, experiment_file, lamp
):
    path = experiment_file(
        sequence={"timepoints": 8, "interval_s": 0.2}, safety={"dark_after_s": 0.5}
    )
    assert livephase("run", path, "--out", tmp_path / "run")[0] == 0
    assert len(lamp.intervals()) == 1
    assert_dark_between_timepoints(tmp_path / "run", lamp, most=8)


def test_a_frozen_run_whose_processes_are_killed_later_is_put_out_by_its_keeper(
    tmp_path, experiment_file, lamp
):
    """A supervisor that hangs can't see that acquisition died; the keeper looks for itself."""
    with LiveRun(experiment_file(), tmp_path / "run") as run:
        lit(run, lamp)
        psutil.Process(run.process.pid).suspend()
        moment = time.monotonic()
        kill(run.stage_pid("acquire"))
        assert lamp.dark_after(moment) < LIMIT_S
        run.kill()


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
    kinds = random_kinds(ENDS_A_SESSION, 49, rng)
    dark_s += events_that_end_sessions(experiment_file(), tmp_path / "c", lamp, kinds, rng)
    path = experiment_file("x.yaml", microscope={"faults": {"break_at_frame": [60, 200, 301]}})
    dark_s += exceptions_in_the_driver(path, tmp_path / "d", lamp, 3)
    path = experiment_file("y.yaml", microscope={"faults": {"break_at_frame": [7, 31, 99]}})
    dark_s += exceptions_in_the_driver(path, tmp_path / "e", lamp, 3)
    assert_in_time(dark_s)
    for run in "abcde":
        assert_accounted(tmp_path / run)
