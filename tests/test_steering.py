"""Results and people steer the microscope: what is done is true in the records, and no planned frame notices."""

import json

import numpy as np
import pytest
from live_runs import LiveRun, ask, contents, write_experiment
from micromanager_devices import Witness, seq_experiment, seq_microscope

from drivers.registry import open_driver
from drivers.replay import ReplayDriver
from drivers.simulator import SimulatedInstrument
from pipeline.actions import Move, Refocus, SetInterval, as_dict, from_dict
from pipeline.control import Control, Request, Target
from pipeline.controllers import Probe, Result, make_controller
from pipeline.controllers.stop_when import Condition
from pipeline.course import Course, Setting
from pipeline.errors import DriverError, ExperimentError, LivephaseError, RunFolderError
from pipeline.experiment import ControllerEntry, Deadband, FocusProbe, parse_experiment
from pipeline.experiment.probing import probe_experiment
from pipeline.frames import FrameKey, FrameStatus
from pipeline.lifecycle.bounds import bounded
from pipeline.lifecycle.remote import act
from pipeline.lifecycle.run import run_experiment
from pipeline.samples import specimen_for
from pipeline.store.reader import RunReader, slots_where
from pipeline.store.run_folder import RunState
from pipeline.store.steering_file import SteeringFile
from pipeline.store.verify import verify

pytestmark = pytest.mark.timeout(300)


def experiment(*, sequence, control=None, px=64, method="none", **microscope):
    """Cells under a tunable lens, in fast-forward."""
    return parse_experiment(
        {
            "name": "steered",
            "microscope": {
                "driver": "simulator",
                "seed": 3,
                "paced": False,
                "camera": {
                    "shape_px": [px, px],
                    "pixel_um": 6.5,
                    "binning": 2,
                    "bit_depth": 12,
                    "frame_rate_hz": 100,
                },
                **microscope,
            },
            "optics": {"wavelength_um": 0.53, "numerical_aperture": 0.4, "magnification": 20},
            "illumination": {
                "source": "condenser",
                "coherence": 0.0,
                "channels": {"brightfield": {"exposure_ms": 10}},
            },
            "sequence": sequence,
            "control": control or {},
            "calibration": {"source": "simulator"},
            "reconstruction": {"method": method},
        }
    )


def actions(out):
    return [json.loads(line) for line in (out / "actions.jsonl").read_text().splitlines()]


def assert_every_frame_can_be_made_again(out):
    """Pixels and focus of each stored frame follow from the run folder alone: nothing was steered unseen."""
    reader = RunReader(out)
    course = SteeringFile(out).course(reader.plan)
    instrument = SimulatedInstrument(reader.experiment, course)
    for slot in slots_where(reader.committed()):
        frames, records = reader.raw(slot)
        for k, key in enumerate(reader.plan.frame_keys(slot)):
            if records[k]["status"] == FrameStatus.WRITTEN:
                commanded = reader.plan.foci_um[key.focus] + course.at(slot).focus_um
                assert records[k]["focus_um"] == pytest.approx(commanded, abs=1e-5)
                np.testing.assert_array_equal(frames[k], instrument.frame(key))


# Keeping the focus


