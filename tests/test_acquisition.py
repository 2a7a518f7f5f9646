"""The acquire stage's loop by itself: when it is dark, and that every frame is handed over once."""

import threading
import time

import pytest
from acquisition import Acquired
from conftest import merged
from lamp_log import assert_dark_between_timepoints, under_the_lamp

import pipeline.stages.acquisition
from drivers.simulator.lamp import Lamp
from pipeline.frames import FrameStatus


@pytest.fixture
def experiment(make_experiment, lamp):
    """Tiny frames at 200 a second."""

    def make(**changes):
        base = {
            "microscope": under_the_lamp(lamp, frame_rate_hz=200),
            "illumination": {"channels": {"green": {"exposure_ms": 5.0}}},
            "sequence": {"timepoints": 8, "foci_um": [-3.0, 3.0], "channels": ["green"]},
            "reconstruction": {"method": "none"},
        }
        return make_experiment(**merged(base, changes))

    return make


def times_of(run):
    return run.records["time_monotonic"]


def test_it_is_dark_between_slow_timepoints(tmp_path, experiment, lamp):
    with Acquired(experiment(sequence={"interval_s": 0.1}), tmp_path / "run") as run:
        run.run()
        assert_dark_between_timepoints(times_of(run), lamp, most=1)
        on_s = sum(until - since for since, until in lamp.intervals())
        assert 8 * 0.01 <= on_s < 8 * 0.08
        assert run.light_on_s == pytest.approx(on_s, abs=0.02)
    assert not run.mark.is_set()


def test_a_light_may_stay_on_for_the_next_timepoint_if_that_is_soon(tmp_path, experiment, lamp):
    slow = experiment(sequence={"interval_s": 0.1}, safety={"dark_after_s": 0.5})
    with Acquired(slow, tmp_path / "run") as run:
        run.run()
        assert len(lamp.intervals()) == 1
        assert_dark_between_timepoints(times_of(run), lamp, most=8)


def test_a_session_begins_by_putting_out_what_others_left_on(tmp_path, experiment, lamp):
    Lamp(lamp.path).switch(True)
    with Acquired(experiment(sequence={"interval_s": 0.05}), tmp_path / "run") as run:
        run.run()
        left_on, *lit = lamp.intervals()
        assert left_on[1] < times_of(run).min() - 0.005
        assert len(lit) == 8


def test_storage_that_hangs_does_not_keep_the_light_on(tmp_path, experiment, lamp, monkeypatch):
    monkeypatch.setattr(pipeline.stages.acquisition, "_FULL_RING_S", 0.2)
    with Acquired(experiment(), tmp_path / "run", slots=3) as run:
        dark_s = []

        def recorder_that_hangs():
            while run.ring.head < 3:
                time.sleep(0.01)
            full = time.monotonic()
            time.sleep(0.01)
            assert lamp.is_on()  # a moment of a full ring is nothing
            dark_s.append(lamp.dark_after(full))
            time.sleep(0.3)
            assert not lamp.is_on()
            while run.ring.tail < run.plan.slots:
                run.record()
                time.sleep(0.01)

        hangs = threading.Thread(target=recorder_that_hangs)
        hangs.start()
        run.run()
        hangs.join()
        assert (run.records["status"] == FrameStatus.WRITTEN).all()
        assert 0.2 < dark_s[0] < 0.6
        assert any("storage has taken nothing" in text for text in run.messages)
        assert len(lamp.intervals()) == 2
        # What waited for its room in vain was exposed again, and that light is counted.
        assert run.unstored.by_position(1)[0] == pytest.approx(0.005)
        assert run.dose.spent_s[0] == pytest.approx(17 * 0.005)
