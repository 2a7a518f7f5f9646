"""The micromanager driver on a core that fails on request: labels, gaps, overflows, time-outs, light."""

import threading
import time

import numpy as np
import pytest
from micromanager_devices import seq_experiment, seq_microscope
from scripted_core import SHAPE, ScriptedCore

import drivers.micromanager.driver as driver_module
from drivers.driver import Arrived, CameraTimeoutError, DeviceDisconnectedError, Lost
from drivers.micromanager.driver import MicroManagerDriver
from pipeline.errors import DriverError
from pipeline.frames import FrameKey, MissingReason

PATIENCE = {"first_frame_s": 0.2, "frame_s": 0.1, "device_s": 0.2, "tries": 3}


def experiment(*, channels=4, exposures_ms=None, dark=(), microscope=None, **sequence):
    own = seq_microscope(channels=channels, **(microscope or {}))
    own["camera"] = {**own["camera"], "shape_px": list(SHAPE)}
    own.setdefault("patience", PATIENCE)
    return seq_experiment(own, exposures_ms=exposures_ms or [1.0] * channels, dark=dark, **sequence)


@pytest.fixture
def opened(monkeypatch):
    """A driver that is open on a scripted core."""

    def make(plan, core=None):
        core = core or ScriptedCore()
        monkeypatch.setattr(driver_module, "connect", lambda microscope, only=None: core)
        monkeypatch.setattr(driver_module, "disconnect", lambda core, microscope: None)
        driver = MicroManagerDriver(plan)
        driver.open()
        return driver, core

    return make


class Taker:
    """Takes a burst and holds each frame against what its key asks for."""

    def __init__(self, driver, plan):
        self.driver, self.experiment, self.plan = driver, plan, plan.plan()
        self.buffer = np.zeros(SHAPE, np.uint8)
        self.events = []

    def destination(self, key):
        self.buffer[:] = 255
        return self.buffer

    def next(self):
        event = self.driver.next_frame(self.destination)
        if event is not None:
            self.events.append(event)
        if isinstance(event, Arrived):
            light, lens = self.experiment.microscope.light, self.experiment.microscope.lens
            channel = self.plan.channels[event.key.channel]
            dark = channel.brightness == 0
            led, z, _, exposure = self.buffer[0]
            assert led == int(light.off if dark else light.values[channel.name]), event.key
            assert z == round(10 * lens.position(event.focus_um)) % 256, event.key
            assert exposure == channel.exposure_ms, event.key
            assert event.focus_um == self.plan.foci_um[event.key.focus]
        return event

    def rest(self):
        while self.next() is not None:
            pass
        return self.events

    @property
    def keys(self):
        return [k for e in self.events for k in ((e.key,) if isinstance(e, Arrived) else e.keys)]


def slots_of(plan):
    return list(plan.plan().slot_keys())


def keys_of(plan, slots=None):
    own = plan.plan()
    return [k for slot in slots or own.slot_keys() for k in own.frame_keys(slot)]


def test_a_burst_spans_slots_with_each_device_loaded_once(opened):
    plan = experiment(timepoints=5, foci_um=[-1, 1], frame_order="zc")
    driver, core = opened(plan)
    driver.arm(slots_of(plan))
    taker = Taker(driver, plan)
    events = taker.rest()
    assert [e.key for e in events] == keys_of(plan)
    assert core.bursts == [40]
    # Each its own shortest period: the LED's is half the lens's.
    assert core.called("load_property_sequence") == [("LED", "State", ["1", "2", "3", "4"])]
    assert core.called("load_stage_sequence") == [("Lens", [-1.0] * 4 + [1.0] * 4)]
    # Who arms the bursts knows when the next one comes, and puts the light out until then.
    assert core.led.value == "4"
    assert core.led.step is None
    driver.light_off()
    assert core.led.value == "0"


