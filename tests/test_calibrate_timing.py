"""Light and camera: every way of being out of step is found and named, with noise, by its shares."""

import numpy as np
import pytest

from drivers.taking import Microscope
from pipeline.calibrate.light_lag import code
from pipeline.calibrate.light_verdict import judge
from pipeline.calibrate.step import CalibrationRefusedError
from pipeline.calibrate.timing import Timing, lit_first
from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.experiment import parse_experiment

LEDS = {
    "source": "led_array",
    "array": {"rows": 5, "columns": 5, "pitch_mm": 5, "distance_mm": 70},
    "patterns": {
        "right": {"kind": "half_circle", "direction_deg": 0},
        "left": {"kind": "half_circle", "direction_deg": 180},
    },
    "channels": {"right": {"pattern": "right"}, "left": {"pattern": "left"}},
}


def experiment(seed=1, electrons=15000.0, faults=None, **imperfections):
    return parse_experiment(
        {
            "microscope": {
                "driver": "simulator",
                "seed": seed,
                "camera": {"shape_px": [48, 40], "pixel_um": 6.5},
                "specimen": {"kind": "cells"},
                "electrons": electrons,
                "paced": False,
                "imperfections": imperfections,
                "faults": faults or {},
            },
            "optics": {"wavelength_um": 0.53, "numerical_aperture": 0.2, "magnification": 10},
            "illumination": LEDS,
            "sequence": {"timepoints": 2},
        }
    )


def found(*args, step=None, **kwargs):
    e = experiment(*args, **kwargs)
    with Microscope(e) as microscope:
        return (step or Timing()).measure(microscope, e, Calibration())


def test_the_code_differs_from_each_of_its_shifts_in_half_of_the_frames():
    bits = code().astype(int) * 2 - 1
    assert [int(bits @ np.roll(bits, k)) for k in range(31)] == [31] + [-1] * 30
    assert lit_first()[0]
    assert not lit_first()[[1, -1]].any()


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("electrons", [15000.0, 300.0])
def test_an_instrument_in_step_is_said_to_be(seed, electrons):
    finding = found(seed, electrons, vignetting=0.3)
    assert finding.calibration.timing == "in step"
    assert finding.figures["share_sigma"] < 0.003
    assert not finding.warnings


FAULTS = {
    "late": ({"light_late_frames": 1}, {"late_frames": 1}, ["one frame late"]),
    "mixed": ({"light_mixing": 0.15}, {"mixed_share": 0.15}, ["mixed: 15%"]),
    "hardly mixed": ({"light_mixing": 0.03}, {"mixed_share": 0.03}, ["mixed: 3%"]),
    "rolling": (
        {"rolling_shutter": 0.3},
        {"rolling_share": 0.3},
        ["rolling-shutter overlap: 30%", "from the first row to the last"],
    ),
    "little rolling": ({"rolling_shutter": 0.05}, {"rolling_share": 0.05}, ["rolling-shutter"]),
    "mixed and rolling": (
        {"light_mixing": 0.2, "rolling_shutter": 0.4},
        {"mixed_share": 0.2, "rolling_share": 0.4},
        ["mixed: 20%", "rolling-shutter overlap: 40%"],
    ),
    "late and mixed": (
        {"light_late_frames": 1, "light_mixing": 0.3},
        {"late_frames": 1, "mixed_share": 0.3},
        ["one frame late", "mixed: 30%"],
    ),
    "all three": (
        {"light_late_frames": 1, "light_mixing": 0.1, "rolling_shutter": 0.2},
        {"late_frames": 1, "mixed_share": 0.1, "rolling_share": 0.2},
        ["one frame late", "mixed: 10%", "rolling-shutter overlap: 20%"],
    ),
}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_with_its_share(fault, seed):
    wrong, figures, words = FAULTS[fault]
    finding = found(seed, 5000.0, **wrong)
    expected = {"late_frames": 0, "mixed_share": 0.0, "rolling_share": 0.0} | figures
    for name, value in expected.items():
        assert finding.figures[name] == pytest.approx(value, abs=0.006), name
    verdict = finding.calibration.timing
    assert all(w in verdict for w in words), verdict
    assert verdict.count(";") == len(figures) - 1
    assert len(finding.warnings) == len(figures)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_missed_triggers_are_found_to_the_frame(seed):
    finding = found(seed, 5000.0, light_missed_triggers=[40, 71])
    assert np.abs(np.array(finding.figures["slips_after_frame"]) - [39, 70]).max() <= 2
    assert finding.figures["slips_by_frames"] == [1, 1]
    assert finding.figures["late_frames"] == 0
    assert finding.calibration.timing.startswith("slips: after frame")


def test_a_slip_does_not_hide_a_mixture():
    finding = found(2, 5000.0, light_missed_triggers=[75], light_mixing=0.2)
    assert finding.figures["mixed_share"] == pytest.approx(0.2, abs=0.01)
    assert finding.figures["slips_by_frames"] == [1]


def test_frames_that_the_camera_lost_are_no_slips():
    finding = found(faults={"drop_frames": [5, 17, 18, 60]})
    assert finding.calibration.timing == "in step"
    assert finding.figures["frames_lost"] == 4


