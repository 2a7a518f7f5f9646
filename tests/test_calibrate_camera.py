"""Dark, flat, gain, read noise, linearity, saturation and exposures: the simulator's hidden truth, and bad data."""

import json
from dataclasses import replace

import numpy as np
import pytest

from drivers.taking import Microscope
from pipeline.calibrate.averaging import average
from pipeline.calibrate.dark import Dark, estimate_dark
from pipeline.calibrate.exposure import (
    Exposure,
    Level,
    Limits,
    find_exposure,
    measure_level,
)
from pipeline.calibrate.field_structure import check_empty, check_same_field
from pipeline.calibrate.flat import Flat, estimate_flat
from pipeline.calibrate.linearity import Linearity, estimate_response
from pipeline.calibrate.photon_transfer import Exposed, PhotonTransfer, estimate_transfer
from pipeline.calibrate.read_noise import read_noise_counts
from pipeline.calibrate.step import CalibrationRefusedError
from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.experiment import Camera, parse_experiment
from pipeline.optics.sensor import Correction, expose

SHAPE = (128, 128)
FLAWED = {
    "vignetting": 0.3,
    "gain_scale": 1.2,
    "offset_pattern_counts": 3.0,
    "dark_e_per_s": 50.0,
    "bad_pixel_share": 0.002,
}
LEDS = {
    "source": "led_array",
    "array": {"rows": 5, "columns": 5, "pitch_mm": 8, "distance_mm": 60},
    "patterns": {
        "right": {"kind": "half_circle", "direction_deg": 0},
        "left": {"kind": "half_circle", "direction_deg": 180},
        "top": {"kind": "half_circle", "direction_deg": 90},
        "ring": {"kind": "arc", "na_min": 0.255, "na_max": 0.3},
    },
    "channels": {
        "right": {"pattern": "right", "exposure_ms": 10},
        "left": {"pattern": "left", "exposure_ms": 20, "brightness": 0.6},
        "top": {"pattern": "top", "exposure_ms": 5},
        "ring": {"pattern": "ring", "exposure_ms": 40},
    },
}
CONDENSER = {
    "source": "condenser",
    "channels": {"dim": {"exposure_ms": 10}, "long": {"exposure_ms": 60, "brightness": 0.2}},
}


def experiment(light=LEDS, seed=3, foci=(0.0,), specimen=None, camera=None, **wrong):
    return parse_experiment(
        {
            "microscope": {
                "driver": "simulator",
                "seed": seed,
                "paced": False,
                "camera": {"shape_px": list(SHAPE), "pixel_um": 6.5, "bit_depth": 12}
                | (camera or {}),
                "specimen": specimen or {"kind": "cells"},
                "imperfections": FLAWED | wrong,
            },
            "optics": {"wavelength_um": 0.53, "numerical_aperture": 0.25, "magnification": 10},
            "illumination": light,
            "sequence": {"timepoints": 1, "foci_um": list(foci)},
        }
    )


def calibrated(e, *steps, known=None):
    """What the steps find, one resting on the other; their last finding; the hidden truth."""
    known = known or Calibration()
    with Microscope(e) as microscope:
        truth = microscope.driver.known_calibration()
        for step in steps:
            finding = step.measure(microscope, e, known)
            known = finding.calibration
            json.dumps(finding.figures, allow_nan=False)
            assert finding.summary
    return known, finding, truth


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_camera_steps_recover_the_hidden_truth(seed):
    e = experiment(CONDENSER, seed=seed, channel_intensity={"long": 0.8})
    known, _, truth = calibrated(e, Dark(), PhotonTransfer(), Linearity(), Flat())
    np.testing.assert_array_equal(known.bad_pixels, truth.bad_pixels)
    good = ~truth.bad_pixels
    for channel in e.channel_names:
        level = truth.dark[channel][good].mean()
        assert rms((known.dark[channel] - truth.dark[channel])[good]) < 0.01 * level
        assert rms((known.flat[channel] / truth.flat[channel] - 1)[good]) < 0.01
        assert known.exposure_ms[channel] == truth.exposure_ms[channel]
    assert known.gain_e_per_count == pytest.approx(truth.gain_e_per_count, rel=0.02)
    assert known.read_noise_e == pytest.approx(truth.read_noise_e, rel=0.10)
    assert known.nonlinearity < 0.003
    assert known.saturation_counts == truth.saturation_counts == 4095


