"""Metrics against scikit-image and against cases whose answer is known."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pipeline.quality import (
    align_bowl,
    align_piston,
    foreground_mask,
    frc_cutoff,
    nyquist_oracle,
    phase_slope,
    psnr_db,
    rmse_rad,
    ssim,
    ssim_foreground,
    ssim_map,
)
from pipeline.quality.slope import slope_by_size

SKIMAGE = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def blobs(shape=(96, 110), seed=0, count=6):
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    image = np.zeros(shape)
    for _ in range(count):
        cy, cx = rng.uniform(0, 1, 2) * shape
        image += rng.uniform(0.5, 2) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 60)
    return image


def white(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape)


def low_passed(image, cycles_per_pixel):
    fy, fx = (np.fft.fftfreq(n) for n in image.shape)
    inside = np.hypot(fy[:, None], fx) <= cycles_per_pixel
    return np.fft.ifft2(np.fft.fft2(image) * inside).real


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), noise=st.floats(0.0, 1.0), piston=st.floats(-2, 2))
def test_ssim_is_scikit_images(seed, noise, piston):
    truth = blobs(seed=seed)
    image = truth + noise * white(truth.shape, seed + 1) + piston
    expected, full = structural_similarity(
        truth, image, data_range=np.ptp(truth), full=True, **SKIMAGE
    )
    assert ssim(image, truth) == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(ssim_map(image, truth), full, atol=1e-9)


def test_ssim_foreground_looks_at_the_specimen_only():
    truth = blobs()
    spoiled = truth + np.where(foreground_mask(truth), 0, 0.3 * white(truth.shape, 3))
    assert ssim_foreground(truth, truth) == pytest.approx(1)
    assert ssim_foreground(spoiled, truth) > ssim(spoiled, truth) + 0.2
    expected = structural_similarity(
        truth, spoiled, data_range=np.ptp(truth), full=True, **SKIMAGE
    )[1][truth > 0.15].mean()
    assert ssim_foreground(spoiled, truth) == pytest.approx(expected, abs=1e-9)
    assert ssim_foreground(spoiled + 1, truth + 1, background_rad=1.0) == pytest.approx(
        structural_similarity(
            truth + 1, spoiled + 1, data_range=np.ptp(truth), full=True, **SKIMAGE
        )[1][truth > 0.15].mean(),
        abs=1e-9,
    )
    assert np.isnan(ssim_foreground(truth, truth, background_rad=10.0))


def test_psnr_and_rmse():
    truth = blobs()
    image = truth + 0.1 * white(truth.shape, 1)
    assert rmse_rad(truth + 0.25, truth) == pytest.approx(0.25)
    expected = peak_signal_noise_ratio(truth, image, data_range=np.ptp(truth))
    assert psnr_db(image, truth) == pytest.approx(expected)
    assert psnr_db(truth, truth) == float("inf")


def test_alignment_takes_out_piston_and_tilt_only():
    truth = blobs()
    y, x = np.indices(truth.shape)
    np.testing.assert_allclose(align_piston(truth - 3.5, truth), truth, atol=1e-12)
    tilted = truth + 0.7 + 0.01 * y - 0.02 * x
    np.testing.assert_allclose(align_piston(tilted, truth, tilt=True), truth, atol=1e-10)
    assert rmse_rad(align_piston(tilted, truth), truth) > 0.3
    assert rmse_rad(align_piston(2 * truth, truth, tilt=True), truth) > 0.1
    bowl = 0.7 + 1e-4 * (y**2 + x**2) - 0.02 * x
    np.testing.assert_allclose(align_bowl(truth + bowl, truth), truth, atol=1e-10)
    assert rmse_rad(align_bowl(2 * truth, truth), truth) > 0.1


@pytest.mark.parametrize("cutoff", [0.1, 0.2, 0.35])
@pytest.mark.parametrize("shape", [(256, 256), (201, 300)])
def test_frc_finds_the_edge_of_a_known_band(cutoff, shape):
    shared = low_passed(white(shape, 0), cutoff)
    # Beyond the band the two images share nothing.
    image = shared + white(shape, 1) - low_passed(white(shape, 1), cutoff)
    truth = shared + white(shape, 2) - low_passed(white(shape, 2), cutoff)
    assert frc_cutoff(image, truth) == pytest.approx(2 * cutoff, abs=8 / min(shape))
    # Four image pixels a camera pixel: the camera's Nyquist frequency is 1/8 cycle per image pixel.
    assert frc_cutoff(image, truth, 4) == pytest.approx(8 * cutoff, abs=32 / min(shape))


def test_frc_of_equal_images_is_the_grids_own_limit():
    truth = white((128, 128), 0)
    assert frc_cutoff(truth, truth) == pytest.approx(1)
    assert frc_cutoff(truth, truth, 4) == pytest.approx(4)


def test_frc_ignores_the_mean_and_the_scale():
    truth = white((128, 128), 0)
    image = low_passed(truth, 0.2) + 0.5 * white((128, 128), 1)
    assert frc_cutoff(3 * image + 7, truth) == frc_cutoff(image, truth)


def test_frc_of_unrelated_images_ends_right_beyond_the_fifth_ring():
    assert frc_cutoff(white((128, 128), 0), white((128, 128), 1)) == pytest.approx(2 * 6 / 128)


def test_the_oracle_resolves_the_camera_and_no_more():
    truth = white((256, 256), 0)
    oracle = nyquist_oracle(truth, 4)
    np.testing.assert_allclose(oracle, low_passed(truth, 1 / 8), atol=1e-12)
    assert frc_cutoff(oracle, truth, 4) == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(nyquist_oracle(oracle, 4), oracle, atol=1e-12)


def cells():
    y, x = np.indices((200, 240))
    truth = np.zeros(y.shape)
    for cy, cx, r, peak in ((50, 50, 15, 1.5), (60, 150, 25, 2.0), (150, 90, 20, 1.0)):
        truth += peak * np.clip(1 - ((y - cy) ** 2 + (x - cx) ** 2) / r**2, 0, None)
    return truth


def test_slope_is_the_scale_whatever_the_background():
    truth = cells()
    y, _ = np.indices(truth.shape)
    result = phase_slope(0.8 * truth + 0.5 + 0.0005 * y, truth)
    assert len(result.slopes) == 3
    assert result.mean == pytest.approx(0.8, abs=0.01)
    assert result.spread < 0.01
    assert phase_slope(truth, truth).mean == pytest.approx(1)


def test_slope_of_each_cell_and_by_size():
    truth = cells()
    scale = np.ones(truth.shape)
    scale[100:] = 0.5
    result = phase_slope(scale * truth, truth)
    order = np.argsort(result.areas_px)
    np.testing.assert_allclose(result.slopes[order], [1.0, 0.5, 1.0], atol=0.01)
    sizes = slope_by_size(result.slopes, result.areas_px)
    assert sizes == pytest.approx({"small": 1.0, "middle": 0.5, "large": 1.0}, abs=0.01)
    one = slope_by_size(result.slopes[:1], result.areas_px[:1])
    assert one == {"small": result.slopes[0]}
    assert slope_by_size(result.slopes[:0], result.areas_px[:0]) == {}
    assert result.spread == pytest.approx(np.std([1, 1, 0.5]), abs=0.01)


def test_slope_is_orthogonal_not_diluted_by_noise():
    truth = cells()
    rng = np.random.default_rng(0)
    noisy_truth = truth + rng.normal(0, 0.04, truth.shape)
    image = truth + rng.normal(0, 0.04, truth.shape)
    labels = np.zeros(truth.shape, int)
    labels[:100, :100], labels[:100, 100:], labels[100:] = 1, 2, 3
    labels[truth == 0] = 0
    assert phase_slope(image, noisy_truth, labels=labels).mean == pytest.approx(1, abs=0.02)


def test_slope_without_cells_is_not_a_number():
    assert np.isnan(phase_slope(np.zeros((50, 50)), np.zeros((50, 50))).mean)


def test_refuses_what_has_no_answer():
    flat = np.zeros((32, 32))
    for metric in (ssim, psnr_db):
        with pytest.raises(ValueError, match="constant"):
            metric(flat, flat)
    with pytest.raises(ValueError, match="one shape"):
        rmse_rad(flat, flat[:-1])
    with pytest.raises(ValueError, match="NaN"):
        rmse_rad(np.full((32, 32), np.nan), flat)
    with pytest.raises(ValueError, match="at least 11"):
        ssim(blobs((8, 40)), blobs((8, 40)))


def test_metrics_need_no_torch():
    code = "import sys; import pipeline.quality; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
