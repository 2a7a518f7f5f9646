"""The lens: scale, sign, zero and magnification from through-focus series, without the truth; and refusals."""

import numpy as np
import pytest
import torch

from drivers.taking import Microscope, Taken
from pipeline.calibrate.lens import Lens
from pipeline.calibrate.step import CalibrationRefusedError
from pipeline.calibrate.through_focus import Series, unzoomed
from pipeline.calibration import Calibration
from pipeline.experiment import parse_experiment
from pipeline.optics.illumination import calibrated_source

BEADS = {"kind": "target", "shape": "beads", "size_um": 5.0, "phase_rad": 0.8}
BLANK = {"kind": "target", "shape": "blank"}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def experiment(
    size=136, specimen=None, electrons=15000.0, seed=1, coherence=0.0, binning=2, **imperfections
):
    return parse_experiment(
        {
            "microscope": {
                "driver": "simulator",
                "seed": seed,
                "camera": {"shape_px": [size, size], "pixel_um": 6.5, "binning": binning},
                "specimen": specimen or BEADS,
                "electrons": electrons,
                "paced": False,
                "imperfections": imperfections,
            },
            "optics": {"wavelength_um": 0.53, "numerical_aperture": 0.4, "magnification": 20},
            "illumination": {"source": "condenser", "coherence": coherence},
            "sequence": {"timepoints": 1, "foci_um": [-2.0, 0.0, 2.0]},
        }
    )


def found(e, known=None, **options):
    with Microscope(e) as microscope:
        return Lens(**options).measure(microscope, e, known or Calibration())


@pytest.mark.parametrize(
    ("wrong", "more"),
    [
        ({"z_scale": 1.13, "z_zero_um": 1.2, "magnification_per_um": 1e-3}, {}),
        ({"z_scale": -0.88, "z_zero_um": -0.7}, {"electrons": 5000.0, "seed": 2}),
        pytest.param(
            {"z_scale": -1.05, "z_zero_um": 0.4, "magnification_per_um": -5e-4},
            {"specimen": {"kind": "cells"}, "electrons": 5000.0, "seed": 8, "size": 208},
            marks=pytest.mark.soak,
        ),
    ],
)
def test_the_lens_is_found_without_the_truth(wrong, more):
    finding = found(experiment(**more, **wrong))
    lens, figures = finding.calibration, finding.figures
    assert lens.z_scale == pytest.approx(wrong["z_scale"], rel=0.02)
    assert lens.z_zero_um == pytest.approx(wrong["z_zero_um"], abs=0.1)
    true = wrong.get("magnification_per_um", 0.0)
    within = max(0.1 * abs(true), 3 * figures["magnification_sigma_per_um"])
    assert lens.magnification_per_um == pytest.approx(true, abs=within)
    assert figures["magnification_sigma_per_um"] < 1e-4
    assert abs(lens.z_scale - wrong["z_scale"]) < 2.5 * lens.z_scale_sigma
    assert abs(lens.z_zero_um - wrong["z_zero_um"]) < 2.5 * lens.z_zero_sigma_um
    assert figures["sign_by"] == "a specimen denser than its medium"
    assert any("other way" in w for w in finding.warnings) == (wrong["z_scale"] < 0)


def test_an_empty_field_is_refused():
    with pytest.raises(CalibrationRefusedError, match="no structure"):
        found(experiment(specimen=BLANK))


def test_a_camera_that_aliases_is_refused_with_the_binning_to_use():
    with pytest.raises(CalibrationRefusedError, match="aliased") as refused:
        Lens().measure(None, experiment(binning=8), Calibration())
    assert "binning 2" in refused.value.fix


def test_a_series_on_one_side_of_the_specimen_is_refused():
    with pytest.raises(CalibrationRefusedError, match=r"does not pass through focus|disagree"):
        found(experiment(z_zero_um=4.5), range_um=3.0)


def test_an_unknown_channel_is_refused():
    with pytest.raises(CalibrationRefusedError, match="brightfield"):
        Lens(channel="red")._channel(experiment(), Calibration())


class Moving:
    """A microscope whose specimen has moved by the second take."""

    def __init__(self, real, pixels):
        self.real, self.pixels, self.takes = real, pixels, 0

    def take(self, shot):
        taken = self.real.take(shot)
        self.takes += 1
        if self.takes == 1:
            return taken
        return Taken(np.roll(taken.frames, self.pixels, axis=-1), taken.records)


def test_an_image_that_moves_between_two_takes_is_refused():
    e = experiment()
    with Microscope(e) as real, pytest.raises(CalibrationRefusedError, match=r"moved by 1\.3 µm"):
        Lens().measure(Moving(real, 2), e, Calibration())


def test_saturated_light_is_refused():
    with pytest.raises(CalibrationRefusedError, match="saturated"):
        found(experiment(electrons=60000.0))


def test_it_is_needed_where_a_lens_moves():
    assert Lens().needed(experiment()) is None
    e = experiment()
    still = e.model_copy(update={"sequence": e.sequence.model_copy(update={"foci_um": (0.0,)})})
    assert "one plane" in Lens().needed(still)


def test_frames_of_another_magnification_are_laid_over_each_other():
    y, x = np.mgrid[:64, :64] - 31.5

    def seen(grown):
        return np.exp(-((x / grown - 8) ** 2 + (y / grown + 5) ** 2) / 30)

    frames = np.stack([seen(1 + 0.004 * z) for z in (-5, 0, 5)])
    even = unzoomed(frames, np.array([-5.0, 0.0, 5.0]), 0.004)
    assert np.abs(even - frames[1]).max() < 1e-3
    assert np.abs(frames - frames[1]).max() > 0.02


def tilted(**imperfections):
    """One oblique LED pattern, whose image moves sideways with z."""
    e = experiment(**imperfections).model_dump(mode="json")
    e["illumination"] = {
        "source": "led_array",
        "array": {"rows": 9, "columns": 9, "pitch_mm": 2.0, "distance_mm": 70.0},
        "patterns": {"left": {"kind": "leds", "leds": [38]}},
        "channels": {"left": {"pattern": "left"}},
    }
    return parse_experiment(e)


@pytest.mark.parametrize("scale", [1.1, -0.9])
def test_oblique_light_tells_the_sign_by_itself(scale):
    e = tilted(z_scale=scale, z_zero_um=0.5, specimen=BEADS | {"phase_rad": -0.5})
    foci = np.linspace(-6, 6, 9)
    from pipeline.experiment.vary import vary

    with Microscope(e) as microscope:
        frames = microscope.take(vary(e, foci_um=list(foci))).frames[0, 0, 0].astype(float) - 100
    source = calibrated_source(e, "left", Calibration())
    fit = Series(frames / frames.mean(), foci, e.pixel_um, e.optics, source).fit()
    assert fit.scale == pytest.approx(scale, rel=0.06)


def test_oblique_light_of_unknown_orientation_is_refused():
    with pytest.raises(CalibrationRefusedError, match="is oblique"):
        Lens().measure(None, tilted(), Calibration())
