"""The light that each position has: planned, limited, counted through crashes, reported."""

import json

import numpy as np
import psutil
import pytest
from acquisition import Acquired
from conftest import merged
from lamp_log import under_the_lamp
from live_runs import LiveRun, livephase, report, write_experiment

from pipeline.errors import ExperimentError
from pipeline.frames import FrameStatus, MissingReason, SlotKey, empty_records
from pipeline.lifecycle.preflight import check_dose
from pipeline.stages.dose import (
    DoseMeter,
    UnstoredLight,
    exposed,
    frame_light_s,
    planned_light_s,
    stored_light_s,
)
from pipeline.store.verify import verify

pytestmark = pytest.mark.timeout(300)

# Of a slot: 3 foci of green at 20 ms, half brightness; 3 of red at 5 ms, full.
SLOT_S = 3 * 0.020 * 0.5 + 3 * 0.005


@pytest.fixture
def two_places(make_experiment, lamp):
    def make(**changes):
        base = {
            "microscope": under_the_lamp(lamp, paced=False),
            "illumination": {
                "channels": {
                    "green": {"exposure_ms": 20.0, "brightness": 0.5},
                    "red": {"exposure_ms": 5.0},
                }
            },
            "sequence": {
                "timepoints": 20,
                "foci_um": [-3.0, 0.0, 3.0],
                "channels": ["green", "red"],
                "positions": [{"name": "a"}, {"name": "b", "x_um": 50.0, "y_um": 0.0}],
            },
            "reconstruction": {"method": "none"},
            "output": {"shard_s": 0.2},
        }
        return make_experiment(**merged(base, changes))

    return make


def test_the_light_of_a_frame_is_its_exposure_times_its_brightness(two_places):
    plan = two_places().plan()
    np.testing.assert_allclose(frame_light_s(plan), [0.01] * 3 + [0.005] * 3)
    assert planned_light_s(plan) == pytest.approx(20 * SLOT_S)


def test_frames_that_were_lit_count_also_if_they_were_lost():
    records = empty_records(1 + len(MissingReason))
    records["status"][1:] = FrameStatus.MISSING
    records["status"][1] = FrameStatus.WRITTEN
    records["reason"][1:] = list(MissingReason)
    lit = {MissingReason(r) for r in records["reason"][1:][exposed(records)[1:]]}
    assert not exposed(records)[0]
    assert lit == {
        MissingReason.NONE,
        MissingReason.DROPPED,
        MissingReason.OVERFLOW,
        MissingReason.TIMEOUT,
    }


def test_a_position_that_has_had_its_light_gets_no_more_and_the_others_go_on(two_places):
    plan = two_places().plan()
    meter = DoseMeter(plan, 4 * SLOT_S, [SLOT_S, 0.0])
    slots = list(plan.slot_keys())[:10]
    assert meter.too_much(slots) == [SlotKey(3, 0), SlotKey(4, 0), SlotKey(4, 1)]
    lit = np.zeros(6, bool)
    lit[0] = True
    assert meter.spend(SlotKey(0, 1), lit) == pytest.approx(0.01)
    assert meter.too_much(slots) == [SlotKey(3, 0), SlotKey(3, 1), SlotKey(4, 0), SlotKey(4, 1)]
    assert DoseMeter(plan, None).too_much(slots) == []


def test_what_was_planned_is_never_too_much(two_places):
    """Though sums of exposures are floating-point numbers."""
    plan = two_places().plan()
    meter = DoseMeter(plan, planned_light_s(plan))
    everything = np.ones(6, bool)
    for slot in plan.slot_keys():
        assert meter.too_much([slot]) == []
        meter.spend(slot, everything)
    assert meter.too_much([SlotKey(0, 0)]) == [SlotKey(0, 0)]


def test_unstored_light_is_summed_by_position_and_a_torn_line_is_passed_over(tmp_path):
    light = UnstoredLight(tmp_path)
    assert light.by_position(2).tolist() == [0, 0]
    light.add([SlotKey(0, 1)], 0.5, "timed out")
    light.add([SlotKey(3, 1)], 0.25, "timed out")
    with light.path.open("a") as file:
        file.write('\n{"timepoint": 4, "posi')
    assert light.by_position(2).tolist() == [0, 0.75]
    light.add([SlotKey(4, 0), SlotKey(5, 0)], 0.5, "lost in a crash")
    assert light.by_position(2).tolist() == [1.0, 0.75]