@pytest.mark.parametrize("phase", [-1, 0, 1])
def test_phase_is_made_up_for(opened, phase):
    plan = experiment(
        timepoints=3,
        foci_um=[-1, 0, 1],
        microscope={"light": {"phase": phase}, "lens": {"phase": phase}},
    )
    driver, core = opened(plan, ScriptedCore(phase=phase))
    driver.arm(slots_of(plan))
    taker = Taker(driver, plan)
    assert [e.key for e in taker.rest()] == keys_of(plan)
    assert core.bursts == [36]


def test_an_unknown_phase_is_seen_by_these_tests(opened):
    plan = experiment(timepoints=1)
    driver, _ = opened(plan, ScriptedCore(phase=1))
    driver.arm(slots_of(plan))
    with pytest.raises(AssertionError):
        Taker(driver, plan).rest()


def test_a_gap_is_lost_to_the_frame(opened):
    plan = experiment(timepoints=3)
    driver, core = opened(plan)
    core.lose = {1, 5, 6, 11}
    driver.arm(slots_of(plan))
    taker = Taker(driver, plan)
    events = taker.rest()
    keys = keys_of(plan)
    assert taker.keys == keys
    lost = [e for e in events if isinstance(e, Lost)]
    assert [e.keys for e in lost] == [(keys[1],), (keys[5], keys[6]), (keys[11],)]
    assert {e.reason for e in lost} == {MissingReason.DROPPED}
    assert [e.image_number for e in events if isinstance(e, Arrived)] == [0, 2, 3, 4, 7, 8, 9, 10]


def test_an_overflow_loses_the_rest_of_its_slot_and_ends_the_burst(opened):
    plan = experiment(timepoints=4)
    driver, core = opened(plan)
    core.overflow_at, core.ahead = 5, 9
    driver.arm(slots_of(plan))
    taker = Taker(driver, plan)
    taker.rest()
    assert taker.keys == keys_of(plan)[:8]
    assert taker.events[-1] == Lost(tuple(keys_of(plan)[5:8]), MissingReason.OVERFLOW)
    assert "overflowed" in " ".join(driver.messages())
    assert core.led.step is None
    core.overflow_at = None
    driver.arm(slots_of(plan)[2:])
    taker.rest()
    assert taker.keys == keys_of(plan)


def test_a_frame_that_the_camera_may_have_written_over_is_lost(opened):
    """A full core frees a frame's place before it is copied: a later frame's pixels under its number."""
    plan = experiment(timepoints=6)
    driver, core = opened(plan)
    core.ahead = core.get_buffer_total_capacity()
    driver.arm(slots_of(plan))
    taker = Taker(driver, plan)
    events = taker.rest()
    assert taker.keys == keys_of(plan)
    # While the camera runs the buffer is full after each pop; once it has made its last frame it is not.
    arrived = [e.image_number for e in events if isinstance(e, Arrived)]
    assert arrived == list(range(24 - core.ahead, 24))
    assert {e.reason for e in events if isinstance(e, Lost)} == {MissingReason.DROPPED}
    assert "overwritten" in " ".join(driver.messages())


def test_an_overflow_in_a_part_of_a_slot_loses_the_parts_behind_it(opened):
    plan = experiment(timepoints=2, microscope={"led_holds": 2})
    driver, core = opened(plan, ScriptedCore(led_most=2))
    driver.arm(slots_of(plan))
    core.overflow_at = 1
    taker = Taker(driver, plan)
    taker.rest()
    assert taker.events[-1] == Lost(tuple(keys_of(plan)[1:4]), MissingReason.OVERFLOW)


def test_a_camera_that_stops_by_itself_loses_its_slot(opened):
    plan = experiment(timepoints=2)
    driver, core = opened(plan)
    core.stop_at = 2
    driver.arm(slots_of(plan))
    taker = Taker(driver, plan)
    taker.rest()
    assert taker.events[-1] == Lost(tuple(keys_of(plan)[2:4]), MissingReason.DROPPED)
    assert "stopped by itself after 2 of 8" in " ".join(driver.messages())
    core.stop_at = 0
    driver.arm(slots_of(plan))
    with pytest.raises(CameraTimeoutError, match="stopped before the first frame"):
        taker.next()


