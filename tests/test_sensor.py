"""The camera's noise, the way back from counts to light, and the residual between them."""

import math

import numpy as np
import pytest
import torch

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.experiment import parse_experiment
from pipeline.optics.forward import predict_frames
from pipeline.optics.residual import residual
from pipeline.optics.sensor import Correction, expose

CAMERA = {"gain_e_per_count": 4.0, "read_noise_e": 3.0, "offset_counts": 100.0, "bit_depth": 12}
SHAPE = (32, 40)


def experiment(**camera):
    return parse_experiment(
        {
            "microscope": {
                "driver": "simulator",
                "camera": {"shape_px": list(SHAPE), "pixel_um": 5.0, **CAMERA, **camera},
            },
            "optics": {"wavelength_um": 0.5, "numerical_aperture": 0.25, "magnification": 10},
            "illumination": {
                "source": "led_array",
                "array": {"rows": 15, "columns": 15, "pitch_mm": 4, "distance_mm": 70},
                "patterns": {
                    "half": {"kind": "half_circle", "direction_deg": 0},
                    "dark": {"kind": "arc", "na_min": 0.26, "na_max": 0.3},
                },
                "channels": {
                    "half": {"pattern": "half", "exposure_ms": 10},
                    "dark": {"pattern": "dark", "exposure_ms": 40, "brightness": 0.5},
                },
            },
            "sequence": {"timepoints": 1},
        }
    )


def calibration(**changes):
    flat = np.linspace(900, 1100, SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)
    values = {
        "dark": {"half": np.full(SHAPE, 90, np.float32), "dark": np.full(SHAPE, 95, np.float32)},
        "flat": {"half": flat, "dark": 2 * flat},
        "exposure_ms": {"half": 10.0, "dark": 40.0},
        "gain_e_per_count": 4.0,
        "read_noise_e": 3.0,
        "saturation_counts": 4095.0,
    }
    return Calibration(**values | changes)


def counts(c, half=1.0, dark=0.1):
    return np.stack(
        [
            np.rint(c.dark["half"] + half * c.flat["half"]),
            np.rint(c.dark["dark"] + dark * c.flat["dark"]),
        ]
    ).astype(np.uint16)


def test_photon_transfer_gives_gain_and_read_noise():
    rng = np.random.default_rng(1)
    levels = np.array([0.0, 500, 2000, 5000, 9000])
    frames = [expose(np.full((300, 300), e), rng, **CAMERA).astype(float) for e in levels]
    mean, variance = np.array([f.mean() for f in frames]), np.array([f.var() for f in frames])
    slope, _ = np.polyfit(mean - CAMERA["offset_counts"], variance, 1)
    assert 1 / slope == pytest.approx(4.0, rel=0.02)
    assert variance[0] == pytest.approx((3 / 4) ** 2 + 1 / 12, rel=0.02)
    assert mean[0] == pytest.approx(100, abs=0.05)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_counts_stop_at_the_bit_depth(bits):
    camera = CAMERA | {"bit_depth": bits}
    bright = expose(np.full((8, 8), 1e7), np.random.default_rng(0), **camera)
    assert (bright == 2**bits - 1).all()
    below = expose(np.zeros((8, 8)), np.random.default_rng(0), **camera | {"offset_counts": 0.0})
    assert below.max() < 10


def test_frames_are_divided_by_their_flat():
    c = calibration()
    frames, valid = Correction(experiment(), c, (0, 1))(counts(c), np.array([True, True]))
    assert frames.shape == (2, *SHAPE)
    assert frames.dtype == torch.float32
    assert valid.all()
    torch.testing.assert_close(frames[0], torch.ones(SHAPE), atol=1e-3, rtol=0)
    torch.testing.assert_close(frames[1], torch.full(SHAPE, 0.1), atol=1e-3, rtol=0)


def test_batches_and_eight_bits_are_taken_as_they_are():
    e = experiment(bit_depth=8, offset_counts=10)
    raw = torch.full((3, 1, *SHAPE), 110, dtype=torch.uint8)
    raw[2, 0, 0, 0] = 255
    present = torch.tensor([[True], [True], [True]])
    frames, valid = Correction(e, Calibration(), (0,))(raw, present)
    assert frames.shape == (3, 1, *SHAPE)
    assert (frames[:2] == 1).all()
    assert (~valid).nonzero().tolist() == [[2, 0, 0, 0]]


def test_a_flat_taken_at_another_exposure_is_scaled():
    c = calibration(exposure_ms={"half": 5.0, "dark": 40.0})
    frames, _ = Correction(experiment(), c, (0,))(counts(c, half=2.0)[:1], np.array([True]))
    torch.testing.assert_close(frames[0], torch.ones(SHAPE), atol=1e-3, rtol=0)


def test_bad_pixels_are_flagged_and_take_their_neighbours_mean():
    bad = np.zeros(SHAPE, bool)
    bad[5, 5] = bad[0, 0] = True
    bad[20:25, 20:25] = True  # a cluster whose middle has no good neighbour
    c = calibration(bad_pixels=bad)
    raw = counts(c)
    raw[:, bad] = 3000
    frames, valid = Correction(experiment(), c, (0, 1))(raw, np.array([True, True]))
    np.testing.assert_array_equal(valid[0].numpy(), ~bad)
    torch.testing.assert_close(frames[0], torch.ones(SHAPE), atol=1e-3, rtol=0)
    torch.testing.assert_close(frames[1], torch.full(SHAPE, 0.1), atol=1e-3, rtol=0)