@pytest.mark.parametrize(("missing", "seed"), [(0.02, 3), (0.06, 4), (0.12, 5)])
def test_a_camera_that_is_not_linear_is_measured_as_it_is(missing, seed):
    e = experiment(CONDENSER, seed=seed, nonlinearity=missing)
    known, finding, truth = calibrated(e, Dark(), PhotonTransfer(), Linearity())
    assert known.nonlinearity == pytest.approx(truth.nonlinearity, abs=0.003)
    assert known.gain_e_per_count == pytest.approx(truth.gain_e_per_count, rel=0.02)
    assert known.saturation_counts == 4095
    assert bool(finding.warnings) == (truth.nonlinearity > 0.01)


def test_the_truth_of_a_nonlinear_camera_is_that_of_its_curve():
    _, _, truth = calibrated(experiment(CONDENSER, nonlinearity=0.06), Dark())
    x = np.linspace(0, 1.2, 20001)
    y = x * (1 - 0.06 * x)
    used = y <= 0.95
    line = np.polyval(np.polyfit(x[used], y[used], 1), x[used])
    assert truth.nonlinearity == pytest.approx(np.abs(y[used] - line).max(), rel=0.01)


def test_a_flat_of_leds_knows_channels_of_unequal_brightness_and_derives_darkfield():
    e = experiment(channel_intensity={"right": 0.8})
    known, finding, truth = calibrated(e, Dark(), Flat())
    good = ~truth.bad_pixels
    for channel in ("right", "left", "top"):
        assert rms((known.flat[channel] / truth.flat[channel] - 1)[good]) < 0.01
    # Two channels of three are as bright as they should be: the third does not count for the darkfield.
    assert rms((known.flat["ring"] / truth.flat["ring"] - 1)[good]) < 0.01
    assert [w for w in finding.warnings if "'right' is 20% darker" in w] == list(finding.warnings)
    assert finding.figures["channels"]["ring"]["light_without_specimen"] < 0.005


def test_corrected_frames_are_1_where_nothing_is():
    e = experiment(channel_intensity={"right": 0.8}, specimen={"kind": "target", "shape": "blank"})
    known, _, _ = calibrated(e, Dark(), Flat())
    with Microscope(e) as microscope:
        raw = microscope.take(e).frames[0, 0, :, 0]
    correct = Correction(e, known, range(4))
    frames = correct(raw[None], np.ones((1, 4), bool))[0][0].numpy()
    np.testing.assert_allclose(frames.mean((1, 2)), [1, 1, 1, 0], atol=3e-3)
    blocks = frames[:3].reshape(3, 8, 16, 8, 16).mean((2, 4))
    assert np.abs(blocks - 1).max() < 0.01


def test_led_intensities_known_before_make_the_darkfield_flat_right():
    e = experiment(led_intensity_sigma=0.3)
    with Microscope(e) as microscope:
        truth = microscope.driver.known_calibration()
    dim = Calibration(led_intensity=truth.led_intensity)
    known, _, _ = calibrated(e, Dark(), Flat(), known=dim)
    good = ~truth.bad_pixels
    assert rms((known.flat["ring"] / truth.flat["ring"] - 1)[good]) < 0.01
    ignorant, _, _ = calibrated(e, Dark(), Flat())
    assert rms((ignorant.flat["ring"] / truth.flat["ring"] - 1)[good]) > 0.02


@pytest.mark.parametrize("seed", [3, 4])
def test_exposures_bring_every_channel_to_one_level(seed):
    e = experiment(seed=seed, channel_intensity={"right": 0.8})
    known, finding, truth = calibrated(e, Exposure())
    lit = finding.figures["channels"]
    for channel in ("right", "left", "top"):
        # The level that this exposure gives in the middle of the true flat.
        scale = known.balanced_exposure_ms[channel] / truth.exposure_ms[channel]
        background = scale * np.median(truth.flat[channel])
        assert background == pytest.approx(0.6 * (4095 - 100), rel=0.05)
        assert lit[channel]["shots"] <= 4
    assert lit["ring"]["share_of_range"] > 0.3
    assert lit["ring"]["brightest_share"] < 0.92
    assert known.balanced_exposure_ms["ring"] > 2 * known.balanced_exposure_ms["top"]


