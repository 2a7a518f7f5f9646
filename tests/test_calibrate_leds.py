"""Orientation and intensities of the LEDs from a specimen's own frames, against what the simulator hides."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from drivers.simulator.instrument import SimulatedInstrument
from drivers.taking import Microscope
from pipeline.calibrate import led_frames, led_intensity, orientation
from pipeline.calibrate.led_intensity import LedIntensity
from pipeline.calibrate.orientation import Orientation
from pipeline.calibrate.step import CalibrationRefusedError
from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.experiment import load_experiment, parse_experiment
from pipeline.optics.illumination import calibrated_source, channel_source
from pipeline.optics.sensor import Correction

torch.set_num_threads(1)

# 13 LEDs within NA 0.25, three or four on each side; six beyond it on each axis.
ARRAY = {"rows": 7, "columns": 7, "pitch_mm": 7.0, "distance_mm": 60.0}
HALVES = {
    name: {"kind": "half_circle", "direction_deg": angle}
    for name, angle in (("right", 0), ("top", 90), ("left", 180), ("bottom", 270))
}
EIGHT = [(flip, angle) for flip in (False, True) for angle in (0.0, 90.0, 180.0, 270.0)]


def experiment(seed=3, foci=(0.0,), specimen=None, patterns=None, electrons=5000, **wrong):
    patterns = patterns or HALVES
    cells = {"kind": "cells", "cells_per_mm2": 1500.0, "absorption": 0.3}
    return parse_experiment(
        {
            "microscope": {
                "driver": "simulator",
                "seed": seed,
                "paced": False,
                "electrons": electrons,
                "camera": {"shape_px": [96, 96], "pixel_um": 6.5},
                "specimen": specimen or cells,
                "imperfections": wrong,
            },
            "optics": {"wavelength_um": 0.53, "numerical_aperture": 0.25, "magnification": 10},
            "illumination": {
                "source": "led_array",
                "array": ARRAY,
                "patterns": patterns,
                "channels": {name: {"pattern": name} for name in patterns},
            },
            "sequence": {"timepoints": 1, "foci_um": list(foci)},
        }
    )


def measure(step, e, known=None):
    with Microscope(e) as microscope:
        return step.measure(microscope, e, known or Calibration())


def truth(e):
    return SimulatedInstrument(e).calibration()


def turn_between(found, true):
    """Degrees from one orientation to the other; 999 where one is the other's mirror image."""
    rest = found.matrix() @ true.matrix().T
    if np.linalg.det(rest) < 0:
        return 999.0
    return abs(float(np.rad2deg(np.arctan2(rest[1, 0], rest[0, 0]))))


@pytest.fixture
def own_patterns_only(monkeypatch):
    """The light of a TTL array: nothing but the experiment's channels, and no lens."""
    for module in (led_frames, orientation, led_intensity):
        monkeypatch.setattr(module, "shows_any_pattern", lambda _: False)
    monkeypatch.setattr(orientation, "moves_focus", lambda _: False)


@pytest.mark.parametrize(("flip", "angle"), EIGHT)
def test_all_eight_from_four_half_circles_alone(own_patterns_only, flip, angle):
    e = experiment(seed=int(angle) + flip, led_flip_x=flip, led_rotation_deg=angle)
    found = measure(Orientation(), e)
    assert turn_between(found.calibration.led_orientation, truth(e).led_orientation) < 1e-6
    assert found.figures["confidence"] > 1.2
    assert found.figures["patterns"] == list(HALVES)


@pytest.mark.parametrize("swap", [False, True])
def test_swapped_axes_where_leds_and_lens_are_free(swap):
    e = experiment(seed=8, led_flip_x=True, led_swap_xy=swap, led_intensity_sigma=0.15)
    found = measure(Orientation(), e)
    assert turn_between(found.calibration.led_orientation, truth(e).led_orientation) < 1e-6
    assert len(found.figures["foci_um"]) == 2