def test_focus_is_kept_against_a_drift_that_nothing_reports(tmp_path):
    drift, n = 0.04, 50
    e = experiment(
        px=96,
        sequence={"timepoints": n, "interval_s": 10},
        control={"probe": {"every": 2}, "controllers": [{"use": "keep_focus"}]},
        imperfections={"focus_drift_um_per_timepoint": drift},
    )
    result = run_experiment(e, tmp_path / "run")
    assert result.state is RunState.DONE
    assert verify(tmp_path / "run").ok
    # Only the simulator knows where the plane in focus really lay.
    course = SteeringFile(tmp_path / "run").course(e.plan())
    instrument = SimulatedInstrument(e, course)
    true_um = [instrument.true_focus_um(FrameKey(t, 0, 0, 0)) for t in range(n)]
    assert max(map(abs, true_um)) < 0.15, true_um
    assert course.last.focus_um == pytest.approx(-drift * n, abs=0.3)
    log = actions(tmp_path / "run")
    ordered = [line for line in log if line["outcome"] == "ordered"]
    applied = {line["number"]: line["timepoint"] for line in log if line["outcome"] == "applied"}
    assert len(ordered) == len(course.settings) == len(applied)
    for line, setting in zip(ordered, course.settings, strict=True):
        assert line["by"] == "keep_focus"
        assert {"defocus_um", "explained"} <= line["seen"].keys()
        assert applied[line["number"]] == setting.timepoint
        assert line["target"]["focus_um"] == pytest.approx(setting.focus_um)
    # Probes cost light: told, counted into the dose, and never stored as frames.
    extra = result.report["control"]["extra"]
    assert extra == {"probes": 25, "frames": 100, "light_s": pytest.approx(1.0)}
    assert result.report["light_dose_s"]["position 0"] == pytest.approx(0.01 * n + 1.0)
    assert result.report["planned"] == result.report["written"] == n
    assert "extra frames" in result.text()
    assert "Steering" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_probes_leave_no_trace_in_the_planned_frames(tmp_path):
    """Dry run, with a camera that drops and overflows around probes, paused, stopped and resumed."""
    faults = {"drop_share": 0.05, "overflow_at_frame": [9, 22], "disconnect_at_frame": 37}
    sequence = {"timepoints": 24, "interval_s": 5, "foci_um": [-2.0, 2.0]}
    calm = experiment(sequence=sequence, faults=faults)
    control = {"probe": {"every": 2}, "controllers": [{"use": "keep_focus", "dry_run": True}]}
    probed = experiment(sequence=sequence, faults=faults, control=control)
    assert run_experiment(calm, tmp_path / "calm").error is None
    path = write_experiment(tmp_path / "e.yaml", probed)
    with LiveRun(path, tmp_path / "probed") as run:
        run.wait_for(lambda: run.committed() > 5)
        ask(run, Request.PAUSE)
        run.wait_for(lambda: "paused" in (run.out / "log.jsonl").read_text())
        ask(run, Request.RESUME)
        run.wait_for(lambda: run.committed() > 9)
        ask(run, Request.STOP)
        run.wait()
    result = run_experiment(probed, tmp_path / "probed", resume=True)
    assert result.error is None
    assert verify(tmp_path / "probed").ok
    assert contents(tmp_path / "probed") == contents(tmp_path / "calm")
    assert SteeringFile(tmp_path / "probed").course(probed.plan()).settings == ()
    log = actions(tmp_path / "probed")
    assert {line["outcome"] for line in log} <= {"dry run", "nothing"}
    assert any(line["outcome"] == "dry run" for line in log)
    # A probe that an overflow cut is counted as light all the same.
    extra = result.report["control"]["extra"]
    assert extra["frames"] == 4 * extra["probes"]
    assert extra["probes"] >= 12


# People


