"""The experiment file: what is accepted, what is refused, and in which words."""

from pathlib import Path

import pytest
import yaml
from conftest import merged
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from pipeline.errors import ExperimentError
from pipeline.experiment import (
    Camera,
    CellSpecimen,
    TargetSpecimen,
    dump_experiment,
    load_experiment,
    parse_experiment,
)
from pipeline.experiment.fingerprint import chosen_content
from pipeline.experiment.reconstruction import OutputSettings
from pipeline.frames import FrameKey, Plan, PlannedChannel, Position

HALVES = {
    "source": "led_array",
    "array": {"rows": 15, "columns": 15, "pitch_mm": 4, "distance_mm": 90, "order": "spiral"},
    "patterns": {
        "left": {"kind": "half_circle", "direction_deg": 180},
        "right": {"kind": "half_circle", "direction_deg": 0},
    },
    "channels": {"left": {"pattern": "left"}, "right": {"pattern": "right"}},
}


def refusal(data):
    with pytest.raises(ExperimentError) as caught:
        parse_experiment(data)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"optics": {"numerical_apperture": 1}},
            ["optics", "numerical_apperture", "numerical_aperture"],
        ),
        ({"sequense": {}}, ["sequense", "sequence"]),
        ({"optics": {"numerical_aperture": 1.2}}, ["1.2", "refractive_index"]),
        ({"optics": {"wavelength_um": 550}}, ["optics.wavelength_um"]),
        ({"sequence": {"timepoints": 0}}, ["sequence.timepoints"]),
        ({"sequence": {"foci_um": [1, 1]}}, ["foci", "same"]),
        ({"sequence": {"foci_um": [float("nan")]}}, ["foci_um"]),
        ({"sequence": {"channels": ["brigthfield"]}}, ["brigthfield", "brightfield"]),
        ({"microscope": {"driver": "zeiss"}}, ["zeiss", "simulator"]),
        ({"microscope": {"camera": {"bit_depth": 9}}}, ["bit_depth"]),
        ({"calibration": {"source": "folder"}}, ["folder"]),
        ({"illumination": {"coherence": 2}}, ["coherence"]),
        ({"output": {"compression": "gzip"}}, ["compression"]),
    ],
)
def test_what_is_wrong_is_named(demo_data, changes, words):
    message = refusal(merged(demo_data, changes))
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patterns": {"x": {"kind": "leds", "leds": [225]}}}, ["225", "0 to 224"]),
        ({"patterns": {"x": {"kind": "leds", "leds": [3, 3]}}}, ["twice"]),
        (
            {
                "patterns": {"x": {"kind": "arc", "na_min": 0.5, "na_max": 0.6}},
                "channels": {"left": {"pattern": "x"}},
            },
            ["no LED", "0.40"],
        ),
        ({"channels": {"left": {"pattern": "rigth"}}}, ["rigth", "right"]),
        ({"array": {"rows": 14}}, ["spiral", "square"]),
    ],
)
def test_patterns_stay_inside_the_array(demo_data, changes, words):
    demo_data["illumination"] = merged(HALVES, changes)
    message = refusal(demo_data)
    for word in words:
        assert word in message


def test_half_circles_share_no_led_and_leave_the_axis_to_neither(demo_data):
    demo_data["illumination"] = HALVES
    light = parse_experiment(demo_data).illumination
    left, right = (set(light.leds(name, 0.1)) for name in ("left", "right"))
    assert left
    assert len(left) == len(right)
    assert not left & right
    sines = light.array.sines()
    assert all(sines[led, 0] < 0 for led in left)
    assert all(abs(sines[led, 0]) > 0.01 for led in left | right)