def test_single_leds_of_the_experiments_own_are_summed(own_patterns_only):
    radius = led_frames.radii_na(experiment())
    singles = {
        f"led {led}": {"kind": "leds", "leds": [int(led)]} for led in np.flatnonzero(radius < 0.25)
    }
    e = experiment(
        patterns=singles, led_flip_x=True, led_rotation_deg=90.0, led_intensity_sigma=0.15
    )
    found = measure(Orientation(), e)
    assert turn_between(found.calibration.led_orientation, truth(e).led_orientation) < 1e-6
    assert found.figures["patterns"] == ["half 0", "half 90", "half 180", "half 270"]


def test_a_small_rotation_is_measured_with_its_uncertainty():
    e = experiment(led_rotation_deg=-85.0, electrons=15000)
    found = measure(Orientation(), e)
    sigma = found.figures["rotation_sigma_deg"]
    assert turn_between(found.calibration.led_orientation, truth(e).led_orientation) < 2.5 * sigma
    assert sigma < 3


def test_the_direction_of_a_calibrated_lens_outweighs_the_specimen():
    """Beads less dense than their medium look like cells under the turned array; the lens knows better."""
    hollow = {"kind": "target", "shape": "beads", "size_um": 8.0, "phase_rad": -1.0}
    e = experiment(specimen=hollow, electrons=15000)
    known = replace(Calibration(), z_scale=1.0)
    found = measure(Orientation(), e, known)
    assert turn_between(found.calibration.led_orientation, truth(e).led_orientation) < 1e-6
    assert "lens" in found.figures["sign_from"]
    assert len(found.warnings) == 1


def test_a_lens_that_runs_backwards_is_told():
    e = experiment(z_scale=-1.0)
    found = measure(Orientation(), e)
    assert turn_between(found.calibration.led_orientation, truth(e).led_orientation) < 1e-6
    assert "specimen" in found.figures["sign_from"]
    assert "lens" in found.warnings[0]


def test_an_empty_field_and_alike_patterns_are_refused(own_patterns_only):
    blank = {"kind": "target", "shape": "blank"}
    with pytest.raises(CalibrationRefusedError, match="don't tell"):
        measure(Orientation(), experiment(specimen=blank))
    two = {name: HALVES[name] for name in ("left", "right")}
    with pytest.raises(CalibrationRefusedError, match="patterns look alike"):
        measure(Orientation(), experiment(patterns=two))


def test_a_condenser_needs_neither():
    data = experiment().model_dump(mode="json")
    data["illumination"] = {"source": "condenser"}
    e = parse_experiment(data)
    assert "condenser" in Orientation().needed(e)
    assert "condenser" in LedIntensity().needed(e)
    assert Orientation().needed(experiment()) is None


@pytest.mark.parametrize("vignetting", [0.0, 0.4])
def test_intensities_within_three_percent(vignetting):
    e = experiment(led_intensity_sigma=0.15, vignetting=vignetting)
    found = measure(LedIntensity(), e)
    true = truth(e).led_intensity
    assert set(found.calibration.led_intensity) | set(
        found.figures["left_out"]["at the pupil's edge"]
    ) == {int(led) for led in lit(e)}
    leds = list(found.calibration.led_intensity)
    measured = np.array([found.calibration.led_intensity[led] for led in leds])
    expected = np.array([true[led] for led in leds])
    assert expected.std() > 0.05
    np.testing.assert_allclose(measured, expected / expected.mean(), rtol=0.03)
    np.testing.assert_allclose(measured.mean(), 1)


def lit(e):
    light = e.illumination
    return np.unique(np.concatenate([light.leds(p, 0.25) for p in light.patterns]))


def test_darkfield_leds_stay_unknown():
    ring = {"ring": {"kind": "arc", "na_min": 0.3, "na_max": 0.4}}
    found = measure(LedIntensity(), experiment(patterns=HALVES | ring, led_intensity_sigma=0.1))
    dark = found.figures["left_out"]["darkfield"]
    assert len(dark) > 3
    assert not set(dark) & set(found.calibration.led_intensity)