def test_exposures_follow_known_dark_and_saturation_and_warn_of_slow_timepoints():
    e = experiment(CONDENSER)
    e = e.model_copy(
        update={"sequence": e.sequence.model_copy(update={"interval_s": 0.02, "timepoints": 9})}
    )
    known, finding, truth = calibrated(
        e, Dark(), Exposure(share=0.4), known=Calibration(saturation_counts=2000.0)
    )
    scale = known.balanced_exposure_ms["dim"] / 10
    assert scale * np.median(truth.flat["dim"]) == pytest.approx(0.4 * 1900, rel=0.05)
    assert "more than its interval of 0.02 s" in finding.warnings[0]
    assert len(finding.warnings) == 1


def test_a_dark_taken_anew_keeps_the_old_flat_right():
    e = experiment(CONDENSER)
    known, _, _ = calibrated(e, Dark(), Flat())
    channels = {
        n: c.model_copy(update={"exposure_ms": 25.0}) for n, c in e.illumination.channels.items()
    }
    longer = e.model_copy(
        update={"illumination": e.illumination.model_copy(update={"channels": channels})}
    )
    again, _, truth = calibrated(longer, Dark(), known=known)
    assert again.exposure_ms == {"dim": 25.0, "long": 25.0}
    good = ~truth.bad_pixels
    assert rms((again.flat["dim"] / truth.flat["dim"] - 1)[good]) < 0.01
    with pytest.raises(CalibrationRefusedError, match=r"taken at 25 ms.*10 ms"):
        calibrated(e, Flat(), known=again)


def test_steps_say_when_they_have_no_use():
    ring = LEDS | {"channels": {"ring": LEDS["channels"]["ring"]}}
    e = experiment(ring)
    for step in (Flat(), PhotonTransfer(), Linearity()):
        assert "without a specimen" in step.needed(e)
        assert step.needed(experiment()) is None
    assert Dark().needed(e) is None
    assert Exposure().needed(e) is None


# Bad data


CAMERA = {"gain_e_per_count": 8.0, "read_noise_e": 4.0, "offset_counts": 100.0, "bit_depth": 12}
NOMINAL = Camera(shape_px=SHAPE, pixel_um=6.5, bit_depth=12)


def frames_of(electrons, n, seed=0, **camera):
    rng = np.random.default_rng(seed)
    light = np.broadcast_to(electrons, SHAPE)
    return np.stack([expose(light, rng, **CAMERA | camera) for _ in range(n)])


def refused(cause, action, *arguments, **keywords):
    with pytest.raises(CalibrationRefusedError, match=cause) as error:
        action(*arguments, **keywords)
    assert error.value.fix
    return error.value


def ramp(low, high):
    return np.broadcast_to(np.linspace(low, high, SHAPE[1]), SHAPE)


def test_a_dark_is_robust_against_cosmic_rays_and_finds_hot_pixels():
    frames = frames_of(0, 16)
    hits = np.random.default_rng(1).integers(0, 128, (50, 2))
    for i, (y, x) in enumerate(hits):
        frames[i % 16, y, x] = 3000
    frames[:, 7, 9] = 900
    frames[:, 8, 20] = np.where(np.arange(16) % 3, 100, 160)
    dark = estimate_dark(frames, NOMINAL)
    assert np.abs(dark.mean - 100)[~dark.hot].max() < 1.0
    assert set(zip(*np.nonzero(dark.hot), strict=True)) == {(7, 9), (8, 20)}
    assert dark.outliers >= 45
    assert dark.noise_counts == pytest.approx(np.hypot(0.5, np.sqrt(1 / 12)), rel=0.05)
    assert dark.sigma_counts == pytest.approx(rms((dark.mean - 100)[~dark.hot]), rel=0.1)