def test_a_spiral_starts_in_the_centre_and_visits_every_led_once(demo_data):
    demo_data["illumination"] = HALVES
    grid = parse_experiment(demo_data).illumination.array.grid()
    assert [tuple(p) for p in grid[:7]] == [
        (0, 0),
        (1, 0),
        (1, 1),
        (0, 1),
        (-1, 1),
        (-1, 0),
        (-1, -1),
    ]
    assert len({tuple(p) for p in grid}) == 225
    assert abs(grid).max() == 7


def test_what_is_written_is_read_back_the_same(tmp_path, make_experiment):
    experiment = make_experiment()
    path = tmp_path / "experiment.yaml"
    path.write_text(dump_experiment(experiment), encoding="utf-8")
    again = load_experiment(path)
    assert again == experiment
    assert again.fingerprint() == experiment.fingerprint()


def test_the_fingerprint_follows_what_is_measured_and_not_the_machine(make_experiment):
    base = make_experiment().fingerprint()
    assert make_experiment(output={"ring_gb": 1.5, "prometheus_port": 0}).fingerprint() == base
    assert make_experiment(reconstruction={"device": "cpu"}).fingerprint() == base
    assert make_experiment(microscope={"seed": 2}).fingerprint() != base
    assert make_experiment(sequence={"foci_um": [5.0]}).fingerprint() != base


def test_a_field_that_a_later_version_adds_leaves_the_fingerprint_as_it_is(make_experiment):
    class LaterCamera(Camera):
        cooling_c: float = -20.0

    class LaterOutput(OutputSettings):
        tags: list[str] = Field(default_factory=list)

    experiment = make_experiment(output={"shard_s": 2.0})
    microscope = experiment.microscope
    for changes, same in [({}, True), ({"cooling_c": -20.0}, True), ({"cooling_c": -10.0}, False)]:
        camera = LaterCamera(**microscope.camera.model_dump(), **changes)
        later = experiment.model_copy(
            update={
                "microscope": microscope.model_copy(update={"camera": camera}),
                "output": LaterOutput(**experiment.output.model_dump()),
            }
        )
        assert (later.fingerprint() == experiment.fingerprint()) == same


def test_the_fingerprint_tells_the_kinds_of_a_model_apart():
    """They may have the same fields, all at their defaults."""
    assert chosen_content(CellSpecimen()) == {"kind": "cells"}
    assert chosen_content(TargetSpecimen(kind="target")) == {"kind": "target"}


def test_a_slot_takes_as_long_as_its_exposures_and_the_camera_need(make_experiment):
    """Each frame for itself: a slow channel does not make up for a fast one's readout."""
    experiment = make_experiment(
        microscope={"camera": {"frame_rate_hz": 100.0}},
        illumination={"channels": {"a": {"exposure_ms": 1}, "b": {"exposure_ms": 50}}},
        sequence={"foci_um": [0.0, 1.0], "channels": ["a", "b"]},
    )
    assert experiment.slot_s() == pytest.approx(2 * (0.01 + 0.05))


@pytest.mark.parametrize("text", ["[1, 2", "just a word", ""])
def test_a_file_that_is_no_experiment(tmp_path, text):
    path = tmp_path / "experiment.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ExperimentError):
        load_experiment(path)


def test_a_file_that_is_not_there():
    with pytest.raises(ExperimentError, match=r"can't read .*nowhere\.yaml"):
        load_experiment(Path("nowhere.yaml"))


def test_paths_are_relative_to_the_file(tmp_path, demo_data):
    (tmp_path / "cal").mkdir()
    demo_data["calibration"] = {"source": "folder", "folder": "cal"}
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(demo_data), encoding="utf-8")
    assert load_experiment(path).calibration.folder == str(tmp_path / "cal")


USEQ = {
    "time_plan": {"interval": 2, "loops": 4},
    "channels": [{"config": "brightfield", "exposure": 3}],
    "z_plan": {"range": 4, "step": 2},
    "stage_positions": [{"x": 1, "y": 2, "name": "a"}, {"x": 5, "y": 6}],
    "axis_order": "tpcz",
}