def test_patterns_are_compared_where_single_leds_cant_be_lit(own_patterns_only):
    e = experiment(channel_intensity={"left": 1.5})
    known = replace(Calibration(), led_intensity={3: 1.1})
    found = measure(LedIntensity(), e, known)
    shown = found.figures["pattern_intensity"]
    others = np.mean([shown[name] for name in ("right", "top", "bottom")])
    assert shown["left"] / others == pytest.approx(1.5, rel=0.03)
    assert found.calibration.led_intensity == {3: 1.1}
    assert "left" in found.warnings[0]


def test_measured_intensities_count_in_every_model_of_the_light():
    e = experiment(led_intensity_sigma=0.3, led_flip_x=True, led_rotation_deg=5.0)
    known = truth(e)
    source = calibrated_source(e, "right", known)
    plain = channel_source(e, "right", known.led_orientation)
    np.testing.assert_array_equal(source.frequencies, plain.frequencies)
    leds = e.illumination.leds("right", 0.25)
    expected = np.array([known.led_intensity[int(led)] for led in leds])
    np.testing.assert_allclose(source.weights, expected / expected.sum())
    assert source.power == pytest.approx(expected.sum())
    beyond = replace(known, led_intensity={49: 1.0})
    with pytest.raises(ExperimentError, match="LED 49"):
        calibrated_source(e, "right", beyond)


def test_a_darkfield_level_follows_the_measured_intensities():
    ring = {"ring": {"kind": "arc", "na_min": 0.3, "na_max": 0.4}}
    e = experiment(patterns={"right": HALVES["right"]} | ring)
    raw = np.full((2, 96, 96), 1100, np.uint16)
    bright = {int(led): 2.0 for led in e.illumination.leds("ring", 0.25)}
    levels = [
        Correction(e, known, [0, 1]).correct(raw, np.ones(2, bool)).level[1].item()
        for known in (Calibration(), Calibration(led_intensity=bright))
    ]
    assert levels[1] == pytest.approx(2 * levels[0])


needs_data = pytest.mark.skipif(
    not os.environ.get("LIVEPHASE_DATA"), reason="LIVEPHASE_DATA names no folder of public data"
)


@needs_data
@pytest.mark.parametrize(
    ("colour", "wavelength_um", "offset_mm", "z_um"),
    [("red", 0.63, 0.0, -55.0), ("blue", 0.475, 0.65, -15.0), ("blue", 0.475, 0.65, 0.0)],
)
def test_the_blood_smears_lie_as_their_readme_says(colour, wavelength_um, offset_mm, z_um):
    """The spectrum's shift is minus the LED's direction, axes not swapped: our plain orientation."""
    path = Path(__file__).parents[1] / "deploy" / "experiments" / "bloodsmear_blue_dpc.yaml"
    data = load_experiment(path).model_dump(mode="json")
    data["microscope"] |= {"source": f"bloodsmear_{colour}.mat", "pace": "fast"}
    data["optics"]["wavelength_um"] = wavelength_um
    data["illumination"]["array"]["offset_mm"] = [0.0, offset_mm]
    data["sequence"]["foci_um"] = [z_um]
    found = measure(Orientation(), parse_experiment(data))
    o = found.calibration.led_orientation
    assert not o.flip_x
    assert not o.swap_xy
    assert abs(o.rotation_deg) < 4
    assert found.figures["confidence"] > 3


@needs_data
def test_intensities_of_the_blood_smears_array():
    path = Path(__file__).parents[1] / "deploy" / "experiments" / "bloodsmear_blue_dpc.yaml"
    data = load_experiment(path).model_dump(mode="json")
    data["microscope"]["pace"] = "fast"
    found = measure(LedIntensity(), parse_experiment(data))
    values = np.array(list(found.calibration.led_intensity.values()))
    assert len(values) >= 16
    # An array of one make: its makers bin LEDs to some ten percent.
    assert 0 < values.std() < 0.15