def test_a_person_steers_a_run_and_a_resumed_run_goes_on_from_there(tmp_path):
    e = experiment(
        sequence={"timepoints": 30, "interval_s": 0.5, "foci_um": [-2.0, 2.0]},
        paced=True,
        control={"limits": {"refocus_um": 2.0}},
    )
    out = tmp_path / "run"
    path = write_experiment(tmp_path / "e.yaml", e)

    def settings():
        return SteeringFile(out).course(e.plan()).settings

    with LiveRun(path, out) as run:
        run.wait_for(lambda: run.committed() > 1)
        assert "+0.5 µm" in act(out, Refocus(0.5))
        run.wait_for(lambda: len(settings()) == 1)
        # One after the other, faster than timepoints come: none is lost, none done twice.
        act(out, Refocus(0.25))
        act(out, Move(3.25, -6.5))
        act(out, Refocus(0.25))
        run.wait_for(lambda: settings()[-1].focus_um == 1.0)
        with pytest.raises(RunFolderError, match="clamped to \\+2 µm"):
            act(out, Refocus(5.0))
        act(out, SetInterval(0.2))
        run.wait_for(lambda: settings()[-1].interval_s == 0.2)
        ask(run, Request.STOP)
        run.wait()
    assert settings()[-1].stage_um == (3.25, -6.5)
    with pytest.raises(RunFolderError, match="not going on"):
        act(out, Refocus(0.1))
    result = run_experiment(e, out, resume=True)
    assert result.error is None
    assert verify(out).ok
    reader = RunReader(out)
    records = reader.frame_table()["focus_um"]
    assert records[0].ravel().tolist() == [-2.0, 2.0]
    assert records[-1].ravel().tolist() == [-1.0, 3.0]
    times = reader.frame_table()["time_utc"][..., 0].ravel()
    assert np.median(np.diff(times[-10:])) == pytest.approx(0.2, abs=0.15)
    assert [line["by"] for line in actions(out) if line["outcome"] == "ordered"] == ["user"] * 5
    assert_every_frame_can_be_made_again(out)


# Controllers of other people

_STRANGERS = """
import time

class Crashes:
    looks_at = "results"
    seen = {}
    def __init__(self, experiment, settings):
        pass
    def on_result(self, result):
        raise RuntimeError("this controller is broken")

class Hangs(Crashes):
    def on_result(self, result):
        time.sleep(1000)
"""


@pytest.fixture
def strangers(tmp_path, monkeypatch):
    """Somebody's installed package of controllers."""
    site = tmp_path / "site"
    info = site / "strangers-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "strangers.py").write_text(_STRANGERS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[livephase.controllers]\ncrashes = strangers:Crashes\nhangs = strangers:Hangs\n"
    )
    monkeypatch.syspath_prepend(str(site))


def test_controllers_that_crash_or_hang_harm_no_run(tmp_path, strangers):
    e = experiment(
        sequence={"timepoints": 8, "interval_s": 0.4, "foci_um": [-2.0, 2.0]},
        method="tie",
        paced=True,
        control={"controllers": [{"use": "crashes"}, {"use": "hangs"}]},
    )
    result = run_experiment(e, tmp_path / "run")
    assert (result.state, result.error) == (RunState.DONE, None)
    assert verify(tmp_path / "run").ok
    assert result.report["written"] == 16
    assert any("this controller is broken" in why for why in result.report["control"]["failures"])


def test_a_controller_or_setting_that_is_not_there_is_refused_before_anything_moves(tmp_path):
    def refused(control, match, **changes):
        e = experiment(sequence={"timepoints": 2, "interval_s": 1, **changes}, control=control)
        with pytest.raises(ExperimentError, match=match):
            run_experiment(e, tmp_path / "run")

    refused({"controllers": [{"use": "keep_fokus"}]}, "did you mean 'keep_focus'")
    refused({"controllers": [{"use": "keep_focus"}]}, "takes none")
    stop = {"use": "stop_when", "settings": {"condition": "residuel > 3"}}
    refused({"controllers": [stop]}, "did you mean 'residual'")
    stop["settings"] = {"condition": "__import__('os') > 3"}
    refused({"controllers": [stop]}, "can't be read")
    adaptive = {"use": "adaptive_interval", "settings": {"fast_s": 1, "slow_s": 9}}
    refused({"controllers": [adaptive]}, "has none", interval_s=0)
    assert not (tmp_path / "run").exists()


# Intervals and ends


