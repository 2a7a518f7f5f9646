"""Which light, which focus, which place: every frame of random programmes, decoded from Micro-Manager's SequenceTester.

A folder of experiment files on SequenceTester that LIVEPHASE_PROGRAMMES names is held against the same check.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from micromanager_devices import (
    OPTICS,
    check_programme,
    load,
    random_experiment,
    seq_experiment,
    seq_microscope,
    stored_experiments,
)

import pipeline
from drivers.driver import Arrived, Lost
from drivers.micromanager.light import PropertyLight
from drivers.micromanager.reach import Reach, endless_period, shortest_period
from drivers.registry import open_driver
from pipeline.errors import DriverError
from pipeline.experiment import parse_experiment
from pipeline.frames import MissingReason

HERE = Path(__file__).parent
PROGRAMMES = Path(os.environ.get("LIVEPHASE_PROGRAMMES") or HERE / "programmes")
RANDOM = 60
# pycromanager's headless core is one a process, and never let go: it has one of its own.
IN_ONE_PROCESS = """
import sys
from pathlib import Path
from micromanager_devices import check_programme, load, random_experiment, stored_experiments
from drivers.registry import open_driver

if __name__ == "__main__":
    for seed in range(int(sys.argv[1])):
        experiment = random_experiment(1000 + seed, "pycromanager")
        print("random", seed, check_programme(experiment, open_driver, seed), flush=True)
    for file in stored_experiments(Path(sys.argv[2])):
        print(file.name, check_programme(load(file, "pycromanager"), open_driver, 0), flush=True)
