"""LED arrays of any geometry, and which of their LEDs a pattern owns."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import merged

from pipeline.errors import ExperimentError
from pipeline.experiment import parse_experiment

GRID = {"rows": 5, "columns": 5, "pitch_mm": 4.0, "distance_mm": 68.0}


def light_of(demo_data, array, patterns=None, **more):
    patterns = patterns or {"all": {"kind": "arc", "na_min": 0, "na_max": 0.9}}
    channels = {name: {"pattern": name} for name in patterns}
    light = {"source": "led_array", "array": array, "patterns": patterns, "channels": channels}
    data = {**demo_data, "illumination": {**light, **more}, "reconstruction": {"method": "none"}}
    return parse_experiment(data)


def test_a_ring_in_a_plane_and_one_on_a_dome_light_from_where_they_are(demo_data):
    flat = light_of(
        demo_data,
        {"kind": "rings", "distance_mm": 60.0, "rings": [{"count": 8, "radius_mm": 45.0}]},
    ).illumination.array
    assert np.hypot(*flat.sines().T) == pytest.approx(0.6)
    assert flat.sines()[2] == pytest.approx([0, 0.6], abs=1e-12)
    rings = [{"count": 1, "polar_deg": 0}, {"count": 6, "polar_deg": 30, "first_deg": 90}]
    dome = light_of(demo_data, {"kind": "dome", "radius_mm": 50.0, "rings": rings})
    sines = dome.illumination.array.sines()
    assert sines[0] == pytest.approx([0, 0])
    assert np.hypot(*sines[1:].T) == pytest.approx(0.5)
    assert sines[1] == pytest.approx([0, 0.5], abs=1e-12)


def test_measured_places_of_a_grid_are_the_grid(demo_data):
    grid = light_of(demo_data, GRID).illumination.array
    places = grid.own_places_mm().tolist()
    measured = light_of(demo_data, {"kind": "measured", "leds_mm": places}).illumination.array
    assert measured.sines() == pytest.approx(grid.sines())


def test_beside_the_axis_every_led_stands_elsewhere(demo_data):
    array = light_of(demo_data, GRID).illumination.array
    middle = array.grid().tolist().index([0, 0])
    one_pitch_right = array.grid().tolist().index([1, 0])
    assert array.sines((4.0, 0.0))[one_pitch_right] == pytest.approx([0, 0], abs=1e-12)
    assert array.sines((4.0, 0.0))[middle] == pytest.approx(array.sines()[middle - 1])


@pytest.mark.parametrize(
    ("array", "words"),
    [
        ({"kind": "ring"}, ["illumination.array", "ring", "did you mean 'rings'"]),
        (
            {"kind": "rings", "distance_mm": 1, "rings": [{"count": 2, "polar_deg": 3}]},
            ["radius_mm"],
        ),
        ({"kind": "dome", "radius_mm": 9, "rings": [{"count": 2, "radius_mm": 3}]}, ["polar_deg"]),
        ({"kind": "measured", "leds_mm": [[0, 0, -3]]}, ["LED 0", "z -3"]),
        (
            {"kind": "dome", "radius_mm": 9, "rings": [{"count": 0, "polar_deg": 3}]},
            ["rings.0.count"],
        ),
    ],
)
def test_impossible_arrays_are_refused_at_their_key(demo_data, array, words):
    with pytest.raises(ExperimentError) as refusal:
        light_of(demo_data, array)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    ("axis", "each", "shared"), [("neither", 3, 0), ("one", 4, 0), ("both", 6, 3)]
)
def test_the_axis_of_half_circles_is_owned_by_the_stated_rule(demo_data, axis, each, shared):
    """Nine brightfield LEDs, as with a 4x / 0.1 objective: three in each half, three on the line between."""
    patterns = {
        name: {"kind": "half_circle", "direction_deg": d, "axis": axis, "na_max": 0.1}
        for name, d in (("right", 0), ("left", 180))
    }
    light = light_of(demo_data, GRID, patterns).illumination
    right, left = (set(light.leds(name, 0.1)) for name in ("right", "left"))
    assert (len(right), len(left), len(right & left)) == (each, each, shared)


def test_arcs_that_meet_share_no_led_and_lose_none(demo_data):
    """Twelve LEDs at 0, 30, 60, …: the arcs' edges lie exactly on some of them."""
    rings = [{"count": 12, "radius_mm": 20.0}]
    arcs = {
        f"arc {d}": {
            "kind": "arc",
            "na_min": 0.1,
            "na_max": 0.9,
            "direction_deg": d,
            "width_deg": 120,
        }
        for d in (0, 120, 240)
    }
    array = {"kind": "rings", "distance_mm": 60.0, "rings": rings}
    light = light_of(demo_data, array, arcs).illumination
    lit = [light.leds(name, 0.1).tolist() for name in arcs]
    assert sorted(led for leds in lit for led in leds) == list(range(12))
    assert [len(leds) for leds in lit] == [4, 4, 4]


def test_one_by_one_is_every_led_from_the_axis_outwards(demo_data):
    wanted = {"na_max": 0.09, "exposure_ms": 5, "darkfield_exposure_ms": 50}
    experiment = light_of(
        merged(demo_data, {"optics": {"numerical_aperture": 0.07}}), GRID, one_by_one=wanted
    )
    single = [n for n in experiment.channel_names if n.startswith("led_")]
    assert len(single) == 9
    assert single[0] == "led_012"
    exposures = [experiment.illumination.channels[n].exposure_ms for n in single]
    assert exposures == [5] * 5 + [50] * 4
    lit = [experiment.illumination.leds(n, 0.07).tolist() for n in single]
    assert all(len(leds) == 1 for leds in lit)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"na_maxi": 1}, ["illumination.one_by_one", "na_max"]),
        ({"exposure_ms": -1}, ["illumination.one_by_one.exposure_ms"]),
        ({"na_max": 1e-9}, []),
    ],
)
def test_one_by_one_is_checked(demo_data, wanted, words):
    array = {**GRID, "rows": 4, "columns": 4} if not words else GRID
    with pytest.raises(ExperimentError) as refusal:
        light_of(demo_data, array, one_by_one=wanted)
    for word in words or ["leaves no LED"]:
        assert word in str(refusal.value)
