"""`livephase devices`, `doctor` and the bursts of `--dry-run`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from fake_core import FakeCore
from typer.testing import CliRunner

from drivers.micromanager import connect as connecting
from drivers.micromanager.connect import connect, disconnect
from drivers.micromanager.describe import describe
from drivers.micromanager.parts import find_parts, microscope_section
from drivers.micromanager.sequenceable import property_sequencing, stage_sequencing
from pipeline.cli import app
from pipeline.errors import ExperimentError
from pipeline.experiment import MicroManagerMicroscope, parse_experiment
from pipeline.lifecycle.devices import list_devices
from pipeline.lifecycle.microscope_doctor import installed
from pipeline.lifecycle.microscope_doctor import microscope as examine_microscope
from pipeline.lifecycle.preflight import estimate, with_bursts

FOLDER = Path(__file__).parents[1] / "deploy" / "experiments"
DEMO = FOLDER / "micromanager_demo.yaml"


def demo(**changes):
    data = yaml.safe_load(DEMO.read_text("utf-8"))
    for key, value in changes.items():
        section, name = key.split("_", 1)
        data[section][name] = value
    return parse_experiment(data)


@pytest.fixture(scope="module")
def found():
    return list_devices()


def test_the_demonstrations_devices_without_an_experiment(found):
    by_label = {device.label: device for device in found.devices}
    camera, led = by_label["Camera"], by_label["LED"]
    assert (camera.kind, camera.library, camera.name) == ("camera", "DemoCamera", "DCam")
    assert camera.hub == "DHub"
    gain = camera.property("Gain")
    assert (gain.limits, gain.read_only, gain.before) == ((-5.0, 8.0), False, False)
    assert camera.property("PixelType").allowed[0] == "16bit"
    assert camera.property("CameraID").read_only
    assert camera.property("MaximumExposureMs").before
    assert led.states[0] == "Closed"
    assert led.property("State").allowed == tuple(str(i) for i in range(10))
    assert led.property("State").why_not == "set 'LED.Sequence': 'On' in microscope.setup"
    assert "use the property State" in led.property("Label").why_not
    assert by_label["Z"].why_not == "set 'Z.UseSequences': 'Yes' in microscope.setup"
    assert by_label["Objective"].property("State").sequence > 0


def test_the_text_has_every_device_and_the_json_the_same(found):
    text = found.text()
    for device in found.devices:
        assert f"{device.label}  ({device.kind}, {device.library} {device.name})" in text
    assert "no sequence: set 'LED.Sequence': 'On' in microscope.setup" in text
    assert "device API version 75" in text
    assert "State                        0                    0 to 9" in text
    data = json.loads(json.dumps(found.as_dict()))
    assert [d["label"] for d in data["devices"]] == [d.label for d in found.devices]
    assert data["parts"]["light"][0] == "LED"


def test_a_wheel_or_a_turret_is_no_light(found):
    assert found.parts.camera == ("Camera",)
    assert found.parts.light == ("LED",)
    assert found.parts.lens[0] == "Z"
    assert found.parts.stage == ("XY",)


def test_the_proposed_section_works_and_is_sequenced(found):
    section = yaml.safe_load(found.text().split("\nmicroscope:\n")[1].join(["microscope:\n", ""]))
    proposed = MicroManagerMicroscope.model_validate(section["microscope"])
    assert proposed.light.values == {"385nm": 1, "470nm": 2, "550nm": 3, "635nm": 4}
    assert proposed.light.off == 0
    core = connect(proposed)
    assert property_sequencing(core, "LED", "State").max_length > 0
    assert stage_sequencing(core, "Z").max_length > 0
    disconnect(core, proposed)


def test_of_an_experiment_even_if_its_map_is_wrong():
    report = list_devices(demo(microscope_stage={"device": "Z"}))
    assert {d.label for d in report.devices} == {"Hub", "Camera", "LED", "Z", "XY"}
    led = next(d for d in report.devices if d.label == "LED")
    assert led.property("State").sequence > 0, "setup was applied"
    assert report.section["devices"][0]["label"] == "Hub"


def test_of_another_driver_there_is_nothing_to_list():
    with pytest.raises(ExperimentError, match="driven by 'simulator'"):
        list_devices(
            parse_experiment(yaml.safe_load((FOLDER / "first_experiment.yaml").read_text("utf-8")))
        )


def test_what_adapters_offer():
    report = list_devices(adapters="mm-test-adapters")
    by_name = {adapter.name: adapter for adapter in report.adapters}
    assert by_name["DemoCamera"].api == 75
    assert ("DCam", "camera", "Demo camera") in by_name["DemoCamera"].devices
    assert any(name == "DA Z Stage" for name, _, _ in by_name["Utilities"].devices)
    assert "DStateDevice" in report.text()
    assert json.loads(json.dumps(report.as_dict()))["adapters"][0]["device_api"] == 75


def core_of(monkeypatch, name, setup=None, before=None):
    """The fake core of one of the hardware experiments, with its setup changed."""
    fake = FakeCore()
    monkeypatch.setattr(connecting, "_start", lambda microscope: fake)
    monkeypatch.setattr(connecting, "adapter_folder", lambda adapters: Path())
    data = yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8"))
    scope = data["microscope"]
    scope["setup"] = {k: v for k, v in {**scope["setup"], **(setup or {})}.items() if v is not None}
    for device in scope["devices"]:
        device.setdefault("before", {}).update((before or {}).get(device["label"], {}))
    connecting.load(parse_experiment(data).microscope)
    return fake


@pytest.mark.parametrize(
    ("name", "setup", "before", "says"),
    [
        ("led_array_ttl_arduino", {"LED.Sequence": None}, {}, "set 'LED.Sequence': 'On'"),
        ("led_array_ttl_triggerscope", {"LED.Sequence": "Off"}, {}, "set 'LED.Sequence': 'On'"),
        ("led_array_ttl_nidaq", {"Hub.Sequence": None}, {}, "set 'Hub.Sequence': 'On'"),
        ("led_array_ttl_nidaq", {}, {"LED": {"Sequencing": "Never"}}, "Use hub setting"),
        (
            "led_array_ttl_nidaq",
            {"LED.Blanking": None, "LED.Blank on": None},
            {"LED": {"Input Line": -1}},
            "wire the camera's exposure signal",
        ),
    ],
)
def test_why_lights_can_not_be_sequenced(monkeypatch, name, setup, before, says):
    core = core_of(monkeypatch, name, setup, before)
    can = property_sequencing(core, "LED", "State")
    assert can.max_length == 0
    assert says in can.fix


def test_why_other_devices_can_not(monkeypatch):
    core = core_of(monkeypatch, "led_array_illuminate")
    assert (
        "sequencing: firmware" in property_sequencing(core, "LEDArray", "IlluminationPattern").fix
    )
    core = core_of(monkeypatch, "tunable_lens_optotune")
    assert "DA Z Stage" in property_sequencing(core, "ETL", "Current-mA").fix
    core = core_of(monkeypatch, "tunable_lens_dac", {"Hub.Sequence": None})
    can = stage_sequencing(core, "Lens")
    assert can == (
        0,
        "it follows the analogue output 'DAC': set 'Hub.Sequence': 'On' in microscope.setup",
    )
    core = core_of(monkeypatch, "tunable_lens_dac")
    assert stage_sequencing(core, "Lens").max_length == 1024


@pytest.mark.parametrize(
    ("name", "light", "lens"),
    [
        ("led_array_illuminate", "LEDArray", None),
        ("led_array_ttl_triggerscope", "LED", None),
        ("tunable_lens_dac", "Lamp", "Lens"),
        ("tunable_lens_optotune", "Lamp", "ETL"),
    ],
)
def test_who_could_be_what_on_real_devices(monkeypatch, name, light, lens):
    devices = describe(core_of(monkeypatch, name))
    parts = find_parts(devices)
    assert parts.camera == ("Camera",)
    assert parts.light[0] == light
    assert parts.lens[:1] == (() if lens is None else (lens,))
    given = yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8"))["microscope"]
    camera = {"shape_px": [16, 16], "bit_depth": 16}
    section = microscope_section(devices, parts, {"devices": given["devices"]}, camera)
    proposed = MicroManagerMicroscope.model_validate(section)
    assert proposed.light.device == light
    assert proposed.light.sequencing == ("firmware" if light == "LEDArray" else "auto")


def test_the_doctor_knows_micro_manager():
    findings = {finding.name: finding for finding in installed()}
    assert "device API 75" in findings["pymmcore"].text_
    assert findings["mm-test-adapters"].level == "ok"
    assert findings["pycromanager"].level == "ok"
    assert "Micro-Manager" in findings


def levels(experiment):
    return {(f.name, f.level): f.text() for f in examine_microscope(experiment)}


def test_the_doctor_goes_through_an_experiments_microscope():
    assert {level for _, level in levels(demo())} == {"ok"}
    wrong = levels(
        demo(microscope_stage={"device": "Z"}, microscope_lens={"device": "XY", "limits": [-9, 9]})
    )
    assert ("device map", "error") in wrong
    found = levels(demo(microscope_setup={"Camera.PixelType": "16bit"}))
    assert "Set 'LED.Sequence': 'On' in microscope.setup" in found["light", "error"]
    assert ("lens", "error") in found
    camera = demo(microscope_camera={"shape_px": [256, 512], "pixel_um": 6.5, "bit_depth": 12})
    assert (
        "shape_px to [512, 512] and microscope.camera.bit_depth to 16"
        in levels(camera)["camera", "error"]
    )


def test_all_faults_of_a_map_are_told_at_once():
    wrong = demo(
        microscope_stage={"device": "Z"}, microscope_lens={"device": "XY", "limits": [-9, 9]}
    )
    faults = [f for f in examine_microscope(wrong) if f.name == "device map"]
    assert [f.level for f in faults] == ["error", "error"]


def test_the_doctor_says_that_exposures_cut_a_burst():
    lights = yaml.safe_load(DEMO.read_text("utf-8"))["illumination"]["channels"]
    lights["top"]["exposure_ms"] = 20
    found = levels(demo(illumination_channels=lights))
    assert "burst ends at each change" in found["exposure", "warning"]


def test_the_doctor_and_a_simulated_microscope():
    simulated = parse_experiment(
        yaml.safe_load((FOLDER / "first_experiment.yaml").read_text("utf-8"))
    )
    assert levels(simulated) == {
        ("microscope", "ok"): "ok       microscope: simulator, nothing to connect to"
    }


def test_a_dry_run_tells_the_bursts(tmp_path):
    need = with_bursts(estimate(demo(), tmp_path), demo())
    assert need.bursts
    assert "hardware" in need.text().split("bursts:")[1]
    assert json.loads(json.dumps(need.as_dict()))["bursts"] == list(need.bursts)


def test_the_verbs():
    run = CliRunner().invoke
    listed = run(app, ["devices", "--json"])
    assert listed.exit_code == 0
    assert json.loads(listed.stdout)["parts"]["camera"] == ["Camera"]
    assert run(app, ["doctor", str(DEMO)]).exit_code == 0
    dry = run(app, ["run", str(DEMO), "--out", "never", "--dry-run", "--json"])
    assert json.loads(dry.stdout)["bursts"]
    assert not Path("never").exists()
    text = " ".join(run(app, ["run", "--help"]).stdout.split())
    assert "lights and moves nothing" in text
