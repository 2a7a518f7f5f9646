"""Reaching Micro-Manager's devices, and what is said when that fails. On the real core, with its test adapters."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import mm_test_adapters
import pytest
from fake_core import FakeCore

from drivers.micromanager import adapters
from drivers.micromanager import connect as connecting
from drivers.micromanager.adapters import AdapterLibrary, core_api, inspect_library, misfit
from drivers.micromanager.connect import connect, disconnect
from drivers.micromanager.java_core import JavaCore
from drivers.micromanager.setting import split_setting
from pipeline.errors import DriverError, ExperimentError
from pipeline.experiment import MicroManagerMicroscope, parse_experiment
from pipeline.experiment.load import load_experiment

LIBS = Path(mm_test_adapters.device_adapter_path())
DEMO = {"config_file": "MMConfig_demo.cfg"}
LIGHT = {"device": "LED", "property": "Label", "values": {"a": "385nm"}, "off": "Closed"}
HUB = {"label": "Hub", "library": "SequenceTester", "name": "THub"}
CAMERA = {
    "label": "Camera",
    "library": "SequenceTester",
    "name": "TCamera-0",
    "hub": "Hub",
    "before": {"ImageMode": "MachineReadable", "ImageWidth": 64, "ImageHeight": 64},
}
LED = {"label": "LED", "library": "SequenceTester", "name": "TSwitcher-0", "hub": "Hub"}


def scope(**keys):
    keys.setdefault("connection", {"kind": "in_process", "buffer_mb": 16})
    return MicroManagerMicroscope(
        driver="micromanager", camera={"shape_px": (64, 64), "pixel_um": 6.5}, **keys
    )


def loaded(microscope, **how):
    core = connect(microscope, **how)
    try:
        return set(core.get_loaded_devices()) - {"Core"}
    finally:
        disconnect(core, microscope)


def refusal(microscope, **how):
    with pytest.raises(DriverError) as caught:
        loaded(microscope, **how)
    return str(caught.value)


def test_a_configuration_of_micro_managers_own_folder():
    assert {"Camera", "LED", "Z", "XY"} <= loaded(scope(**DEMO, light=LIGHT, lens={"device": "Z"}))


def test_a_device_map_is_loaded_hub_first_and_its_properties_before_it_comes_up():
    microscope = scope(devices=[CAMERA, LED, HUB], camera_device="Camera", setup={"LED.State": 3})
    core = connect(microscope)
    assert list(core.get_loaded_devices())[:2] == ["Hub", "Camera"]
    assert core.get_image_width() == 64
    assert core.get_property("LED", "State") == "3"
    assert core.get_camera_device() == "Camera"
    disconnect(core, microscope)
    assert list(core.get_loaded_devices()) == ["Core"]
    disconnect(core, microscope)


def test_one_after_another_and_nothing_left_behind_by_pycromanager():
    from mmpycorex import is_pymmcore_active

    headless = {"kind": "pycromanager", "headless": "python"}
    microscope = scope(devices=[HUB, CAMERA], camera_device="Camera", connection=headless)
    threads = threading.active_count()
    for _ in range(2):
        core = connect(microscope)
        assert core.get_camera_device() == "Camera"
        with pytest.raises(DriverError, match="only one"):
            connect(microscope)
        disconnect(core, microscope)
        assert not is_pymmcore_active()
    wrong = scope(devices=[HUB, CAMERA], camera_device="Hub", connection=headless)
    assert "'Hub' is no camera" in refusal(wrong)
    assert not is_pymmcore_active()
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (["LED"], {"DHub", "LED"}),
        (["Z", "no such"], {"Z", "DHub"}),
    ],
)
def test_only_what_is_needed_of_a_configuration(only, expected):
    assert loaded(scope(**DEMO), only=only) == expected


def test_what_setup_sets_at_the_same_hub_comes_along():
    microscope = scope(**DEMO, setup={"Z.UseSequences": "Yes", "LED Shutter.State Device": "LED"})
    assert loaded(microscope, only=["LED"]) == {"DHub", "LED", "Z"}


def test_what_a_device_is_set_to_at_the_start_belongs_to_it():
    """The preset System/Startup makes the shutter out of a state device: it is nothing without that, and its hub."""
    microscope = scope(**DEMO)
    core = connect(microscope, only=["LED Shutter"])
    assert set(core.get_loaded_devices()) == {"LED Shutter", "LED", "DHub", "Core"}
    assert core.get_property("LED Shutter", "State Device") == "LED"
    disconnect(core, microscope)


def test_only_what_is_needed_of_a_device_map():
    map_ = [HUB, CAMERA, LED]
    assert loaded(scope(devices=map_, camera_device="Camera"), only=["LED"]) == {"Hub", "LED"}
    # What `setup` sets at the same hub belongs to it: an Arduino's lines follow its shutter.
    with_camera = scope(devices=map_, setup={"Camera.Binning": 1}, camera_device="Camera")
    assert loaded(with_camera, only=["LED"]) == {"Hub", "LED", "Camera"}


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (
            {"light": {**LIGHT, "device": "LEDs"}},
            "light.device: there is no device 'LEDs': did you mean 'LED'",
        ),
        (
            {"light": {**LIGHT, "property": "Lable"}},
            "light.property: .* no property 'Lable': did you mean 'Label'",
        ),
        (
            {"light": {**LIGHT, "values": {"a": "386nm"}}},
            "light.values.a: .* does not take 386nm: it takes '385nm'",
        ),
        ({"light": {**LIGHT, "off": "Clsed"}}, "light.off: .* does not take Clsed"),
        (
            {"light": {**LIGHT, "property": "State", "values": {"a": 12}, "off": 0}},
            "does not take 12: it takes '0'",
        ),
        (
            {"light": {**LIGHT, "settings": {"a": {"Z.Positn": 1}}}},
            "light.settings.a.Z.Positn: .*'Position'",
        ),
        (
            {"light": {**LIGHT, "brightness": {"device": "Camera", "property": "Gain", "full": 9}}},
            "light.brightness.full: .* does not take 9: it takes -5 to 8",
        ),
        ({"lens": {"device": "LED"}}, "lens.device: 'LED' is no stage: give one of: Z"),
        ({"lens": {"device": "Q"}}, "lens.device: there is no device 'Q': give one of: Z"),
        (
            {
                "lens": {
                    "device": "Camera",
                    "kind": "property",
                    "property": "Gain",
                    "limits": [-9, 5],
                }
            },
            "lens.limits: .* does not take -9",
        ),
        (
            {"lens": {"device": "Camera", "kind": "property", "property": "CameraID"}},
            "lens.property: 'CameraID' of 'Camera' can only be read",
        ),
        ({"stage": {"device": "Z"}}, "stage.device: 'Z' is no XY stage: give one of: XY"),
        ({"camera_device": "LED"}, "camera_device: 'LED' is no camera: give one of: Camera"),
        ({"setup": {"Camera.PixelType": "32bitRGB"}}, "gives colour pixels: .*'8bit'"),
        ({"setup": {"Camera.PixelType": "32bit"}}, "gives 32 bit pixels"),
        ({"setup": {"Camera.Bining": 2}}, "setup.Camera.Bining: .* did you mean 'Binning'"),
        ({"setup": {"Camera.Binning": 3}}, "setup.Camera.Binning: .* it takes '1', '2', '4', '8'"),
        ({"setup": {"Kamera.Binning": 2}}, "setup.Kamera.Binning: .* did you mean 'Camera'"),
        ({"config_file": "no.cfg"}, "config_file: there is no no.cfg"),
        (
            {"connection": {"kind": "in_process", "adapters": "/no/such"}},
            "adapters: there is no folder",
        ),
    ],
)
def test_what_is_wrong_in_the_map_is_said_with_its_key_and_the_fix(keys, says):
    import re

    assert re.search(says, refusal(scope(**{**DEMO, **keys})))


@pytest.mark.parametrize(
    ("devices", "says"),
    [
        (
            [HUB, {**LED, "library": "Demo"}],
            "no device adapter Demo in .*: did you mean 'DemoCamera'",
        ),
        (
            [{**LED, "library": "DemoCamera", "name": "DCm", "hub": None}],
            "no device DCm: did you mean 'DCam'",
        ),
        ([{**LED, "hub": "Hb"}, HUB], "unknown hub 'Hb': did you mean 'Hub'"),
        (
            [HUB, {**CAMERA, "before": {"ImageMod": "x"}}],
            "before.ImageMod: .* did you mean 'ImageMode'",
        ),
        (
            [HUB, {**CAMERA, "before": {"ImageMode": "x"}}],
            "before.ImageMode: .* it takes 'HumanReadable'",
        ),
        ([{**HUB, "hub": "LED"}, LED], "each other's parents"),
        ([HUB, LED], "no default camera: none of its devices is a camera"),
    ],
)
def test_what_is_wrong_in_the_devices(devices, says):
    import re

    assert re.search(says, refusal(scope(devices=devices)))


def test_a_setting_that_is_refused_does_not_keep_the_light_on():
    wrong = scope(devices=[HUB, CAMERA, LED], camera_device="Camera", setup={"LED.State": 99})
    assert "setup.LED.State" in refusal(wrong)
    assert loaded(wrong, only=["LED"]) == {"Hub", "LED"}


def test_a_folder_without_adapters(tmp_path):
    said = refusal(scope(**DEMO, connection={"kind": "in_process", "adapters": str(tmp_path)}))
    assert "no device adapter" in said


def test_a_yes_that_yaml_turned_into_a_truth_is_refused_at_once(tmp_path):
    text = (Path(__file__).parents[1] / "deploy/experiments/micromanager_demo.yaml").read_text(
        "utf-8"
    )
    file = tmp_path / "mine.yaml"
    file.write_text(text.replace('Z.UseSequences: "Yes"', "Z.UseSequences: Yes"), "utf-8")
    with pytest.raises(ExperimentError, match="write the value in quotes"):
        load_experiment(file)


@pytest.mark.skipif(sys.platform != "linux", reason="builds a library with gcc")
def test_an_adapter_of_another_device_api_names_both_numbers(tmp_path, monkeypatch):
    source = tmp_path / "old.c"
    source.write_text(
        "long GetModuleVersion(void){return 10;} long GetDeviceInterfaceVersion(void){return 71;}"
    )
    library = tmp_path / "libmmgr_dal_Old.so.0"
    try:
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    except FileNotFoundError:
        pytest.skip("no gcc")
    (tmp_path / "libmmgr_dal_Broken.so.0").write_text("no library")
    where = {"kind": "in_process", "adapters": str(tmp_path)}
    old = {"label": "X", "library": "Old", "name": "X"}
    said = refusal(scope(devices=[old], connection=where))
    assert "device API 71" in said
    assert f"pymmcore {version('pymmcore')} has {core_api()}" in said
    assert "newer Micro-Manager" in said
    said = refusal(scope(devices=[{**old, "library": "Broken"}], connection=where))
    assert "Broken can't be loaded" in said
    config = tmp_path / "mine.cfg"
    config.write_text("Device,X,Old,X\n")
    assert "device API 71" in refusal(scope(config_file=str(config), connection=where))
    config.write_text("Device,X,Odl,X\n")
    assert "did you mean 'Old'" in refusal(scope(config_file=str(config), connection=where))


def test_a_newer_adapter_asks_for_a_newer_pymmcore():
    newer = misfit(AdapterLibrary("New", Path("new"), core_api() + 1))
    assert newer is not None
    assert f"{core_api() + 1} as its fourth number" in newer.fix
    file = next(LIBS.glob("*DemoCamera*"))
    assert misfit(inspect_library("DemoCamera", file)) is None


def test_no_running_micro_manager():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = refusal(scope(connection={"kind": "pycromanager", "port": port}))
    assert f"no Micro-Manager listens on port {port}" in said
    assert "Run server on port" in said


def test_a_missing_package_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymmcore", None)
    assert "pip install -c deploy/constraints.txt pymmcore" in refusal(scope(**DEMO))
    monkeypatch.setitem(sys.modules, "mmpycorex", None)
    headless = {"kind": "pycromanager", "headless": "python"}
    assert "pip install -c deploy/constraints.txt pycromanager" in refusal(
        scope(**DEMO, connection=headless)
    )
    monkeypatch.setitem(sys.modules, "mm_test_adapters", None)
    assert "mm-test-adapters" in refusal(scope(**DEMO))


def test_a_serial_port_in_use_is_said_and_what_was_loaded_goes(monkeypatch):
    fake = FakeCore()
    fake.busy_ports.add("COM3")
    monkeypatch.setattr(connecting, "_start", lambda microscope: fake)
    monkeypatch.setattr(connecting, "adapter_folder", lambda adapters: Path())
    port = {"label": "COM3", "library": "SerialManager", "name": "COM3"}
    hub = {"label": "Hub", "library": "Arduino", "name": "Arduino-Hub", "before": {"Port": "COM3"}}
    said = refusal(scope(devices=[port, hub]))
    assert "serial port of 'COM3' can't be opened" in said
    assert "dialout" in said
    assert not fake.devices
    fake.busy_ports.clear()
    said = refusal(scope(devices=[port, hub]))
    assert "'Hub' (Arduino) does not come up" in said, "the port is there, but another baud rate"
    assert fake.unloaded == 2


def test_labels_and_properties_with_dots():
    assert split_setting("My.LED.State", {"My.LED", "My"}) == ("My.LED", "State")
    assert split_setting("Camera.Rate. 1.5", {"Camera"}) == ("Camera", "Rate. 1.5")
    assert split_setting("Q.State", set()) == ("Q", "State")


class Vector:
    """A Java vector as pycromanager shows it."""

    def __init__(self, *values):
        self.values = list(values)

    def size(self):
        return len(self.values)

    def get(self, i):
        return self.values[i]

    def add(self, value):
        self.values.append(value)


def test_a_java_core_speaks_python():
    told = []

    def refuse(label):
        raise Exception('java.lang.Exception: No device with label "x"\n\tat mmcorej')

    def empty():
        raise Exception("java.lang.Exception: Circular buffer is empty.")

    remote = SimpleNamespace(
        get_auto_shutter=lambda: True,
        set_auto_shutter=lambda on: told.append(("shutter", on)),
        get_loaded_devices=lambda: Vector("Camera", "Core"),
        get_device_type=lambda label: SimpleNamespace(swig_value=lambda: 2),
        load_stage_sequence=lambda label, v: told.append((label, type(v).__name__, v.values)),
        device_busy=refuse,
        pop_next_tagged_image=empty,
    )
    core = JavaCore(remote, lambda name: Vector())
    assert core.get_loaded_devices() == ["Camera", "Core"]
    assert core.get_device_type("Camera") == 2
    core.load_stage_sequence("Z", [1.0, 2.0])
    assert told == [("Z", "Vector", [1.0, 2.0])]
    with pytest.raises(RuntimeError, match=r'^No device with label "x"$'):
        core.device_busy("x")
    with pytest.raises(IndexError):
        core.pop_next_tagged_image()
    core.set_auto_shutter(False)
    disconnect(core, scope(connection={"kind": "pycromanager"}))
    assert told[-1] == ("shutter", True), "a person works with that Micro-Manager, too"


def test_the_usual_folders_are_those_with_adapters(tmp_path, monkeypatch):
    monkeypatch.setattr(adapters.sys, "platform", "linux")
    monkeypatch.setattr(adapters.Path, "home", lambda: tmp_path)
    (tmp_path / "Micro-Manager-2.0").mkdir()
    assert tmp_path / "Micro-Manager-2.0" not in adapters.usual_folders()
    name = f"{adapters._PREFIX}Fake{adapters._SUFFIX}"
    (tmp_path / "Micro-Manager-2.0" / name).touch()
    assert tmp_path / "Micro-Manager-2.0" in adapters.usual_folders()


def test_an_experiment_names_its_key_in_the_yaml():
    with pytest.raises(ExperimentError, match=r"microscope\.setup\.LED\.Sequence: YAML reads On"):
        parse_experiment(
            {
                "microscope": {
                    "driver": "micromanager",
                    "camera": {"shape_px": [8, 8], "pixel_um": 1},
                    "config_file": "x.cfg",
                    "setup": {"LED.Sequence": True},
                }
            }
        )
