"""The experiments for real hardware, on tables of its devices; those for Micro-Manager's test devices, on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from fake_core import FakeCore
from pymmcore_plus.seq_tester import decode_image as decode

import pipeline
from drivers.driver import Arrived
from drivers.micromanager import connect as connecting
from drivers.registry import open_driver
from drivers.taking import Microscope
from pipeline.errors import DriverError
from pipeline.experiment import load_experiment, parse_experiment
from pipeline.experiment.vary import vary
from pipeline.frames import FrameStatus
from pipeline.lifecycle.microscope_doctor import microscope as microscope_findings

FOLDER = Path(__file__).parents[1] / "deploy" / "experiments"
LED_ARRAYS = (
    "led_array_ttl_arduino",
    "led_array_ttl_triggerscope",
    "led_array_ttl_nidaq",
    "led_array_illuminate",
)
LENSES = ("tunable_lens_dac", "tunable_lens_optotune")
SHAPE = (16, 16)


def small(name, **sequence):
    """An experiment of the folder with a small camera and a few timepoints as fast as they go."""
    data = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    data["microscope"]["camera"]["shape_px"] = list(SHAPE)
    data["sequence"].update({"timepoints": 3, "interval_s": 0, **sequence})
    return parse_experiment(data, name)


@pytest.fixture
def core(monkeypatch):
    """A fake core in the place of the real one."""
    fake = FakeCore(SHAPE)
    monkeypatch.setattr(connecting, "_start", lambda microscope: fake)
    monkeypatch.setattr(connecting, "adapter_folder", lambda adapters: Path())
    return fake


def take(driver, slots):
    """All frames of one burst as (key, number of the exposure)."""
    frames, place = [], np.zeros(SHAPE, np.uint16)
    driver.arm(slots)
    while (event := driver.next_frame(lambda key: place)) is not None:
        assert isinstance(event, Arrived)
        frames.append((event.key, int(place[0, 0])))
    return frames


@pytest.mark.parametrize("name", [*LED_ARRAYS, *LENSES])
def test_each_frame_sees_its_light_and_its_focus_and_the_light_goes_out(core, name):
    experiment = small(name)
    scope, plan = experiment.microscope, experiment.plan()
    driver = open_driver(experiment)
    driver.preflight()
    driver.open()
    assert set(map(str, core.lights().values())) <= {"0", "Clear"}, "connecting lights nothing"
    slots = tuple(plan.slot_keys())
    frames = take(driver, slots)
    assert [key for key, _ in frames] == [key for slot in slots for key in plan.frame_keys(slot)]
    for key, exposure in frames:
        seen = core.exposures[exposure]
        channel = plan.channels[key.channel].name
        assert str(seen["light"][scope.light.device]) == str(scope.light.values[channel])
        if scope.lens is not None:
            wanted = scope.lens.position(plan.foci_um[key.focus])
            assert seen["lens"][scope.lens.device] == pytest.approx(wanted, abs=1e-6)
    driver.light_off()
    assert str(core.lights()[scope.light.device]) == str(scope.light.off)
    driver.close()
    assert core.unloaded
    assert not core.devices


@pytest.mark.parametrize("name", [*LED_ARRAYS[:3], "tunable_lens_dac"])
def test_sequences_are_loaded_once_and_before_the_camera_starts(core, name):
    experiment = small(name, timepoints=5)
    driver = open_driver(experiment)
    driver.open()
    core.calls.clear()
    take(driver, tuple(experiment.plan().slot_keys()))
    driver.close()
    kinds = [call[0] for call in core.calls]
    assert kinds.count("load") == 1
    assert kinds.count("camera") == 1, "one burst spans all timepoints"
    assert kinds.index("load") < kinds.index("start") < kinds.index("camera") < kinds.index("stop")
    loaded = next(call for call in core.calls if call[0] == "load")[2]
    assert len(loaded) == experiment.plan().frames_per_slot, "one timepoint is held, and repeated"


def test_the_firmware_is_told_how_often_and_started_before_the_camera(core):
    experiment = small("led_array_illuminate", timepoints=7)
    driver = open_driver(experiment)
    driver.open()
    core.calls.clear()
    take(driver, tuple(experiment.plan().slot_keys()))
    at = core.calls.index
    count, start = (
        ("set", "LEDArray.SequenceRunCount", "7"),
        ("set", "LEDArray.Sequence", "DPC Patterns"),
    )
    assert at(count) < at(start) < at(("camera", 28))
    assert core.calls[-1] == ("set", "LEDArray.IlluminationPattern", "Clear")
    driver.close()


def test_a_firmware_with_its_own_order_refuses_another(core):
    experiment = small("led_array_illuminate", channels=["right", "top", "left", "bottom"])
    with pytest.raises(DriverError, match="top, bottom, left, right"):
        open_driver(experiment).open()


def test_a_property_lens_is_stepped_in_software_and_said_so(core):
    driver = open_driver(small("tunable_lens_optotune"))
    text = "\n".join(driver.bursts(tuple(small("tunable_lens_optotune").plan().slot_keys())))
    assert "software" in text
    assert not any(call[0] in {"load", "camera"} for call in core.calls), "a dry run moves nothing"


@pytest.mark.parametrize("name", [*LED_ARRAYS, *LENSES])
def test_the_doctor_finds_nothing_wrong_but_what_is(core, name):
    findings = list(microscope_findings(small(name)))
    assert [f.text() for f in findings if f.level == "error"] == []
    assert {"microscope", "device map", "camera"} <= {f.name for f in findings}


def test_the_doctor_says_why_a_card_can_not_be_sequenced(core):
    core.change_detection = False
    data = yaml.safe_load((FOLDER / "led_array_ttl_nidaq.yaml").read_text(encoding="utf-8"))
    data["microscope"]["camera"]["shape_px"] = list(SHAPE)
    for key in ("LED.Blanking", "LED.Blank on"):
        del data["microscope"]["setup"][key]
    light = next(f for f in microscope_findings(parse_experiment(data)) if f.name == "light")
    assert light.level == "error"
    assert "Input Line" in light.fix


@pytest.mark.parametrize("drops", ["setup", "device"])
def test_an_arduino_whose_shutter_stays_closed_is_refused_as_its_light_would_stay_off(core, drops):
    data = yaml.safe_load((FOLDER / "led_array_ttl_arduino.yaml").read_text(encoding="utf-8"))
    scope = data["microscope"]
    del scope["setup"]["Shutter.OnOff"]
    if drops == "device":
        scope["devices"] = [d for d in scope["devices"] if d["label"] != "Shutter"]
    with pytest.raises(DriverError, match=r"set 'Shutter\.OnOff': 1") as caught:
        open_driver(parse_experiment(data)).open()
    assert ("load the device" in str(caught.value)) == (drops == "device")


def test_a_trigger_scope_without_blanking_is_refused_as_its_light_would_stay_on(core, monkeypatch):
    data = yaml.safe_load((FOLDER / "led_array_ttl_triggerscope.yaml").read_text(encoding="utf-8"))
    data["microscope"]["camera"]["shape_px"] = list(SHAPE)
    data["microscope"]["setup"]["LED.Blanking"] = "Off"
    data["sequence"].update({"timepoints": 2, "interval_s": 0})
    experiment = parse_experiment(data)
    with pytest.raises(DriverError, match=r"stay on after a sequence.*'LED\.Blanking': 'On'"):
        open_driver(experiment).open()
    monkeypatch.setattr("drivers.micromanager.check._check_adapter", lambda core, light: None)
    driver = open_driver(experiment)
    driver.open()
    take(driver, tuple(experiment.plan().slot_keys()))
    assert core.lights()["LED"] == 8, "what would happen"
    driver.close()


@pytest.mark.parametrize("name", LED_ARRAYS)
def test_a_light_that_a_dead_run_left_on_goes_out_with_no_more_than_it_needs(core, name):
    core.left_on = 4
    experiment = small(name)
    lit = []
    real = core.unload_all_devices

    def look():
        lit.append({**core.lights(), "loaded": set(core.devices)})
        real()

    core.unload_all_devices = look
    open_driver(experiment).make_safe()
    off = str(experiment.microscope.light.off)
    assert str(lit[-1][experiment.microscope.light.device]) == off
    assert "Camera" not in lit[-1]["loaded"]


def test_the_demonstration_runs_on_micro_managers_own_devices(tmp_path):
    data = yaml.safe_load((FOLDER / "micromanager_demo.yaml").read_text(encoding="utf-8"))
    data["sequence"]["timepoints"] = 3
    result = pipeline.run_experiment(parse_experiment(data), tmp_path / "run")
    assert result.error is None
    assert result.report["written"] == result.report["planned"] == 3 * 2 * 12
    assert pipeline.verify(tmp_path / "run").ok


def test_the_sequence_testers_frames_say_that_they_are_right():
    experiment = load_experiment(FOLDER / "micromanager_sequence_tester.yaml")
    scope, foci = experiment.microscope, (-1.5, 0.5, 1.5)
    shot = vary(experiment, timepoints=3, foci_um=foci)
    with Microscope(shot) as microscope:
        taken = microscope.take(shot)
    assert (taken.records["status"] == FrameStatus.WRITTEN).all()
    for t, c, z in np.ndindex(3, 4, 3):
        told = {
            (s.device, s.property): s.value for s in decode(taken.frames[t, 0, c, z]).current_state
        }
        assert told["TSwitcher-0", "Position"] == scope.light.values[shot.channel_names[c]]
        assert told["TZStage-0", "ZPositionUm"] == pytest.approx(foci[z])