def test_a_dead_corner_of_the_flat_is_bad():
    c = calibration()
    c.flat["half"][:3, :3] = 0
    frames, valid = Correction(experiment(), c, (0, 1))(counts(c), np.array([True, True]))
    assert not valid[0, :3, :3].any()
    assert valid[1].all()
    assert torch.isfinite(frames).all()


def test_a_calibration_without_a_good_pixel_is_refused():
    c = calibration(bad_pixels=np.ones(SHAPE, bool))
    with pytest.raises(ExperimentError, match="no good pixel"):
        Correction(experiment(), c, (0,))


def test_saturated_pixels_are_flagged_and_keep_their_value():
    c = calibration(saturation_counts=3000.0)
    raw = counts(c)
    raw[0, 4, 4] = 3000
    raw[0, 4, 5] = 2999
    frames, valid = Correction(experiment(), c, (0, 1))(raw, np.array([True, True]))
    assert not valid[0, 4, 4]
    assert valid[0, 4, 5]
    assert frames[0, 4, 4] > 2.5


def test_missing_frames_become_the_background():
    c = calibration()
    raw = counts(c)
    raw[:] = 0
    for known in (c, Calibration()):
        frames, valid = Correction(experiment(), known, (0, 1))(raw, np.array([False, False]))
        assert not valid.any()
        assert (frames[0] == 1).all()
        assert (frames[1] == 0).all()


def test_without_a_flat_brightfield_is_its_own_and_darkfield_follows_the_light():
    e = experiment()
    light = e.illumination
    n_half, n_dark = (len(light.leds(p, 0.25)) for p in ("half", "dark"))
    per_led = 1000 / (10 * 1.0 * n_half)
    dark_level = per_led * 40 * 0.5 * n_dark
    raw = np.empty((2, *SHAPE), np.uint16)
    raw[0] = 1100
    raw[0, :8] = 1500  # cells: less than half of the field
    raw[1] = np.rint(100 + 0.05 * dark_level)
    frames, _ = Correction(e, Calibration(), (0, 1))(raw, np.array([True, True]))
    torch.testing.assert_close(frames[0, 10:], torch.ones(22, 40), atol=1e-3, rtol=0)
    torch.testing.assert_close(frames[1], torch.full(SHAPE, 0.05), atol=1e-3, rtol=0)
    alone, _ = Correction(e, Calibration(), (1,))(raw[1:], np.array([True]))
    torch.testing.assert_close(alone[0], torch.ones(SHAPE), atol=1e-3, rtol=0)
    with_missing, _ = Correction(e, Calibration(), (0, 1))(raw, np.array([False, True]))
    torch.testing.assert_close(with_missing[1], torch.ones(SHAPE), atol=1e-3, rtol=0)


def test_a_black_frame_does_not_explode():
    raw = np.full((2, *SHAPE), 100, np.uint16)
    frames, _ = Correction(experiment(), Calibration(), (0, 1))(raw, np.array([True, True]))
    assert (frames == 0).all()


def blob(height):
    y, x = np.mgrid[: SHAPE[0] * 2, : SHAPE[1] * 2] * 0.25
    return torch.from_numpy(
        (height * np.exp(-((y - 8) ** 2 + (x - 10) ** 2) / 4)).astype(np.float32)
    )


@pytest.fixture
def measured():
    """Frames of a blob of 0.8 rad as the camera gives them, corrected."""
    e, c = experiment(), calibration()
    ideal = predict_frames(blob(0.8), None, e).numpy()
    rng = np.random.default_rng(5)
    raw = np.stack(
        [
            expose(4.0 * c.flat[n] * i, rng, **CAMERA | {"offset_counts": float(c.dark[n][0, 0])})
            for n, i in zip(("half", "dark"), ideal, strict=True)
        ]
    )
    frames, valid = Correction(e, c, (0, 1))(raw[None], np.ones((1, 2), bool))
    return e, c, frames, valid


def test_residual_of_the_truth_is_one(measured):
    e, c, frames, valid = measured
    right = residual(frames, valid, predict_frames(blob(0.8), None, e)[None], e, c)
    assert right.shape == (1,)
    assert right.item() == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("wrong", [0.0, -0.8])
def test_residual_of_no_phase_or_the_wrong_sign_is_large(measured, wrong):
    e, c, frames, valid = measured
    assert residual(frames, valid, predict_frames(blob(wrong), None, e)[None], e, c).item() > 1.5


def test_residual_forgives_gain_and_offset_but_not_invalid_pixels(measured):
    e, c, frames, valid = measured
    predicted = predict_frames(blob(0.8), None, e)[None]
    base = residual(frames, valid, predicted, e, c)
    shifted = residual(frames * 1.02 + 0.03, valid, predicted, e, c)
    assert shifted.item() == pytest.approx(base.item() * 1.02**2, rel=1e-3)
    spoilt, masked = frames.clone(), valid.clone()
    spoilt[0, 0, 16, 20] = 50
    assert residual(spoilt, valid, predicted, e, c) > 10
    masked[0, 0, 16, 20] = False
    assert residual(spoilt, masked, predicted, e, c).item() == pytest.approx(base.item(), abs=0.05)


def test_residual_without_valid_pixels_is_nan(measured):
    e, c, frames, valid = measured
    predicted = predict_frames(blob(0.8), None, e)[None]
    assert math.isnan(residual(frames, valid & False, predicted, e, c).item())


def test_residual_of_some_frames_takes_their_own_channel(measured):
    e, c, frames, valid = measured
    predicted = predict_frames(blob(0.8), None, e, frames=(1,))[None]
    dark = residual(frames[:, 1:], valid[:, 1:], predicted, e, c, indices=(1,))
    assert dark.item() == pytest.approx(1.0, abs=0.15)