@pytest.mark.parametrize(
    ("frames", "cause"),
    [
        (frames_of(0, 4), "4 dark frames are too few"),
        (frames_of(8 * 600, 16), "counts 700, 100 were expected: light leaks in"),
        (frames_of(ramp(0, 8 * 60), 16), "across the field: light leaks in"),
        (frames_of(1e6, 16), "100% of the dark pixels are saturated"),
        (frames_of(0, 16, offset_counts=0.2), "of the dark pixels are 0"),
        (np.zeros((16, *SHAPE), np.uint16), "100% of the dark pixels are 0"),
        (
            np.concatenate([frames_of(8 * k, 4, seed=k) for k in range(4)]),
            r"drifted by \+\d.\d+ counts",
        ),
    ],
    ids=["few", "bright", "uneven", "saturated", "clipped", "empty", "drifting"],
)
def test_a_bad_dark_is_refused(frames, cause):
    refused(cause, estimate_dark, frames, NOMINAL)


def test_a_dark_that_grows_with_the_exposure_is_light():
    e = experiment(CONDENSER, dark_e_per_s=20_000.0)
    refused("rises by .* counts from 1 to 60 ms: light leaks in", calibrated, e, Dark())


FLAT = 8000 * (1 - 0.3 * np.hypot(*np.mgrid[-1:1:128j, -1:1:128j]) ** 2 / 2)


def test_a_flat_keeps_dust_and_finds_dead_pixels():
    y, x = np.mgrid[:128, :128]
    dust = 1 - 0.3 * np.exp(-((y - 40) ** 2 + (x - 80) ** 2) / 4.0**2)
    light = FLAT * dust
    frames = frames_of(light, 32)
    frames[:, 5, 6] = 100
    frames[3, 60, 60] = 4000
    flat = estimate_flat(frames, np.float32(100), 4095)
    good = ~flat.dead
    assert flat.dead.sum() == 1
    assert flat.dead[5, 6]
    assert rms((flat.mean * 8 / light - 1)[good]) < 0.004
    assert flat.noise == pytest.approx(rms((flat.mean * 8 / light - 1)[good]), rel=0.2)
    assert flat.mean[60, 60] == pytest.approx(light[60, 60] / 8, rel=0.02)
    assert check_empty(flat.mean, flat.noise, flat.dead, "light", 0.015) < 0.01


def flicker(levels):
    return np.concatenate([frames_of(FLAT * k, 1, seed=i) for i, k in enumerate(levels)])


@pytest.mark.parametrize(
    ("frames", "cause"),
    [
        (frames_of(FLAT, 2), "2 frames are too few"),
        (frames_of(5 * FLAT, 16), r"'light' saturates \d+\.\d% of the pixels"),
        (frames_of(0, 16), "'light' has no light: -?0.0 counts above the dark"),
        (frames_of(FLAT / 200, 16), r"has \d+\.\d% of noise after 16 frames"),
        (flicker(np.linspace(1, 1.05, 16)), r"drifted by \+\d.\d%"),
        (flicker(1 + 0.1 * (-1.0) ** np.arange(16)), r"flickered by 1\d.\d%"),
    ],
    ids=["few", "saturated", "dark", "dim", "drifting", "flickering"],
)
def test_a_bad_flat_is_refused(frames, cause):
    refused(cause, estimate_flat, frames, np.float32(100.02), 4095)


def test_a_flat_needs_its_dark_first():
    refused("'dim' has no dark yet", calibrated, experiment(CONDENSER), Flat())


@pytest.fixture
def nobody_emptied_the_field(monkeypatch):
    """The person at the microscope said so, and a specimen is there all the same."""
    monkeypatch.setattr("pipeline.calibrate.shots.EMPTY_FIELD", None)


def test_a_few_cells_in_the_field_are_refused_under_leds(nobody_emptied_the_field):
    e = experiment(specimen={"kind": "cells", "cells_per_mm2": 100.0})
    refused("not empty|different structures", calibrated, e, Dark(), Flat(frames=8))


def test_what_shows_out_of_focus_only_is_refused_too(nobody_emptied_the_field):
    beads = {"kind": "target", "shape": "beads"}
    e = experiment(CONDENSER, specimen=beads, foci=(0.0, 15.0))
    reason = refused("at 0 µm and at 15 µm show different", calibrated, e, Dark(), Flat())
    assert "empty place" in reason.fix