def test_a_division_is_caught_by_shorter_intervals_and_the_specimen_lives_by_true_time(tmp_path):
    fast_s, slow_s, n = 300.0, 1800.0, 16
    e = experiment(
        px=160,
        method="tie",
        sequence={"timepoints": n, "interval_s": slow_s, "foci_um": [-1.5, 1.5]},
        specimen={"kind": "cells", "timepoint_min": slow_s / 60},
        seed=5,
        control={
            "controllers": [
                {"use": "adaptive_interval", "settings": {"fast_s": fast_s, "slow_s": slow_s}}
            ]
        },
    )
    result = run_experiment(e, tmp_path / "run")
    assert result.error is None
    assert verify(tmp_path / "run").ok
    course = SteeringFile(tmp_path / "run").course(e.plan())
    due_s = np.array([course.due_s(t) for t in range(n)])
    # When the simulated cells really round up and divide, by their own lives.
    cells = specimen_for(e.microscope.specimen, seed=5, wavelength_um=0.53)
    minutes = np.arange(0, due_s[-1] / 60, 2)
    rounded = np.array(
        [any(c.roundness > 0.8 for c in cells.census(m / 30, 0, (160, 160), 0.65)) for m in minutes]
    )
    begin = int(np.argmax(rounded))
    end = begin + int(np.argmin([*rounded[begin:], False]))
    window_s = 120 * (end - begin)
    assert window_s > 1800
    within = (due_s >= minutes[begin] * 60) & (due_s <= minutes[end - 1] * 60)
    assert within.sum() >= 2 * window_s / slow_s
    assert np.diff(due_s[within]).max() == fast_s
    assert n < due_s[-1] / fast_s
    assert_every_frame_can_be_made_again(tmp_path / "run")


def test_a_run_stops_when_its_condition_holds(tmp_path):
    e = experiment(
        sequence={"timepoints": 30, "interval_s": 5, "foci_um": [-2.0, 2.0]},
        method="tie",
        faults={"drop_frames": [1, 9]},
        control={
            "controllers": [
                {
                    "use": "stop_when",
                    "settings": {"condition": "missing >= 2 and confluence > 0", "for_results": 2},
                }
            ]
        },
    )
    result = run_experiment(e, tmp_path / "run")
    assert result.state is RunState.STOPPED
    last = [line for line in actions(tmp_path / "run") if line["outcome"] == "done"][-1]
    assert last["proposed"] == {"action": "stop"}
    assert last["seen"]["missing"] == 2.0
    assert 5 < RunReader(tmp_path / "run").committed().sum() < 12


# Small parts


def test_wishes_are_damped_clamped_and_dropped_for_a_reason():
    e = experiment(
        sequence={"timepoints": 2, "interval_s": 10},
        control={"limits": {"refocus_um": 1, "refocus_total_um": 1.5, "interval_least_s": 2}},
    )
    held = Target(4, 10.0, 1.0, (0.0, 0.0))
    entry = ControllerEntry(use="x", damping=0.5, deadband=Deadband(refocus_um=0.1))
    outcome = bounded(Refocus(0.4), held, e, entry)
    assert outcome.target == Target(5, 10.0, 1.2, (0.0, 0.0))
    assert "deadband" in bounded(Refocus(0.05), held, e, entry).why
    assert bounded(Refocus(0.05), held, e, None).target.focus_um == pytest.approx(1.05)
    far = bounded(Refocus(4.0), held, e, entry)
    assert far.target.focus_um == 1.5
    assert "clamped to +0.5 µm" in far.why
    assert bounded(Refocus(1.0), far.target, e, entry).why == "it is at its limit"
    assert bounded(Refocus(-9.0), held, e, None).target.focus_um == 0.0
    assert bounded(SetInterval(0.5), held, e, entry).target.interval_s == 2
    no_interval = experiment(sequence={"timepoints": 2})
    assert "no interval" in bounded(SetInterval(3), held, no_interval, None).why
    for action in (Refocus(0.5), SetInterval(3.0), Move(1.0, -2.0)):
        assert from_dict(as_dict(action)) == action
    with pytest.raises(ValueError, match="number"):
        Refocus(float("nan"))


