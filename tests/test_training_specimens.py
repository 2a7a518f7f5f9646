"""The specimens that networks are trained on: of many families, the same in every pixel size."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pipeline.samples.families import FAMILIES, fine_field, training_field
from pipeline.samples.grid import Grid
from pipeline.samples.noise import spectral_noise
from pipeline.samples.patterns import bar_groups
from pipeline.samples.resampling import resampled
from pipeline.samples.seeding import generator
from pipeline.samples.shapes import Patch, patches, scatter

CONSTRUCTIONS = {name: make for name, _, make in FAMILIES}


def binned(a, n=2):
    return a.reshape(a.shape[0] // n, n, a.shape[1] // n, n).mean((1, 3))


@pytest.mark.parametrize("name", CONSTRUCTIONS)
def test_each_family_is_a_pure_function_that_leaves_no_negative_phase(name):
    drawn = [CONSTRUCTIONS[name](generator(s, 5), Grid((130, 161), 0.4)) for s in (1, 2, 1)]
    for field in drawn:
        assert field.shape == (130, 161)
        assert field.dtype == np.float32
        assert np.isfinite(field).all()
        assert field.min() >= 0
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert name == "sparse" or not np.array_equal(drawn[0], drawn[1])


def test_every_family_is_drawn_from(monkeypatch):
    reached = set()

    def blank(name):
        def make(rng, grid):
            reached.add(name)
            return np.zeros(grid.shape, np.float32)

        return make

    table = tuple((name, share, blank(name)) for name, share, _ in FAMILIES)
    monkeypatch.setattr("pipeline.samples.families.FAMILIES", table)
    monkeypatch.setattr("pipeline.samples.families._ON_CARPET", 0.0)
    for seed in range(400):
        assert not training_field(seed, (4, 4), 0.65).any()
    assert reached == set(CONSTRUCTIONS)
    assert sum(share for _, share, _ in table) == pytest.approx(1)


@pytest.mark.parametrize("seed", [0, 4, 5])
def test_all_pixel_sizes_show_the_same_specimen(seed):
    coarse = training_field(seed, (96, 80), 0.65)
    np.testing.assert_array_equal(coarse, training_field(seed, (96, 80), 0.65))
    np.testing.assert_allclose(coarse, binned(training_field(seed, (192, 160), 0.325)), atol=1e-5)
    # Finer than it is drawn, it is interpolated.
    fine = binned(training_field(seed, (384, 320), 0.1625), 4)
    assert np.sqrt(np.mean((coarse - fine) ** 2)) < 0.01 * coarse.max()


def test_fields_are_empty_to_full_and_thin_to_thick():
    fields = [training_field(seed, (128, 128), 0.65) for seed in range(12)]
    filled = np.array([(f > 0.15).mean() for f in fields])
    peaks = np.array([f.max() for f in fields])
    assert min(f.min() for f in fields) == 0
    assert np.median([f.min() for f in fields]) == 0
    assert peaks.max() <= 6.01
    assert filled.min() < 0.05
    assert filled.max() > 0.75
    assert 0.15 < np.median(filled) < 0.6
    assert 1.0 < np.median(peaks) < 4.0
    assert np.ptp(np.log(peaks[peaks > 0])) > np.log(4)


def power_below(field, pixel_um, cycles_per_um):
    """Share of the variance at lower frequencies."""
    f = np.fft.fftfreq(len(field), pixel_um)
    power = np.abs(np.fft.fft2(field - field.mean())) ** 2
    return power[np.hypot(f[:, None], f) < cycles_per_um].sum() / power.sum()


def test_carpets_are_wide_and_lawns_are_fine():
    grid = Grid((512, 512), 0.4)
    drawn = {
        name: [CONSTRUCTIONS[name](generator(s, 6), grid) for s in range(6)]
        for name in ("carpets", "lawns")
    }
    covered = [float((f > 0.15 * f.max()).mean()) for f in drawn["carpets"]]
    assert 0.1 < min(covered) < 0.35 < 0.4 < max(covered)
    # Periods of 20 µm and more: a lamella against single bodies.
    assert np.median([power_below(f, 0.4, 0.05) for f in drawn["carpets"]]) > 0.7
    assert np.median([power_below(f, 0.4, 0.05) for f in drawn["lawns"]]) < 0.2


def test_charts_hold_bars_five_times_as_long_as_wide():
    """Of nearly every chart, whichever way its bars are turned; down to what light at 0.5 NA shows."""
    shapes, widths = [], []
    for seed in range(16):
        drawn, count = ndimage.label(bar_groups(generator(seed, 7), Grid((480, 480), 0.1)) > 0.15)
        for at in np.argwhere(np.bincount(drawn.ravel(), minlength=count + 1)[1:] > 20)[:40, 0]:
            y, x = np.nonzero(drawn == at + 1)
            if min(y.min(), x.min()) > 0 and max(y.max(), x.max()) < 479:
                # A bar as wide as w has a variance of w²/12.
                across, along = np.sqrt(12 * np.linalg.eigvalsh(np.cov(y, x)))
                shapes.append(along / across)
                widths.append(0.1 * across)
    assert np.median(shapes) == pytest.approx(5, rel=0.15)
    assert min(widths) < 0.8 < 2.0 < max(widths)


def test_a_field_of_fine_periods_is_a_function_of_its_seed():
    fields = [fine_field(seed, (96, 90), 0.27) for seed in (*range(8), 0)]
    np.testing.assert_array_equal(fields[0], fields[-1])
    for field in fields:
        assert field.shape == (96, 90)
        # Between pixels a steep step is overshot a little.
        assert 0 == field.min() <= field.max() < 6.2


def test_some_fields_lie_on_a_carpet(monkeypatch):
    bare = [training_field(s, (32, 32), 0.65) for s in range(24)]
    monkeypatch.setattr("pipeline.samples.families._ON_CARPET", 0.0)
    without = [training_field(s, (32, 32), 0.65) for s in range(24)]
    differ = sum(not np.array_equal(a, b) for a, b in zip(bare, without, strict=True))
    assert 1 <= differ <= 12


def test_noise_has_the_spectrum_it_is_asked_for():
    field = spectral_noise(generator(1, 2), Grid((512, 512), 0.4), exponent=1.5, longest_um=40)
    f = np.fft.fftfreq(512, 0.4)
    radius = np.hypot(f[:, None], f)
    amplitude = np.abs(np.fft.fft2(field))
    at = [np.sqrt((amplitude[np.abs(radius - b) < 0.1 * b] ** 2).mean()) for b in (0.1, 0.4)]
    assert np.log(at[0] / at[1]) / np.log(4) == pytest.approx(1.5, abs=0.15)
    assert field.std() == pytest.approx(1, rel=1e-4)


def test_resampling_keeps_the_mean_and_smooth_waves():
    rng = np.random.default_rng(3)
    field = rng.random((60, 45)).astype(np.float32)
    assert resampled(field, (20, 9)).mean() == pytest.approx(field.mean(), rel=1e-5)
    x = (np.arange(64) + 0.5) / 64
    wave = np.broadcast_to(np.sin(2 * np.pi * 3 * x), (8, 64)).astype(np.float32)
    y = (np.arange(160) + 0.5) / 160
    np.testing.assert_allclose(
        resampled(wave, (20, 160))[:, 5:-5],
        np.broadcast_to(np.sin(2 * np.pi * 3 * y), (20, 160))[:, 5:-5],
        atol=0.01,
    )


def test_scattered_places_keep_their_distance():
    places = scatter(generator(2, 1), Grid((800, 600), 0.5), 20.0, 15.0)
    gaps = np.hypot(*(places[:, None] - places).transpose(2, 0, 1))
    np.fill_diagonal(gaps, np.inf)
    nearest = gaps.min(1)
    assert nearest.min() > 0.6 * 15.0
    assert np.mean(nearest > 0.9 * 15.0) > 0.9
    clumped = scatter(generator(2, 1), Grid((800, 600), 0.5), 20.0, 15.0, 0.8)
    assert 0 < len(clumped) < len(places)


def test_a_patch_knows_its_pixels():
    grid = Grid((40, 60), 0.5)
    (patch,) = patches(grid, np.array([[3.0, -4.0]]), np.array([5.0]))
    assert isinstance(patch, Patch)
    x, y = np.meshgrid(grid.x(), grid.y())
    np.testing.assert_allclose(patch.dx, x[patch.where] - 3.0, atol=1e-5)
    near = patch.moved(1.0, 2.0).within(1.5)
    np.testing.assert_allclose(near.dy, y[near.where] + 2.0, atol=1e-5)
    assert np.abs(near.dx).max() <= 1.5
    assert list(patches(grid, np.array([[90.0, 0.0]]), np.array([5.0]))) == [None]