def test_a_useq_sequence_is_accepted_as_it_is(demo_data):
    demo_data["sequence"] = USEQ
    experiment = parse_experiment(demo_data)
    plan = experiment.plan()
    assert (plan.timepoints, plan.interval_s, plan.foci_um) == (4, 2.0, (-2.0, 0.0, 2.0))
    assert plan.channels[0].exposure_ms == 3
    assert plan.positions == (Position("a", 1, 2), Position("position 1", 5, 6))


def test_a_useq_sequence_need_not_name_the_axes_that_it_has_not(demo_data):
    demo_data["sequence"] = {k: v for k, v in USEQ.items() if k != "z_plan"} | {"axis_order": "ptc"}
    plan = parse_experiment(demo_data).plan()
    assert (plan.timepoints, plan.slot_order, plan.foci_um) == (4, "pt", (0.0,))


def test_useq_and_our_plan_have_the_same_order(demo_data):
    import useq

    for order in ("tpcz", "tpzc", "ptcz", "ptzc"):
        data = {**USEQ, "axis_order": order, "stage_positions": [(0, 0), (1, 1)]}
        demo_data["sequence"] = data
        plan = parse_experiment(demo_data).plan()
        ours = [k for s in plan.slot_keys() for k in plan.frame_keys(s)]
        theirs = [
            FrameKey(*(event.index.get(axis, 0) for axis in "tpcz"))
            for event in useq.MDASequence.model_validate(data)
        ]
        assert ours == theirs


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"autofokus_plan": {}}, ["autofokus_plan", "autofocus_plan"]),
        ({"grid_plan": {"rows": 2, "columns": 2}}, ["grid_plan", "stage_positions"]),
        ({"axis_order": "ctpz"}, ["ctpz"]),
        ({"axis_order": "tpc"}, ["tpc", "leaves out z", "z_plan"]),
        ({"keep_shutter_open_across": ["z"]}, ["keep_shutter_open_across"]),
        ({"stage_positions": [{"x": 1, "y": 2, "z": 3}]}, ["position '0'", "z"]),
        ({"channels": [{"config": "brightfield", "acquire_every": 2}]}, ["acquire_every"]),
        ({"time_plan": [{"interval": 1, "loops": 2}, {"interval": 5, "loops": 3}]}, ["intervals"]),
    ],
)
def test_what_useq_can_say_and_we_can_not_is_refused(demo_data, changes, words):
    demo_data["sequence"] = {**USEQ, **changes}
    message = refusal(demo_data)
    for word in words:
        assert word in message


@settings(max_examples=40, deadline=None)
@given(
    t=st.integers(1, 5),
    p=st.integers(1, 3),
    c=st.integers(1, 4),
    z=st.integers(1, 4),
    slot_order=st.sampled_from(["tp", "pt"]),
    frame_order=st.sampled_from(["cz", "zc"]),
)
def test_a_plan_names_every_frame_once_and_gives_each_its_own_place(
    t, p, c, z, slot_order, frame_order
):
    plan = Plan(
        t,
        tuple(Position(str(i)) for i in range(p)),
        tuple(PlannedChannel(str(i), 1.0, 1.0) for i in range(c)),
        tuple(float(i) for i in range(z)),
        (4, 4),
        12,
        slot_order=slot_order,
        frame_order=frame_order,
    )
    slots = list(plan.slot_keys())
    assert len(set(slots)) == len(slots) == plan.slots
    assert all(plan.has(s) for s in slots)
    keys = [k for s in slots for k in plan.frame_keys(s)]
    assert len(set(keys)) == len(keys) == plan.frames
    assert sorted(plan.index(k) for k in plan.frame_keys(slots[0])) == list(
        range(plan.frames_per_slot)
    )


def test_the_ground_floor_does_not_import_torch():
    import subprocess
    import sys

    code = "import sys, pipeline.experiment, pipeline.frames, pipeline.calibration; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
