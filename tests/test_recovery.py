"""A run goes on when devices fail, and every frame's fate is the one that the fault plan foretells.

`pytest -m soak tests/test_recovery.py` does the whole three-hour timelapse, as a run of its own.
"""

from collections import Counter
from itertools import accumulate

import numpy as np
import pytest
from acquisition import Acquired
from conftest import merged
from lamp_log import assert_dark_between_timepoints, under_the_lamp
from live_runs import LiveRun, ask, livephase, report, write_experiment

from drivers.simulator.faults import FaultPlan
from pipeline.control import Request
from pipeline.errors import DriverError
from pipeline.experiment import Recovery
from pipeline.frames import FrameStatus, MissingReason, SlotKey
from pipeline.stages.recovery import Outage, Tries
from pipeline.store.reader import RunReader
from pipeline.store.verify import verify

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def timelapse(make_experiment, lamp):
    """Two places, two foci, every ten seconds, computed as fast as it can be."""

    def make(**changes):
        base = {
            "microscope": under_the_lamp(lamp, paced=False),
            "illumination": {"channels": {"green": {"exposure_ms": 10.0, "brightness": 0.5}}},
            "sequence": {
                "timepoints": 10,
                "interval_s": 10.0,
                "foci_um": [-3.0, 3.0],
                "channels": ["green"],
                "positions": [{"name": "a"}, {"name": "b", "x_um": 50.0, "y_um": 0.0}],
            },
            "reconstruction": {"method": "none"},
        }
        return make_experiment(**merged(base, changes))

    return make


FAULTS = {
    "drop_share": 0.02,
    "stuck_share": 0.12,
    "disconnect_share": 0.05,
    "away_tries": 6,
    "slow_lens_ms": 0.2,
}


class Foretold:
    """What becomes of every frame, by the rules of `recovery`, told apart from the code that follows them."""

    def __init__(self, experiment):
        self.plan = experiment.plan()
        self.recovery = experiment.recovery
        self.faults = FaultPlan(experiment.microscope, self.plan)
        shape = (self.plan.timepoints, len(self.plan.positions), self.plan.frames_per_slot)
        self.fate = np.full(shape, -1)  # 0: written; else the reason
        self.taken_again = 0
        self.exposures = np.zeros(shape[1], int)
        self._tries = Counter()
        self._outage = None  # [waits so far, when it began]
        self._empty = 0
        self._now = 0.0
        away = (0.0, 0.0)
        for t in range(self.plan.timepoints):
            due = t * self.plan.interval_s
            if away[0] <= due < away[1] - self.plan.interval_s:
                self.fate[t] = MissingReason.DISCONNECTED
                continue
            self._now = max(self._now, due)
            away = self._timepoint(t) or away
        assert (self.fate >= 0).all()

    def _timepoint(self, t):
        began, away = self._now, None
        slots = [SlotKey(t, p) for p in range(len(self.plan.positions))]
        stuck = 0
        while slots:
            slot, n = slots[0], self._tries[slots[0]]
            ends = [
                (at, kind)
                for kind, at in enumerate(
                    (self.faults.goes_away_at(slot, n), self.faults.stuck_at(slot, n))
                )
                if at is not None
            ]
            if not ends:
                self._store(slot, self.plan.frames_per_slot, None)
                slots, stuck = slots[1:], 0
                continue
            at, is_stuck = min(ends)
            self._tries[slot] += 1
            if is_stuck:
                stuck += 1
                if stuck < self.recovery.slot_tries:
                    self._again(slot, at)
                    continue
                any_frame = self._store(slot, at, MissingReason.TIMEOUT)
                slots, stuck = slots[1:], 0
                self._empty = 0 if any_frame else self._empty + 1
                if self._empty >= 3:
                    away = self._opened_again(0)
                continue
            away = self._opened_again(self.faults.away_for(slot, n))
            if self._now - began > self.plan.interval_s:
                self._store(slot, at, MissingReason.DISCONNECTED)
                self.exposures[slot.position] += 1  # the one that was waited for may have been lit
                for other in slots[1:]:
                    self.fate[other] = MissingReason.DISCONNECTED
                return away
            self._again(slot, at)
        return away

    def _opened_again(self, in_vain):
        if self._outage is None:
            self._outage = [0, self._now]
        waits = [min(2.0**n, 30.0) for n in range(50)][self._outage[0] :][: in_vain + 1]
        self._outage[0] += len(waits)
        self._now = [*accumulate(waits, initial=self._now)][-1]
        assert self._now - self._outage[1] < self.recovery.reconnect_s
        return (self._outage[1], self._now)

    def _store(self, slot, came, reason):
        """The frames before `came` came, or were lost on their way; the others are missing for `reason`."""
        for n, key in enumerate(self.plan.frame_keys(slot)):
            lost = self.faults.lost(key) if n < came else reason
            self.fate[(*slot, self.plan.index(key))] = lost or 0
            lit = lost not in (MissingReason.DISCONNECTED, MissingReason.DOSE)
            self.exposures[slot.position] += lit
        written = bool((self.fate[slot] == 0).any())
        if written:
            self._outage, self._empty = None, 0
        return written

    def _again(self, slot, came):
        keys = list(self.plan.frame_keys(slot))
        self.taken_again += sum(self.faults.lost(key) is None for key in keys[:came])
        self.exposures[slot.position] += came + 1  # the one that was waited for may have been lit

    @property
    def light_s(self):
        """``[positions]``."""
        return self.exposures * 0.010 * 0.5