def test_two_channels_that_see_the_same_dust_are_of_an_empty_field():
    dust = np.ones(SHAPE, np.float32)
    dust[30:60, 40:90] = 0.8
    none = np.zeros(SHAPE, bool)
    check_same_field({"a": (500 * dust, 0.003), "b": (900 * dust, 0.003)}, none)
    refused(
        "a and b show", check_same_field, {"a": (500 * dust, 0.003), "b": (dust**0, 0.003)}, none
    )


def test_averages_leave_outliers_out():
    frames = frames_of(FLAT, 12)
    clean = frames.mean(axis=0)
    frames[4, 10:20, 10:20] = 4095
    found = average(frames)
    assert found.outliers >= 100
    np.testing.assert_allclose(found.mean, clean, rtol=0.02)
    assert found.std[50, 50] == pytest.approx(np.sqrt(FLAT[50, 50]) / 8, rel=0.8)


# Photon transfer


LEVELS = np.array([0.01, 0.03, 0.08, 0.15, 0.25, 0.35, 0.5, 0.65, 0.8, 1.0])
DARK = [Exposed(1.0, frames_of(0, 16, seed=99))]


def series(change=lambda electrons, level: electrons, n=4, levels=LEVELS, **camera):
    return [
        Exposed(40.0 * k, frames_of(change(26_000 * k, k), n, seed=i, **camera))
        for i, k in enumerate(levels)
    ]


def test_gain_and_read_noise_with_honest_uncertainties():
    found = [
        estimate_transfer(
            [
                Exposed(40.0 * k, frames_of(26_000 * k, 4, seed=100 * s + i))
                for i, k in enumerate(LEVELS)
            ],
            [Exposed(1.0, frames_of(0, 16, seed=100 * s + 99))],
            4095,
        )
        for s in range(6)
    ]
    pulls = np.array(
        [
            ((f.gain_e_per_count - 8) / f.gain_sigma, (f.read_noise_e - 4) / f.read_noise_sigma_e)
            for f in found
        ]
    )
    assert np.abs(pulls).max() < 4
    assert max(f.gain_sigma for f in found) < 0.08
    assert max(f.read_noise_sigma_e for f in found) < 0.1
    assert all(abs(f.correlation) < 0.03 for f in found)


def test_a_flickering_lamp_is_no_noise():
    steady = estimate_transfer(series(), DARK, 4095)
    lit = [
        Exposed(
            40.0 * k,
            np.concatenate(
                [
                    frames_of(26_000 * k * f, 1, seed=10 * i + j)
                    for j, f in enumerate((1, 1.03, 0.98, 1))
                ]
            ),
        )
        for i, k in enumerate(LEVELS)
    ]
    found = estimate_transfer(lit, DARK, 4095)
    assert found.gain_e_per_count == pytest.approx(8, rel=0.02)
    assert found.gain_sigma < 3 * steady.gain_sigma


def test_a_bad_photon_transfer_series_is_refused():
    refused("has 3 levels, and 0 more", estimate_transfer, series(levels=LEVELS[::4]), DARK, 4095)
    bright = series(lambda electrons, k: 8 * electrons)
    refused(r"\d levels, and [4-9] more are saturated", estimate_transfer, bright, DARK, 4095)
    same = series(lambda electrons, k: 10_000)
    refused("fewer than 8 different levels", estimate_transfer, same, DARK, 4095)
    unlit = series(lambda electrons, k: 0)
    refused("pixels answer to the light", estimate_transfer, unlit, DARK, 4095)

    def unsteady(k, i):
        pair = [frames_of(26_000 * k * f, 1, seed=i) for f in (1.0, 1.2)]
        return Exposed(40 * k, np.concatenate(pair))

    flashing = [unsteady(k, i) for i, k in enumerate(LEVELS)]
    refused("the lamp is unsteady", estimate_transfer, flashing, DARK, 4095)

    def gamma(exposed):
        top = 4095 * (exposed.frames / 4095) ** 0.5
        return Exposed(exposed.exposure_ms, np.rint(top).astype(np.uint16))

    curved = [gamma(e) for e in series()]
    refused(
        "does not grow with the light", estimate_transfer, curved, [gamma(e) for e in DARK], 4095
    )