"""


@pytest.mark.parametrize("seed", range(RANDOM))
def test_micromanager_random_programmes_by_pymmcore(seed):
    assert check_programme(random_experiment(seed), open_driver, seed) > 0


@pytest.mark.parametrize("file", stored_experiments(PROGRAMMES), ids=lambda file: file.stem)
def test_micromanager_stored_programmes_by_pymmcore(file):
    assert check_programme(load(file), open_driver, 0) > 0


def test_micromanager_programmes_by_pycromanager():
    files = stored_experiments(PROGRAMMES)
    assert files, f"no programmes in {PROGRAMMES}"
    root = str(Path(pipeline.__file__).parent.parent)
    found = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS, "50", str(PROGRAMMES)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), root])},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-1000:] + found.stderr[-3000:]
    assert len(found.stdout.splitlines()) == 50 + len(files)


def test_micromanager_a_wrong_phase_is_seen():
    """The check can fail: devices whose triggers are in step are told that they are not."""
    wrong = seq_experiment(seq_microscope(light={"phase": 1}), timepoints=2)
    with pytest.raises(AssertionError, match="another light"):
        check_programme(wrong, open_driver, 1)


def test_micromanager_bursts_are_described():
    experiment = seq_experiment(
        seq_microscope(led_holds=2, burst_frames=50), timepoints=3, foci_um=[-1, 1]
    )
    driver = open_driver(experiment)
    lines = driver.bursts(list(experiment.plan().slot_keys()))
    text = "\n".join(lines)
    # Foci innermost: the LED's A A B B is not held by two values, so each channel is a burst.
    assert lines[0].startswith("12 x burst of 2 frames; light: constant; lens: hardware, 2 of")
    assert "cut 3 times a slot: light holds no more than 2" in text


def test_micromanager_make_safe_is_quick_and_needs_little():
    microscope = seq_microscope()
    # A camera that is not there must not keep the light on.
    microscope["devices"] = [
        {**d, "library": "Gone"} if d["label"] == "Cam" else d for d in microscope["devices"]
    ]
    driver = open_driver(seq_experiment(microscope))
    driver.make_safe()
    began = time.perf_counter()
    driver.make_safe()
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"light": {"settings": {"c0": {"XY.Name": "TXYStage-0"}}}},
        {"light": {"brightness": {"device": "Lamp", "property": "Level", "full": 1}}},
        {"light": {"values": {f"c{i}": 90 + i for i in range(4)}}},
        {"setup": {"XY.Speed": 3, "LED.Colour": "red"}},
        {"stage": {"device": "XYZ"}},
        {"lens": {"device": "XY"}},
        {"lens": {"device": "Lense"}},
    ],
    ids=["settings", "brightness", "values", "setup", "stage", "no lens", "missing lens"],
)
def test_micromanager_what_only_lighting_needs_does_not_keep_the_light_on(wrong, monkeypatch):
    """Each is wrong of a device that is not needed to put the light out, or is not there."""
    put_out = []
    real = PropertyLight.off
    monkeypatch.setattr(PropertyLight, "off", lambda light: (real(light), put_out.append(1))[0])
    driver = open_driver(seq_experiment(seq_microscope(**wrong)))
    if "lens" in wrong:
        with pytest.raises(DriverError):
            driver.make_safe()
    else:
        driver.make_safe()
    assert put_out == [1]


def test_micromanager_a_lens_that_is_not_there_does_not_keep_the_light_on():
    microscope = seq_microscope()
    devices = microscope["devices"]
    microscope["devices"] = [
        {**d, "library": "Gone"} if d["label"] == "Lens" else d for d in devices
    ]
    with pytest.raises(DriverError, match="no device adapter Gone"):
        open_driver(seq_experiment(microscope)).make_safe()


@pytest.mark.parametrize(
    ("camera", "exposure_ms", "refusal"),
    [
        ({"shape_px": [64, 64]}, 1.0, "shape_px"),
        ({"bit_depth": 12}, 1.0, "expects .* of 12 bits"),
        ({}, 0.01, "'Cam' makes 0.1 to 1000 ms"),
        ({}, 2000.0, "'Cam' makes 0.1 to 1000 ms"),
    ],
)
def test_micromanager_a_dry_run_refuses_what_the_camera_does_not_give(camera, exposure_ms, refusal):
    experiment = seq_experiment(seq_microscope(camera=camera), exposures_ms=[exposure_ms] * 4)
    with pytest.raises(DriverError, match=refusal):
        open_driver(experiment).bursts(list(experiment.plan().slot_keys()))


@pytest.mark.parametrize("values", ["AAAA", "ABAB", "ABABA", "AABAAB", "ABC", "AABBA", "A"])
def test_micromanager_periods(values):
    period = shortest_period(values)
    assert all(values[i] == values[i % period] for i in range(len(values)))
    assert not any(
        all(values[i] == values[i % q] for i in range(len(values))) for q in range(1, period)
    )
    endless = endless_period(values)
    assert (values * 3) == (values[:endless] * (3 * len(values) // endless))
    for holds in range(6):
        length = Reach(holds).longest(values)
        assert shortest_period(values[:length]) <= max(holds, 1)
        assert length == len(values) or shortest_period(values[: length + 1]) > max(holds, 1)


def demo_camera(buffer_mb, timepoints):
    return parse_experiment(
        {
            "microscope": {
                "driver": "micromanager",
                "camera": {"shape_px": [512, 512], "pixel_um": 6.5, "bit_depth": 16},
                "connection": {"kind": "in_process", "buffer_mb": buffer_mb},
                "devices": [
                    {"label": "Cam", "library": "DemoCamera", "name": "DCam"},
                    {"label": "LED", "library": "DemoCamera", "name": "DStateDevice"},
                ],
                "setup": {"Cam.PixelType": "16bit", "Cam.FastImage": 1, "LED.Sequence": "On"},
                "camera_device": "Cam",
                "light": {
                    "device": "LED",
                    "property": "State",
                    "values": {"a": 1, "b": 2, "c": 3, "d": 4},
                    "off": 0,
                },
            },
            "optics": OPTICS,
            "illumination": {
                "source": "condenser",
                "channels": {name: {"exposure_ms": 2.0} for name in "abcd"},
            },
            "sequence": {"timepoints": timepoints},
            "reconstruction": {"method": "none"},
        }
    )


def test_micromanager_a_buffer_too_small_overflows_and_every_frame_is_accounted_for():
    import numpy as np

    experiment = demo_camera(buffer_mb=4, timepoints=40)  # eight frames
    plan = experiment.plan()
    driver = open_driver(experiment)
    assert driver.open().frame_shape == (512, 512)
    pixels = np.zeros((512, 512), np.uint16)
    blocked = []

    def destination(key):
        # As with a full ring, now and then: the camera goes on meanwhile.
        if key.timepoint % 10 == 3 and key.timepoint not in blocked:
            blocked.append(key.timepoint)
            time.sleep(0.1)
        pixels[:] = 0
        return pixels

    fate = {}
    todo = list(plan.slot_keys())
    bursts = overflows = 0
    try:
        while todo:
            bursts += 1
            driver.arm(todo)
            numbers = []
            while (event := driver.next_frame(destination)) is not None:
                keys = (event.key,) if isinstance(event, Arrived) else event.keys
                for key in keys:
                    assert key not in fate
                    fate[key] = event
                if isinstance(event, Arrived):
                    numbers.append(event.image_number)
                    assert pixels.any(), "no frame was written"
                    assert 0 <= event.buffer_fill <= 1
                else:
                    assert event.reason == MissingReason.OVERFLOW
                    overflows += 1
            assert numbers == list(range(len(numbers)))
            done = {key.slot for key in fate}
            todo = [slot for slot in todo if slot not in done]
    finally:
        driver.close()
    assert overflows >= 2
    assert bursts == overflows + 1 or (bursts == overflows and not todo)
    assert set(fate) == {k for slot in plan.slot_keys() for k in plan.frame_keys(slot)}
    assert sum(isinstance(event, Lost) for event in fate.values()) <= 4 * overflows
    assert "overflowed" in " ".join(driver.messages())