def assert_as_foretold(frames, foretold, lamp):
    """`frames` ``[T, P, K]`` of `FRAME_RECORD`."""
    assert (frames["status"] != FrameStatus.PENDING).all()
    found = np.where(frames["status"] == FrameStatus.WRITTEN, 0, frames["reason"])
    np.testing.assert_array_equal(found, foretold.fate)
    # Between timepoints, and while devices were away, it was dark.
    missing = {t for t in range(len(found)) if not (found[t] == 0).any()}
    assert_dark_between_timepoints(frames["time_monotonic"], lamp, most=1, without=missing)


def test_a_timelapse_with_failing_devices_goes_on_as_foretold(tmp_path, lamp, timelapse):
    experiment = timelapse(
        microscope={"faults": FAULTS | {"overflow_at_frame": [42, 155, 301]}},
        sequence={"timepoints": 150},
    )
    foretold = Foretold(experiment)
    with Acquired(experiment, tmp_path / "run") as run:
        run.run()
        assert_as_foretold(run.records, foretold, lamp)
        assert run.reacquired == foretold.taken_again > 0
        np.testing.assert_allclose(run.dose.spent_s, foretold.light_s, atol=1e-6)
    reasons = {MissingReason(r) for r in np.unique(foretold.fate[foretold.fate > 0])}
    assert reasons == {
        MissingReason.DROPPED,
        MissingReason.OVERFLOW,
        MissingReason.TIMEOUT,
        MissingReason.DISCONNECTED,
    }
    assert any("trying to get it back" in text for text in run.messages)
    assert any("the devices are back after" in text for text in run.messages)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_soak_a_three_hour_timelapse_with_failing_devices(tmp_path, lamp, timelapse):
    experiment = timelapse(
        microscope={"faults": FAULTS | {"overflow_at_frame": list(range(42, 4000, 303))}},
        sequence={"timepoints": 1080},
    )
    foretold = Foretold(experiment)
    assert Counter(foretold.fate.ravel().tolist())[0] > 0.7 * foretold.fate.size
    path, out = write_experiment(tmp_path / "e.yaml", experiment), tmp_path / "run"
    status, _, errors = livephase("run", path, "--out", out, timeout=900)
    assert status == 0, errors
    assert verify(out).ok
    assert_as_foretold(RunReader(out).raw_records.last("frames"), foretold, lamp)
    figures = report(out)
    reasons = Counter(foretold.fate[foretold.fate > 0].tolist())
    assert figures["missing_by_reason"] == {
        MissingReason(r).name.lower(): n for r, n in reasons.items()
    }
    assert figures["planned"] == figures["written"] + figures["missing"] == foretold.fate.size
    assert figures["reacquired"] == foretold.taken_again
    doses = list(figures["light_dose_s"].values())
    assert doses == pytest.approx(foretold.light_s.tolist(), abs=1e-5)


def test_devices_that_stay_away_fail_the_run_and_resume_goes_on(tmp_path, lamp, timelapse):
    # In the run's first slot the simulated camera goes away each time that it is opened.
    experiment = timelapse(
        microscope={"faults": {"disconnect_at_frame": 1}},
        sequence={"timepoints": 3},
        recovery={"reconnect_s": 5},
    )
    path, out = write_experiment(tmp_path / "e.yaml", experiment), tmp_path / "run"
    status, _, errors = livephase("run", path, "--out", out)
    assert status == 5
    assert errors.count("trying to get it back for 5 s") == 1
    assert "went away before frame 1" in errors
    assert not lamp.is_on()
    found = verify(out)
    assert (found.ok, found.state, found.written, found.pending) == (True, "failed", 0, 12)


def test_orders_are_obeyed_while_devices_are_away(tmp_path, lamp, timelapse):
    experiment = timelapse(
        microscope={
            "paced": True,
            "faults": {"disconnect_share": 0.3, "away_tries": 1000},
        },
        sequence={"timepoints": 200, "interval_s": 0.05, "positions": [{"name": "a"}]},
    )
    path, out = write_experiment(tmp_path / "e.yaml", experiment), tmp_path / "run"
    with LiveRun(path, out) as run:
        run.wait_for(lambda: "trying to get it back" in run.errors())
        assert lamp.dark_after(0.0) >= 0
        ask(run, Request.PAUSE)
        run.wait_for(lambda: "paused: " in run.errors())
        ask(run, Request.RESUME)
        run.wait_for(lambda: run.errors().rstrip().split("\n")[-1].startswith("running"))
        ask(run, Request.STOP)
        assert run.wait() == 0, run.errors()
    assert not lamp.is_on()
    assert verify(out).ok
    assert verify(out).state == "stopped"


def test_an_outage_has_a_limit_and_longer_and_longer_waits():
    error = DriverError("gone", "plug it in")
    outage = Outage(Recovery(reconnect_s=40), began=100.0)
    now, waits = 100.0, []
    while now < 140:
        waits.append(outage.next_wait(now, error))
        now += waits[-1]
    with pytest.raises(DriverError, match="gone"):
        outage.next_wait(now, error)
    assert waits == [1, 2, 4, 8, 16, 9]
    outage.hold(5.0)  # paused meanwhile
    assert outage.next_wait(now, error) == 5
    assert outage.lasted_s(now) == 35


def test_a_slot_has_its_tries_and_a_camera_that_gives_nothing_is_gone():
    tries = Tries(Recovery(slot_tries=3))
    a, b = SlotKey(0, 0), SlotKey(1, 0)
    assert [tries.another_failed(a) for _ in range(3)] == [True, True, False]
    assert tries.given_up(any_frame=False)
    assert [tries.another_failed(b) for _ in range(3)] == [True, True, False]
    assert tries.given_up(any_frame=False)
    assert not tries.given_up(any_frame=False)
    tries.worked()
    assert tries.given_up(any_frame=False)