@pytest.mark.parametrize(("stall_at", "name"), [(0, "first_frame_s"), (3, "frame_s")])
def test_a_camera_that_stalls_is_given_up_in_the_dark(opened, stall_at, name):
    plan = experiment(timepoints=2)
    driver, core = opened(plan)
    core.stall_at = stall_at
    driver.arm(slots_of(plan))
    taker = Taker(driver, plan)
    began = time.monotonic()
    with pytest.raises(CameraTimeoutError, match=name):
        taker.rest()
    assert PATIENCE[name] <= time.monotonic() - began < PATIENCE[name] + 0.5
    assert len(taker.events) == stall_at
    assert not core.running
    assert core.led.step is None
    assert core.led.value == "0"
    assert core.lens.value == -7.0
    assert driver.next_frame(taker.destination) is None


@pytest.mark.parametrize(
    "call",
    [
        "set_position",
        "load_property_sequence",
        "load_stage_sequence",
        "start_property_sequence",
        "start_stage_sequence",
        "set_exposure",
        "start_sequence_acquisition",
    ],
)
def test_refused_calls_are_made_again(opened, call):
    plan = experiment(timepoints=2, foci_um=[0, 1])
    driver, core = opened(plan)
    driver.messages()
    core.refuse[call] = 2
    driver.arm(slots_of(plan))
    taker = Taker(driver, plan)
    assert [e.key for e in taker.rest()] == keys_of(plan)
    assert "at try 3" in " ".join(driver.messages())
    core.refuse[call] = 3
    with pytest.raises(DeviceDisconnectedError, match=f"{call} refused"):
        driver.arm(slots_of(plan))
    assert core.led.value == "0"


@pytest.mark.parametrize("phase", [-1, 0, 1])
def test_a_camera_that_started_at_half_does_not_shift_the_light(opened, phase):
    light = {"light": {"phase": phase}, "lens": {"phase": phase}}
    plan = experiment(timepoints=2, foci_um=[0, 1], microscope=light)
    driver, core = opened(plan, ScriptedCore(phase=phase))
    real, failures = core.start_sequence_acquisition, [1, 1]

    def start(*arguments):
        real(*arguments)
        if failures:
            failures.pop()
            core.ahead = 3
            core.get_remaining_image_count()  # three exposures, three triggers
            raise RuntimeError("no answer")

    object.__setattr__(core, "start_sequence_acquisition", start)
    driver.arm(slots_of(plan))
    assert [e.key for e in Taker(driver, plan).rest()] == keys_of(plan)


def test_numbers_that_go_on_from_burst_to_burst_are_refused(opened):
    plan = experiment(timepoints=9)
    driver, core = opened(plan)
    driver.arm(slots_of(plan)[:2])
    Taker(driver, plan).rest()
    driver.arm(slots_of(plan)[2:])
    core.get_remaining_image_count()
    core.waiting[0] = ("8", core.waiting[0][1])
    with pytest.raises(DriverError, match="on from the burst before"):
        Taker(driver, plan).next()


def test_a_light_that_was_left_on_is_out_when_the_microscope_is_open(opened):
    core = ScriptedCore()
    core.led.value = "3"
    opened(experiment(), core)
    assert core.led.value == "0"


def test_a_refusal_from_the_first_is_not_a_device_that_went_away(opened):
    plan = experiment(foci_um=[0, 1])
    driver, core = opened(plan)
    core.refuse["set_position"] = 3
    with pytest.raises(DriverError, match="'Lens' did not take") as caught:
        driver.arm(slots_of(plan))
    assert not isinstance(caught.value, DeviceDisconnectedError)


def test_devices_that_went_away_in_a_burst(opened):
    plan = experiment(timepoints=2)
    driver, core = opened(plan)
    driver.arm(slots_of(plan))
    taker = Taker(driver, plan)
    taker.next()
    core.gone = True
    with pytest.raises(DeviceDisconnectedError, match="Serial command failed"):
        taker.next()
    # The light could not be put out, which must not be kept quiet.
    assert "the light is not safe" in " ".join(driver.messages())
    with pytest.raises(DriverError, match="switch the light off by hand"):
        driver.light_off()
    driver.close()
    driver.close()