def test_nothing_that_is_asked_is_lost_or_done_twice():
    with Control.create("lp-test-steering") as control:
        control.unlink()
        asked = [Refocus(0.1 * i) for i in range(60)]
        numbers = [control.ask(action) for action in asked]
        assert not control.is_taken(numbers[0])
        taken = []
        while (action := control.take_action()) is not None:
            taken.append(action)
        assert taken == asked
        assert control.is_taken(numbers[-1])
        assert control.take_action() is None
        for i in range(64):
            control.ask(Move(i, -i))
        with pytest.raises(LivephaseError, match="wait already"):
            control.ask(Refocus(1.0))


def test_conditions_are_read_strictly():
    both = Condition("residual > 5 and missing >= 10")
    assert both.holds({"residual": 6, "missing": 10})
    assert not both.holds({"residual": 6})
    assert Condition("residual > 5 or missing >= 10").holds({"missing": 11})
    assert not Condition("residual < 5").holds({"residual": float("nan")})
    with pytest.raises(ExperimentError, match="mixes"):
        Condition("residual > 5 and missing > 3 or alarm > 1")


def test_keep_focus_does_not_believe_a_probe_without_a_specimen():
    e = experiment(
        sequence={"timepoints": 2, "interval_s": 1},
        control={"probe": {}, "controllers": [{"use": "keep_focus"}]},
    )
    controller = make_controller(e.control.controllers[0], e)
    noise = np.random.default_rng(0).normal(2000, 30, (4, 64, 64)).astype(np.uint16)
    assert controller.on_result(Result(0, 0, probe=Probe(noise, e.control.probe.foci_um))) == []
    assert controller.seen["explained"] < 0.3


# Micro-Manager


def test_lens_and_stage_go_where_they_are_steered_and_no_farther():
    """Its own test devices write into each frame where they stood."""

    def asked(dz, dx, dy):
        return seq_experiment(
            seq_microscope(lens={"limits": [-10, 10]}, stage={"x_limits_um": [0, 150]}),
            timepoints=2,
            foci_um=[z + dz for z in (-2.0, 0.0, 3.0)],
            positions=[{"x_um": 100.0 + dx, "y_um": 50.0 + dy}],
        )

    plain = asked(0, 0, 0)
    slots = list(plain.plan().slot_keys())

    def course(dz, dx, dy):
        return Course(plain.plan(), [Setting(0, 0, 0.0, 0.0, dz, (dx, dy))])

    driver = open_driver(plain)
    try:
        driver.open()
        Witness(plain, driver).burst(slots)
        driver.steer(course(1.5, 10.0, -5.0))
        Witness(asked(1.5, 10.0, -5.0), driver).burst(slots)
        for too_far, match in (((8.0, 0.0, 0.0), "lens"), ((0.0, 60.0, 0.0), "stage's limits")):
            with pytest.raises(DriverError, match=match):
                driver.steer(course(*too_far))
            Witness(asked(1.5, 10.0, -5.0), driver).burst(slots)
        # A probe's own foci are moved as well; the plan is as it was after it.
        probe = FocusProbe(foci_um=(-3.0, -1.0, 1.0, 3.0), channel="c1")
        probing = probe_experiment(plain, probe)
        driver.reprogram(probing)
        moved = asked(1.5, 10.0, -5.0)
        moved_probe = probe.model_copy(update={"foci_um": tuple(z + 1.5 for z in probe.foci_um)})
        Witness(probe_experiment(moved, moved_probe), driver).burst(slots[1:])
        driver.reprogram(plain)
        Witness(moved, driver).burst(slots)
    finally:
        driver.close()


def test_a_recording_is_not_steered():
    plan = experiment(sequence={"timepoints": 2}).plan()
    still = Course(plan, [Setting(0, 0, 0.0, 2.0)])
    moved = Course(plan, [Setting(0, 0, 0.0, 2.0, 0.5)])
    ReplayDriver.steer(object.__new__(ReplayDriver), still)
    with pytest.raises(DriverError, match="recording"):
        ReplayDriver.steer(object.__new__(ReplayDriver), moved)