def test_a_plan_beyond_the_limit_is_refused_with_what_would_fit(two_places, tmp_path, cli):
    assert check_dose(two_places(safety={"dose_limit_s": 20 * SLOT_S})) == pytest.approx(0.9)
    with pytest.raises(ExperimentError, match=r"0\.9 s of light") as caught:
        check_dose(two_places(safety={"dose_limit_s": 0.5}))
    assert "timepoints to 11" in caught.value.fix
    with pytest.raises(ExperimentError) as caught:
        check_dose(two_places(safety={"dose_limit_s": 0.01}))
    assert "exposure_ms or brightness" in caught.value.fix
    for dry in ([], ["--dry-run"]):
        path = write_experiment(tmp_path / "e.yaml", two_places(safety={"dose_limit_s": 0.5}))
        status, _, errors = cli("run", path, "--out", tmp_path / "run", *dry)
        assert status == 2
        assert "dose_limit_s" in errors
        assert not (tmp_path / "run").exists()
    path = write_experiment(tmp_path / "e.yaml", two_places())
    status, out, _ = cli("run", path, "--out", tmp_path / "run", "--dry-run")
    assert status == 0
    assert "light:     0.9 s of full brightness on each position" in out


def test_retakes_use_up_the_light_of_their_position_alone(tmp_path, lamp, two_places):
    # The camera is often stuck at both places; nearly no light is left for that.
    experiment = two_places(
        microscope={"faults": {"stuck_share": 0.2}}, safety={"dose_limit_s": 20 * SLOT_S + 0.02}
    )
    with Acquired(experiment, tmp_path / "run") as run:
        run.run()
        frames, doses = run.records, run.dose.spent_s
        again = run.unstored.by_position(2)
        assert any("gets no more than" in text for text in run.messages)
        on_s = sum(until - since for since, until in lamp.intervals())
        assert run.light_on_s == pytest.approx(on_s, abs=0.02)
    assert (frames["status"] != FrameStatus.PENDING).all()
    assert max(doses) <= 20 * SLOT_S + 0.02 + 1e-6
    spared = (frames["reason"] == MissingReason.DOSE).all(axis=2)
    assert 0 < spared.sum() == (frames["reason"] == MissingReason.DOSE).sum() / 6
    for position in range(2):
        # The last timepoints, all of them, once the light was used up.
        assert np.all(np.diff(spared[:, position].astype(int)) >= 0)
    # Each position's sum, from what a ledger will hold and from what was taken again.
    np.testing.assert_allclose(doses, stored_light_s(experiment.plan(), frames) + again, atol=1e-9)
    assert again.max() > 0


@pytest.mark.skipif("sys.platform == 'win32'", reason="kills processes the POSIX way")
def test_light_that_crashes_have_taken_is_counted_and_reported(tmp_path, lamp, two_places):
    """First acquisition is killed, then everything; a frame that was exposed is counted, stored or not."""
    experiment = two_places(
        microscope={"paced": True, "camera": {"frame_rate_hz": 100}}, sequence={"timepoints": 25}
    )
    path, out = write_experiment(tmp_path / "e.yaml", experiment), tmp_path / "run"
    for everybody in (False, True):
        with LiveRun(path, out, "--resume") as run:
            before = run.committed()
            run.wait_for(lambda run=run, before=before: run.committed() > before + 6)
            if everybody:
                supervisor = psutil.Process(run.process.pid)
                for process in [*supervisor.children(recursive=True), supervisor]:
                    process.kill()
            else:
                run.kill_stage("acquire")
            run.wait()
    status, _, errors = livephase("run", path, "--out", out, "--resume")
    assert status == 0, errors
    assert verify(out).ok
    figures = report(out)
    assert figures["missing"] == 0
    text = UnstoredLight(out).path.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line]
    # What the camera delivered and nobody has, or more: a torn slot counts as a whole.
    assert {line["why"] for line in lines} == {"lost in a crash"}
    assert len(lines) * 6 >= figures["reacquired"] >= 6 * (len(lines) - 2)
    assert len(lines) >= 2
    assert list(figures["light_dose_s"]) == ["a", "b"]
    assert sum(figures["light_dose_s"].values()) == pytest.approx(
        2 * 25 * SLOT_S + len(lines) * SLOT_S, abs=1e-4
    )
    on_s = sum(until - since for since, until in lamp.intervals())
    assert figures["light_on_s"] == pytest.approx(on_s, abs=0.3)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "dose at a, seconds of full brightness" in page