def test_a_camera_that_smooths_is_told_of():
    def smoothed(exposed):
        frames = exposed.frames.astype(float)
        mean = (frames + np.roll(frames, 1, axis=2)) / 2
        return Exposed(exposed.exposure_ms, np.rint(mean).astype(np.uint16))

    found = estimate_transfer([smoothed(e) for e in series()], [smoothed(e) for e in DARK], 4095)
    assert found.correlation > 0.3
    warnings = PhotonTransfer()._warnings(found, experiment())
    assert not any("of the range" in w for w in warnings)
    assert any("smooths" in w for w in warnings)


@pytest.mark.parametrize("sigma", [0.12, 0.2, 0.27, 0.45, 1.5])
@pytest.mark.parametrize("pattern", [0.3, 0.7, 3.0])
def test_read_noise_below_a_count_is_found(sigma, pattern):
    rng = np.random.default_rng(5)
    level = 100.2 + pattern * rng.standard_normal(16384)
    frames = np.rint(level + sigma * rng.standard_normal((32, 16384)))
    found = read_noise_counts(frames.var(0, ddof=1).mean(), frames.mean(0), 32)
    assert found[0] == pytest.approx(sigma, rel=0.03)
    assert found[0] == pytest.approx(sigma, abs=4 * found[1])
    assert found[1] < 0.03 * sigma


def test_read_noise_that_counts_do_not_show_is_unknown():
    assert read_noise_counts(0.0, np.full(1000, 100.0), 32) is None
    found = estimate_transfer(
        series(read_noise_e=0.05), [Exposed(1.0, frames_of(0, 16, read_noise_e=0.05))], 4095
    )
    assert found.read_noise_e is None
    assert found.gain_e_per_count == pytest.approx(8, rel=0.02)


# Linearity


RAMP = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.6])
DARKS = [Exposed(1.5, frames_of(0, 8, seed=98)), Exposed(50.0, frames_of(0, 8, seed=97))]


def test_a_full_well_ends_below_the_digitisation():
    full = 24_000.0
    lit = series(lambda electrons, k: min(30_000 * k, full), levels=RAMP)
    found = estimate_response(lit, DARKS, 12)
    plateau = 100 + full / 8
    assert found.saturates
    assert plateau - 6 * np.sqrt(full) / 8 < found.saturation_counts < plateau
    assert found.nonlinearity < 0.003 + 3 * found.nonlinearity_sigma


def test_a_range_that_never_ends_is_said_to():
    found = estimate_response(series(levels=RAMP[:11]), DARKS, 12)
    assert not found.saturates
    assert found.saturation_counts == 4095
    e = experiment(CONDENSER)
    known, finding, _ = calibrated(e, Dark(), Linearity(longest_ms=20.0))
    assert known.saturation_counts == 4095
    assert any("saturation was not reached" in w for w in finding.warnings)


def test_a_bad_linearity_series_is_refused():
    refused(
        "exposures are below saturation", estimate_response, series(levels=RAMP[-6:]), DARKS, 12
    )
    blinding = series(lambda electrons, k: 1e6, levels=RAMP)
    refused("saturates the camera at", estimate_response, blinding, DARKS, 12)
    automatic = series(lambda electrons, k: 10_000, levels=RAMP)
    refused("does not grow with the exposure", estimate_response, automatic, DARKS, 12)
    fading = [
        Exposed(
            40.0 * k,
            np.concatenate([frames_of(26_000 * k * (1 - 0.05 * r), 1, seed=r) for r in range(4)]),
        )
        for k in RAMP
    ]
    refused("changed by .* from one round", estimate_response, fading, DARKS, 12)
    gamma = series(lambda electrons, k: 26_000 * k**0.45, levels=RAMP[:11])
    refused("departs by .* from a straight line", estimate_response, gamma, DARKS, 12)


# Exposure


LIMITS = Limits(0.05, 1000.0)


