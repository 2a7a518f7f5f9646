"""The pixel at the sample: rulings of any period and rotation, noise, harmonics, and what has to be refused."""

import numpy as np
import pytest

from drivers.taking import Microscope, Taken
from pipeline.calibrate.pixel_size import PixelSize
from pipeline.calibrate.ruling import find_ruling
from pipeline.calibrate.step import CalibrationRefusedError
from pipeline.calibration import Calibration
from pipeline.experiment import parse_experiment


def experiment(shape=(160, 192), coherence=0.0, electrons=5000.0, seed=1, **imperfections):
    return parse_experiment(
        {
            "microscope": {
                "driver": "simulator",
                "seed": seed,
                "camera": {"shape_px": list(shape), "pixel_um": 6.5},
                "electrons": electrons,
                "paced": False,
                "imperfections": imperfections,
            },
            "optics": {"wavelength_um": 0.53, "numerical_aperture": 0.25, "magnification": 10},
            "illumination": {"source": "condenser", "coherence": coherence},
            "sequence": {"timepoints": 2},
        }
    )


def found(e, known=None, **options):
    with Microscope(e) as microscope:
        return PixelSize(**options).measure(microscope, e, known or Calibration())


@pytest.mark.parametrize(
    ("scale", "period", "coherence", "seed"),
    [(1.0, 10.0, 0.0, 1), (1.07, 10.0, 0.5, 2), (0.93, 7.3, 0.0, 3), (1.02, 4.0, 0.0, 4)],
)
def test_the_true_pixel_is_found_within_half_a_percent(scale, period, coherence, seed):
    e = experiment(coherence=coherence, seed=seed, pixel_scale=scale, vignetting=0.3)
    finding = found(e, period_um=period)
    true = 0.65 * scale
    assert finding.calibration.pixel_um == pytest.approx(true, rel=1e-3)
    assert abs(finding.calibration.pixel_um - true) < 4 * finding.figures["sigma_um"] + 1e-5
    assert finding.figures["angle_deg"] == pytest.approx(3, abs=0.2)
    assert bool(finding.warnings) == (abs(scale - 1) > 0.03)


def test_out_of_focus_it_is_still_the_ruling_that_is_measured():
    finding = found(experiment(coherence=0.3, z_zero_um=6.0, pixel_scale=1.05))
    assert finding.calibration.pixel_um == pytest.approx(0.65 * 1.05, rel=5e-3)


def ruled(period_px, angle_deg, line_share=0.5, shape=(200, 240), noise=0.05, seed=0):
    """A ruling's image by sub-sampling, ``[Y, X]``, mean about 1."""
    a = np.deg2rad(angle_deg)
    n = 6
    y, x = np.mgrid[: shape[0] * n, : shape[1] * n] / n
    lines = ((np.cos(a) * x + np.sin(a) * y) / period_px % 1) < line_share
    image = 1.2 - 0.8 * lines.reshape(shape[0], n, shape[1], n).mean((1, 3))
    return image + noise * np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("angle", [0.0, 1.3, 17.0, 45.0, 90.0, -61.0])
@pytest.mark.parametrize("period", [5.37, 13.3, 21.7])
def test_any_period_and_rotation(period, angle):
    ruling = find_ruling(ruled(period, angle))
    assert 1 / ruling.cycles_per_px == pytest.approx(period, rel=5e-4)
    assert (ruling.angle_deg - angle + 90) % 180 - 90 == pytest.approx(0, abs=0.1)
    assert ruling.sigma < 1e-3


def test_an_image_of_odd_size():
    assert 1 / find_ruling(ruled(11.1, 33.0, shape=(151, 203))).cycles_per_px == pytest.approx(
        11.1, rel=1e-3
    )


@pytest.mark.parametrize("line_share", [0.08, 0.25, 0.5, 0.8])
def test_the_fundamental_is_chosen_among_its_harmonics(line_share):
    ruling = find_ruling(ruled(16.4, 4.0, line_share))
    assert 1 / ruling.cycles_per_px == pytest.approx(16.4, rel=1e-3)


def test_a_fundamental_weaker_than_its_harmonic_is_still_chosen():
    y, x = np.mgrid[:200, :200]
    u = 2 * np.pi * (x + 0.05 * y) / 20.0
    image = 1 + 0.05 * np.cos(u) + 0.2 * np.cos(2 * u) + 0.1 * np.cos(3 * u)
    ruling = find_ruling(image + 0.02 * np.random.default_rng(1).standard_normal(image.shape))
    assert 1 / ruling.cycles_per_px == pytest.approx(20 / np.hypot(1, 0.05), rel=1e-3)


def test_a_rulers_short_lines_are_enough():
    image = ruled(12.0, 0.0, 0.2)
    image[:60] = image[140:] = 1.2
    assert 1 / find_ruling(image).cycles_per_px == pytest.approx(12, rel=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_the_uncertainty_covers_the_error(seed):
    errors = [
        (find_ruling(ruled(9.7, 5.0, noise=0.6, seed=s)), 1 / 9.7)
        for s in range(10 * seed, 10 * seed + 6)
    ]
    pulls = [(r.cycles_per_px - f) / (r.sigma * f) for r, f in errors]
    assert np.abs(pulls).max() < 4
    assert all(r.sigma < 5e-3 for r, _ in errors)


class Looking:
    """A microscope that sees what a test gives it."""

    def __init__(self, real, image):
        self.real, self.image = real, image

    def take(self, shot):
        taken = self.real.take(shot)
        scaled = np.clip(100 + 1500 * self.image, 0, 4095).astype(taken.frames.dtype)
        return Taken(np.broadcast_to(scaled, taken.frames.shape), taken.records)


def seen(image, **options):
    e = experiment(image.shape)
    with Microscope(e) as real:
        return PixelSize(**options).measure(Looking(real, image), e, Calibration())


def test_a_wrong_period_is_refused_and_both_are_named():
    with pytest.raises(CalibrationRefusedError, match=r"0\.325 µm, nominal is 0\.65 µm.*20 µm"):
        seen(ruled(20 / 0.65, 2.0), period_um=10.0)
    with pytest.raises(CalibrationRefusedError, match=r"factor of 2: a ruling of 5 µm"):
        seen(ruled(5 / 0.65, 2.0), period_um=10.0)


@pytest.mark.parametrize("kind", ["noise", "cells", "gradient"])
def test_what_is_no_ruling_is_refused(kind):
    chance = np.random.default_rng(2)
    y, x = np.mgrid[:160, :160]
    image = 1 + 0.05 * chance.standard_normal((160, 160))
    if kind == "cells":
        for cy, cx in chance.uniform(0, 160, (12, 2)):
            image += 0.6 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 2 / 7**2)
    if kind == "gradient":
        image += 0.5 * x / 160
    with pytest.raises(CalibrationRefusedError, match="no ruling is seen"):
        seen(image)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"period_um": 1.2}, "Nyquist"),
        ({"period_um": 40.0}, "too few"),
        ({"period_um": -1.0}, "period_um is -1"),
    ],
)
def test_rulings_that_the_camera_cannot_measure_are_refused_before_light(options, reason):
    with pytest.raises(CalibrationRefusedError, match=reason):
        PixelSize(**options).measure(None, experiment(), Calibration())


def test_saturated_and_dark_images_are_refused():
    with pytest.raises(CalibrationRefusedError, match="saturated"):
        found(experiment(electrons=60000.0))
    with pytest.raises(CalibrationRefusedError, match="dark"):
        found(experiment(electrons=1.0))