@pytest.mark.parametrize("number", ["0", "8", "-1"])
def test_a_number_that_can_not_be_is_refused(opened, number):
    plan = experiment(timepoints=2)
    driver, core = opened(plan)
    driver.arm(slots_of(plan))
    taker = Taker(driver, plan)
    taker.next()
    core.get_remaining_image_count()
    core.waiting[0] = (number, core.waiting[0][1])
    with pytest.raises(DriverError, match="numbered a frame"):
        taker.next()


@pytest.mark.parametrize(
    "error", [IndexError("Circular buffer is empty."), RuntimeError("Circular buffer is empty.")]
)
def test_a_buffer_emptied_between_look_and_pop(opened, error):
    plan = experiment(timepoints=1)
    driver, core = opened(plan)
    driver.arm(slots_of(plan))
    real, looked = core.pop_next_tagged_image, []

    def pop():
        looked.append(1)
        if len(looked) == 2:
            raise error
        return real()

    object.__setattr__(core, "pop_next_tagged_image", pop)
    assert len(Taker(driver, plan).rest()) == 4


@pytest.mark.parametrize(
    ("popped", "ahead", "whole"), [(0, 1, 1), (1, 1, 1), (4, 1, 1), (4, 2, 2), (6, 1, 2), (3, 7, 3)]
)
def test_stop_hands_over_whole_slots_and_no_more(opened, popped, ahead, whole):
    plan = experiment(timepoints=50)
    driver, core = opened(plan)
    driver.arm(slots_of(plan))
    taker = Taker(driver, plan)
    for _ in range(popped):
        taker.next()
    core.ahead = ahead
    driver.stop_burst()
    made = core.made
    taker.rest()
    exposed = popped + max(ahead, 1)
    assert taker.keys == keys_of(plan)[: -(-exposed // 4) * 4]
    assert len(taker.keys) >= 4 * whole
    assert core.made <= max(made, len(taker.keys)) + ahead
    assert not core.running
    assert core.led.step is None


def test_stop_before_the_first_exposure_takes_nothing(opened):
    plan = experiment(timepoints=5)
    driver, core = opened(plan)
    core.stall_at = 0
    driver.arm(slots_of(plan))
    driver.stop_burst()
    assert driver.next_frame(lambda key: pytest.fail("a frame")) is None


def test_stop_between_the_parts_of_a_slot_finishes_it(opened):
    plan = experiment(timepoints=3)
    driver, _ = opened(plan, ScriptedCore(led_most=0))
    driver.arm(slots_of(plan))
    taker = Taker(driver, plan)
    taker.next()
    taker.next()
    driver.stop_burst()
    taker.rest()
    assert taker.keys == keys_of(plan)[:4]


def test_a_destination_that_raises_does_not_lose_its_frame(opened):
    plan = experiment(timepoints=1)
    driver, _ = opened(plan)
    driver.arm(slots_of(plan))
    taker = Taker(driver, plan)

    def full(key):
        raise KeyError("the ring is full")

    with pytest.raises(KeyError):
        driver.next_frame(full)
    assert [e.key for e in taker.rest()] == keys_of(plan)


def test_light_off_from_another_thread_ends_a_burst_without_dark_frames(opened):
    plan = experiment(timepoints=5000, foci_um=[0, 1])
    for delay_s in np.linspace(0.0, 0.02, 15):
        driver, core = opened(plan)
        off = threading.Timer(delay_s, driver.light_off)
        driver.arm(slots_of(plan))
        taker = Taker(driver, plan)
        off.start()
        with pytest.raises(DriverError, match="light went off"):
            taker.rest()
        off.join()
        assert core.led.value == "0"
        assert core.led.step is None
        assert core.lens.value == -7.0
        assert not core.running
        assert driver.next_frame(taker.destination) is None


def armed_and_taken(driver, plan, off):
    driver.arm(slots_of(plan))
    if not off.is_alive() and driver.next_frame(Taker(driver, plan).destination) is not None:
        # Put out before it was armed, it is lit again: that is what arming is for.
        driver.light_off()
    Taker(driver, plan).rest()


def test_light_off_while_software_steps_never_leaves_it_lit(opened):
    plan = experiment(timepoints=2000)
    for delay_s in np.linspace(0.0, 0.02, 15):
        driver, core = opened(plan, ScriptedCore(led_most=0))
        off = threading.Timer(delay_s, driver.light_off)
        off.start()
        with pytest.raises(DriverError, match="light went off"):
            armed_and_taken(driver, plan, off)
        off.join()
        assert core.led.value == "0"
        assert not core.running


@pytest.mark.parametrize("call", ["stop_sequence_acquisition", "set_position"])
def test_one_device_that_hangs_does_not_keep_the_light_on(opened, call):
    plan = experiment(timepoints=50, foci_um=[0, 1])
    driver, core = opened(plan)
    driver.arm(slots_of(plan))
    Taker(driver, plan).next()
    core.hang = {call}
    began = time.monotonic()
    try:
        with pytest.raises(DriverError, match=r"is not safe: .*did not answer"):
            driver.light_off()
        assert time.monotonic() - began < 1.5
        assert core.led.value == "0"
    finally:
        core.released.set()


def test_no_burst_begins_while_a_device_is_still_being_made_safe(opened):
    plan = experiment(timepoints=2, foci_um=[0, 1])
    driver, core = opened(plan)
    core.hang = {"set_position"}
    with pytest.raises(DriverError, match="did not answer"):
        driver.light_off()
    with pytest.raises(DriverError, match="the lens still hangs"):
        driver.arm(slots_of(plan))
    core.hang = set()
    core.released.set()
    driver.arm(slots_of(plan))
    assert [e.key for e in Taker(driver, plan).rest()] == keys_of(plan)


@pytest.mark.parametrize("call", ["stop_property_sequence", "set_position", "stop_stage_sequence"])
def test_one_device_that_refuses_does_not_keep_the_others_on(opened, call):
    plan = experiment(timepoints=50, foci_um=[0, 1])
    driver, core = opened(plan)
    driver.arm(slots_of(plan))
    Taker(driver, plan).next()
    core.refuse[call] = 100
    with pytest.raises(DriverError, match=f"is not safe: .*{call} refused"):
        driver.light_off()
    assert not core.running
    if call != "stop_property_sequence":
        assert core.led.value == "0"
        assert core.led.step is None
    if call == "stop_property_sequence":
        assert core.lens.value == -7.0


def test_light_off_in_any_state_and_again(opened):
    plan = experiment()
    driver = MicroManagerDriver(plan)
    driver.light_off()
    driver, core = opened(plan)
    driver.light_off()
    driver.light_off()
    assert core.led.value == "0"
    driver.close()
    driver.light_off()
    with pytest.raises(DriverError, match="not open"):
        driver.arm(slots_of(plan))


def test_the_specimen_is_not_lit_while_it_moves(opened):
    plan = experiment(timepoints=2, positions=[{"x_um": 1, "y_um": 2}, {}, {"x_um": 5, "y_um": 6}])
    driver, core = opened(plan)
    driver.arm(slots_of(plan))
    taker = Taker(driver, plan)
    assert [e.key for e in taker.rest()] == keys_of(plan)
    assert core.called("set_xy_position") == [("XY", 1, 2), ("XY", 5, 6)] * 2
    assert not core.lit_while_moving
    # A place without coordinates is where the stage stands: no cut, no move.
    assert core.bursts == [8, 4, 8, 4]


def test_brightness_and_further_properties_cut_and_dark_frames_do_not(opened):
    microscope = {
        "light": {
            "brightness": {"device": "Dimmer", "property": "Level", "full": 100},
            "settings": {"c3": {"Extra.Mode": "odd"}},
        }
    }
    own = seq_microscope(channels=4, **microscope)
    own["camera"]["shape_px"] = list(SHAPE)
    plan = seq_experiment(own, dark={1}, timepoints=2)
    data = plan.model_dump(mode="json")
    data["illumination"]["channels"]["c2"]["brightness"] = 0.5
    plan = type(plan).model_validate(data)
    driver, core = opened(plan)
    driver.arm(slots_of(plan))
    taker, levels = Taker(driver, plan), []
    while isinstance(taker.next(), Arrived):
        levels.append(int(taker.buffer[0][2]))
    assert taker.keys == keys_of(plan)
    # c0 and the dark c1 in one burst, then c2 dimmer, then c3 with its property.
    assert core.bursts == [2, 1, 1] * 2
    assert [levels[i] for i in (0, 2, 3, 4, 6, 7)] == [100, 50, 100] * 2
    assert core.properties["Extra", "Mode"] == "odd"
    # The others have it as it was found, at every timepoint.
    assert core.called("set_property").count(("Extra", "Mode", "none")) == 2


def test_exposures_are_sequenced_where_the_camera_can(opened):
    plan = experiment(timepoints=3, exposures_ms=[1.0, 2.0, 1.0, 3.0])
    core = ScriptedCore()
    core.exposure.most = 16
    driver, core = opened(plan, core)
    driver.arm(slots_of(plan))
    assert [e.key for e in Taker(driver, plan).rest()] == keys_of(plan)
    assert core.bursts == [12]
    driver, core = opened(plan)
    driver.arm(slots_of(plan))
    assert [e.key for e in Taker(driver, plan).rest()] == keys_of(plan)
    assert core.bursts == [1] * 12


def test_hardware_that_is_impossible_is_refused_with_the_reason(opened):
    plan = experiment(microscope={"light": {"sequencing": "hardware"}})
    with pytest.raises(
        DriverError, match=r"microscope.light.*LED.State.*can't be sequenced.*trigg"
    ):
        opened(plan, ScriptedCore(led_most=0))
    # A single channel needs no sequence.
    plan = experiment(channels=1, microscope={"light": {"sequencing": "hardware"}})
    opened(plan, ScriptedCore(led_most=0))
    plan = experiment()
    driver, _ = opened(plan, ScriptedCore(led_most=0))
    assert any("stepped by software" in m and "can't be" in m for m in driver.messages())


def firmware(**changes):
    return {
        "light": {
            "sequencing": "firmware",
            "firmware": {
                "property": "Script",
                "begin": "n={length}",
                "frame": "s{value}",
                "max_length": 6,
                "start": {"Extra.Run": "go {repeats}"},
                "stop": {"Extra.Run": "halt"},
                **changes,
            },
        }
    }


def written(core):
    return [value for label, name, value in core.called("set_property") if name == "Script"]


def runs(core):
    return [v for _, name, v in core.called("set_property") if name == "Run" and v != "halt"]


def test_firmware_is_told_the_sequence_of_a_slot_and_how_often(opened):
    plan = experiment(timepoints=5, microscope=firmware(max_repeats=3, values={"c1": 9}))
    driver, core = opened(plan)
    driver.arm(slots_of(plan))
    while driver.next_frame(lambda key: np.zeros(SHAPE, np.uint8)) is not None:
        pass
    assert written(core) == ["n=4", "s1", "s9", "s3", "s4"]
    assert core.bursts == [12, 8]
    assert runs(core) == ["go 3", "go 2"]
    driver.light_off()
    calls = [call for call in core.calls if call[0] == "set_property"]
    assert calls[-2:] == [
        ("set_property", "Extra", "Run", "halt"),
        ("set_property", "LED", "State", "0"),
    ]


@pytest.mark.parametrize(
    ("phase", "texts"), [(0, ["s1", "s2", "s1", "s2"]), (1, ["s1", "s1", "s2"])]
)
def test_firmware_without_repeats_is_told_the_whole_burst(opened, phase, texts):
    changes = firmware(start={"Extra.Run": "go"}, begin=None, max_length=5)
    changes["light"]["phase"] = phase
    plan = experiment(channels=2, timepoints=4, microscope=changes)
    driver, core = opened(plan)
    driver.arm(slots_of(plan))
    while driver.next_frame(lambda key: np.zeros(SHAPE, np.uint8)) is not None:
        pass
    assert core.bursts == [4, 4]
    assert written(core)[: len(texts)] == texts


def test_a_sequence_built_into_the_firmware_has_to_be_the_plans():
    built_in = firmware(property=None, begin=None, order=["c0", "c1", "c2", "c3"])
    MicroManagerDriver(experiment(timepoints=2, microscope=built_in)).preflight()
    zc = experiment(foci_um=[0, 1], frame_order="zc", microscope=built_in)
    MicroManagerDriver(zc).preflight()
    cz = experiment(foci_um=[0, 1], frame_order="cz", microscope=built_in)
    with pytest.raises(DriverError, match="frame_order: zc"):
        MicroManagerDriver(cz).preflight()
    fewer = experiment(channels=3, microscope=firmware(property=None, order=["c0", "c2", "c1"]))
    with pytest.raises(DriverError, match="own sequence is c0, c2, c1"):
        MicroManagerDriver(fewer).preflight()


def test_a_sequence_is_written_as_a_whole_or_not_at_all(opened):
    plan = experiment(timepoints=1, microscope=firmware())
    driver, core = opened(plan)
    taken = []

    def set_property(label, name, value):
        if name == "Script":
            taken.append(value)
            if taken == ["n=4", "s1", "s2"]:
                raise RuntimeError("taken, but not answered")

    object.__setattr__(core, "set_property", set_property)
    driver.arm(slots_of(plan))
    assert taken == ["n=4", "s1", "s2", "n=4", "s1", "s2", "s3", "s4"]


def test_a_shutter_is_opened_for_bursts_only(opened):
    plan = experiment(channels=1, timepoints=2, microscope={"light": None})
    core = ScriptedCore()
    core.shutter = "Sh"
    driver, core = opened(plan, core)
    assert "shutter 'Sh'" in " ".join(driver.messages())
    assert not core.shutter_open
    driver.arm(slots_of(plan))
    assert core.shutter_open
    while driver.next_frame(lambda key: np.zeros(SHAPE, np.uint8)) is not None:
        assert core.shutter_open
    driver.light_off()
    assert not core.shutter_open
    driver.arm(slots_of(plan))
    driver.light_off()
    assert not core.shutter_open


def test_a_light_that_reads_otherwise_is_not_recorded_as_lit(opened):
    plan = experiment(channels=1, timepoints=1)
    driver, core = opened(plan)
    object.__setattr__(core, "get_property", lambda label, name: "13")
    driver.arm(slots_of(plan))
    event = driver.next_frame(lambda key: np.zeros(SHAPE, np.uint8))
    assert event.led == -1
    assert "does not read as it was set" in " ".join(driver.messages())


def test_reprogram_takes_another_plan_on_the_same_devices(opened):
    plan = experiment(timepoints=1)
    driver, _ = opened(plan)
    other = experiment(channels=2, timepoints=3, foci_um=[0.5, 2])
    driver.reprogram(other)
    driver.arm(slots_of(other))
    assert [e.key for e in Taker(driver, other).rest()] == keys_of(other)
    elsewhere = experiment(microscope={"setup": {"LED.TriggerSequenceMaxLength": 2}})
    with pytest.raises(DriverError, match="another microscope"):
        driver.reprogram(elsewhere)


def test_arm_refuses_what_is_not_in_the_plan(opened):
    plan = experiment(timepoints=1)
    driver, _ = opened(plan)
    with pytest.raises(DriverError, match="at least one slot"):
        driver.arm([])
    with pytest.raises(DriverError, match="not in the plan"):
        driver.arm([FrameKey(5, 0, 0, 0).slot])


def test_a_camera_of_another_size_is_refused_before_the_light_goes_on(opened):
    own = seq_microscope()
    plan = seq_experiment(own)
    driver, core = opened(plan)
    with pytest.raises(DriverError, match="shape_px"):
        driver.arm(slots_of(plan))
    assert core.led.value == "0"
    assert core.bursts == []