def synthetic(level, rows=32, noise=2.0, seed=0):
    """Frames ``[N, rows, 8]`` of these levels, ``[N]`` or ``[N, rows]``, in counts."""
    level = np.asarray(level, float)
    level = level[:, None] if level.ndim == 1 else level
    chance = np.random.default_rng(seed)
    counts = 100 + 500 * np.broadcast_to(level, (len(level), rows))[..., None]
    return (counts + noise * chance.standard_normal((len(level), rows, 8))).astype(np.uint16)


ASKED = np.tile(lit_first(), 3)
THERE = np.ones(len(ASKED), bool)


def judged(level, **kwargs):
    return judge(synthetic(level, **kwargs), ASKED, there=THERE, offset_counts=100.0)


def test_a_light_that_steps_on_before_the_first_frame_is_early():
    timing = judged(np.roll(ASKED, -1))
    assert timing.verdict == "one frame early"
    assert timing.late_frames == -1


def test_light_of_the_frame_after_in_all_rows_is_a_mixture_not_a_rolling_shutter():
    timing = judged(0.8 * ASKED + 0.2 * np.roll(ASKED, -1))
    assert timing.mixed_share == pytest.approx(-0.2, abs=0.005)
    assert timing.rolling_share == 0
    assert "frame after" in timing.verdict


def test_a_sensor_read_from_its_middle_is_recognised():
    after = 0.3 * np.abs(np.linspace(-1, 1, 32))
    now, then = ASKED[:, None], np.roll(ASKED, -1)[:, None]
    timing = judged(now * (1 - after) + then * after)
    assert timing.rolling_way == "from the middle to the edges"
    assert timing.rolling_share == pytest.approx(0.3, abs=0.02)


def test_a_turned_image_has_its_shutter_along_the_columns():
    after = 0.3 * np.linspace(0, 1, 32)
    now, then = ASKED[:, None], np.roll(ASKED, -1)[:, None]
    frames = synthetic(now * (1 - after) + then * after, rows=32)[:, :, :1]
    timing = judge(
        np.repeat(frames, 32, axis=2).transpose(0, 2, 1), ASKED, there=THERE, offset_counts=100.0
    )
    assert timing.rolling_way == "from the first column to the last"


@pytest.mark.parametrize(("level", "word"), [(0.0, "off"), (1.0, "on")])
def test_a_light_that_does_not_answer_is_named(level, word):
    timing = judged(np.full(len(ASKED), level))
    assert timing.verdict == f"light never changes: it is always {word}"


@pytest.mark.parametrize("seed", range(4))
def test_a_light_that_follows_no_rule_is_random(seed):
    timing = judged(np.random.default_rng(seed).integers(0, 2, len(ASKED)), seed=seed)
    assert timing.verdict.startswith("random")


def test_a_few_wrong_frames_are_intermittent():
    level = ASKED.astype(float)
    level[[20, 50, 77]] = 1 - level[[20, 50, 77]]
    timing = judged(level)
    assert timing.verdict == "intermittent: 3 frames show another light"
    assert timing.slips.strays == (20, 50, 77)


def test_a_burst_that_begins_in_the_dark_is_said():
    e = experiment()
    level = ASKED.astype(float)
    level[0] = 0.2
    timing = judged(level)
    assert timing.verdict == "in step"
    assert timing.first_frame_share == pytest.approx(0.2, abs=0.01)
    from pipeline.calibrate.timing import _advice

    assert "first frame" in _advice(timing, e)[0]


def test_saturating_light_is_exposed_for_less_time():
    finding = found(electrons=60000.0)
    assert finding.figures["exposure_ms"] < 10
    assert finding.calibration.timing == "in step"


def test_too_many_lost_frames_are_refused():
    with pytest.raises(CalibrationRefusedError, match="lost"):
        found(faults={"drop_share": 0.5})


def test_an_unknown_channel_is_refused():
    with pytest.raises(CalibrationRefusedError, match="right, left"):
        found(step=Timing(channel="rihgt"))


def micromanager(**light):
    return parse_experiment(
        {
            "microscope": {
                "driver": "micromanager",
                "camera": {"shape_px": [64, 48], "pixel_um": 6.5},
                "devices": [{"label": "Camera", "library": "DemoCamera", "name": "DCam"}],
                "light": {
                    "device": "LED",
                    "property": "State",
                    "values": {"right": 1, "left": 2},
                    "off": 0,
                }
                | light,
            },
            "optics": {"wavelength_um": 0.53, "numerical_aperture": 0.2, "magnification": 10},
            "illumination": LEDS,
            "sequence": {"timepoints": 2},
        }
    )


@pytest.mark.parametrize(
    ("shift", "phase", "fix"),
    [
        (1, 0, "phase: -1"),
        (-1, 0, "phase: 1"),
        (1, 1, "phase: 0"),
        (1, -1, "count the camera's triggers"),
    ],
)
def test_the_fix_names_the_phase_to_set(shift, phase, fix):
    from pipeline.calibrate.timing import _advice

    timing = judged(np.roll(ASKED, shift))
    assert fix in _advice(timing, micromanager(phase=phase))[0]


def test_it_is_of_no_use_where_the_light_cannot_be_coded():
    assert Timing().needed(experiment()) is None
    assert Timing().needed(micromanager()) is None
    built_in = {"order": ["right", "left"], "start": {"LED.Start": "1"}}
    assert "firmware" in Timing().needed(micromanager(sequencing="firmware", firmware=built_in))
    with pytest.raises(ExperimentError):
        micromanager(sequencing="firmware")