def meter(per_ms, noise=1.0, full=3900.0):
    def shoot(exposure_ms):
        level = per_ms * exposure_ms
        return Level(min(level, full), min(1.2 * level, full), noise, level > full)

    return shoot


@pytest.mark.parametrize("per_ms", [0.05, 3.0, 60.0, 4000.0, 30_000.0])
def test_any_light_is_brought_to_the_target_in_four_shots(per_ms):
    found = find_exposure("a", meter(per_ms), 10.0, 2000, 3500, Limits(0.001, 1e5))
    assert found.level.signal == pytest.approx(2000, rel=0.05)
    assert found.shots <= 4


def test_highlights_keep_their_headroom():
    found = find_exposure("a", meter(100.0), 10.0, 3000, 3000, LIMITS)
    assert found.level.brightest == pytest.approx(3000, rel=0.05)


def test_exposures_that_can_not_be_are_refused():
    blinding = refused(
        "'a' is saturated at the shortest exposure, 0.05 ms",
        find_exposure,
        *("a", meter(1e6), 10.0, 2000, 3500, LIMITS),
    )
    assert "brightness" in blinding.fix
    deaf = iter([500.0, 300.0, 800.0, 350.0])
    refused(
        "does not settle",
        find_exposure,
        *("a", lambda ms: Level(next(deaf), 600.0, 1.0, False), 10.0, 2000, 3500, LIMITS),
    )


def test_a_channel_without_light_is_refused_and_a_dim_one_warned_of():
    off = CONDENSER | {"channels": {"dim": {"exposure_ms": 10, "brightness": 1e-9}}}
    refused("channel 'dim' has no light", calibrated, experiment(off), Exposure())
    known, finding, _ = calibrated(experiment(CONDENSER), Exposure(longest_ms=8.0))
    assert known.balanced_exposure_ms == {"dim": 8.0, "long": 8.0}
    assert "8 ms is the longest exposure allowed" in finding.warnings[0]


def test_lost_frames_are_left_out_and_too_many_refused():
    def losing(frames):
        e = experiment(CONDENSER)
        microscope = e.microscope.model_dump() | {"faults": {"drop_frames": frames}}
        return parse_experiment(e.model_dump(mode="json") | {"microscope": microscope})

    lossy = losing(list(range(3, 90, 7)))
    known, _, truth = calibrated(lossy, Dark(), Flat())
    good = ~truth.bad_pixels
    assert rms((known.dark["dim"] - truth.dark["dim"])[good]) < 1
    assert rms((known.flat["dim"] / truth.flat["dim"] - 1)[good]) < 0.01
    refused("lost .* of 32 frames", calibrated, losing(list(range(0, 80))), Dark())


def test_a_refusal_leaves_the_calibration_as_it_was():
    known = Calibration(gain_e_per_count=3.0, steps={"dark": {"figures": {}}})
    before = replace(known)
    refused("has no dark", calibrated, experiment(CONDENSER), Flat(), known=known)
    assert known == before


def test_a_darkfield_that_has_light_without_a_specimen_is_told_of():
    # LEDs so far out of place that some of the ring's shine straight into the objective.
    e = experiment(led_position_sigma_mm=1.5)
    _, finding, _ = calibrated(e, Dark(), Flat())
    assert finding.figures["channels"]["ring"]["light_without_specimen"] > 0.02
    assert any("'ring' has" in w and "distance" in w for w in finding.warnings)


def test_an_imperfection_of_a_channel_that_does_not_exist_is_refused():
    with pytest.raises(ExperimentError, match="unknown channel 'rigth'"):
        calibrated(experiment(channel_intensity={"rigth": 0.8}), Dark())


def test_a_level_knows_a_dark_of_one_number():
    frames = frames_of(8000, 4)
    good = np.ones(SHAPE, bool)
    good[0] = False
    level = measure_level(frames, np.float32(100), good, 4095, 0.5)
    assert level.signal == pytest.approx(1000, rel=0.01)
    assert level.noise == pytest.approx(np.sqrt(8000) / 8 / 2, rel=0.05)
    assert not level.clipped
    assert measure_level(frames, np.float32(100), good, 900, 0.5).clipped
