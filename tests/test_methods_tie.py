"""`tie` against light propagated by brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError, SlotError
from pipeline.experiment import parse_experiment
from pipeline.methods.tie import Tie

torch.set_num_threads(1)

WAVELENGTH, NA, PIXEL = 0.53, 0.4, 0.5


def experiment(shape, foci, settings=None, illumination=None, **optics):
    return parse_experiment(
        {
            "microscope": {
                "driver": "simulator",
                "camera": {"shape_px": shape, "pixel_um": PIXEL * 20},
            },
            "optics": {
                "wavelength_um": WAVELENGTH,
                "numerical_aperture": NA,
                "magnification": 20,
                **optics,
            },
            "illumination": illumination or {"source": "condenser"},
            "sequence": {"timepoints": 1, "foci_um": list(foci)},
            "reconstruction": {"method": "tie", "settings": settings or {}},
        }
    )


def propagate(field, z_um, n=1.0):
    """Exact angular spectrum through the objective's NA; field as exp(+iφ), forward as exp(+ikz)."""
    fy = np.fft.fftfreq(field.shape[0], PIXEL)[:, None]
    fx = np.fft.fftfreq(field.shape[1], PIXEL)[None, :]
    square = fx**2 + fy**2
    pupil = square <= (NA / WAVELENGTH) ** 2
    phase = 2 * np.pi * z_um * np.sqrt(np.maximum((n / WAVELENGTH) ** 2 - square, 0))
    return np.fft.ifft2(np.fft.fft2(field) * pupil * np.exp(1j * phase))


def bumps(shape, peak, width_um=5.0, seed=0):
    """Smooth hills away from the edges, zero in the background."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape) * PIXEL
    image = np.zeros(shape)
    for _ in range(5):
        cy = rng.uniform(0.3, 0.7) * shape[0] * PIXEL
        cx = rng.uniform(0.3, 0.7) * shape[1] * PIXEL
        image += np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * width_um**2))
    return peak * image / image.max()


def reconstruct(exp, frames, calibration=None):
    frames = torch.from_numpy(np.asarray(frames, np.float32))
    loaded = Tie().load(exp, calibration or Calibration(), "cpu", None)
    return loaded(frames, torch.ones(frames.shape, dtype=torch.bool)).images.numpy()


def relative_error(image, truth):
    image, truth = image - image.mean(), truth - truth.mean()
    return np.sqrt(((image - truth) ** 2).mean() / (truth**2).mean())


SHARP = {"regularisation": 1e-5}


@pytest.mark.parametrize("foci", [(-1.0, 1.0), (-2.0, -1.0, 1.0, 2.0), (-1.5, 0.0, 1.0)])
@pytest.mark.parametrize("shape", [(128, 128), (121, 140)])
def test_a_hill_of_phase_comes_back_upright(foci, shape):
    phi = bumps(shape, 2.0)
    frames = [[np.abs(propagate(np.exp(1j * phi), z)) ** 2 for z in foci]]
    image = reconstruct(experiment(shape, foci, SHARP), frames)[0, 0]
    assert image.dtype == np.float32
    assert relative_error(image, phi) < 0.04
    assert image.max() == pytest.approx(2.0, rel=0.05)
    assert abs(np.median(image[:10])) < 0.05


@pytest.mark.parametrize("n", [1.0, 1.33])
def test_wavelength_is_that_of_the_medium(n):
    phi = bumps((128, 128), 1.0)
    frames = [[np.abs(propagate(np.exp(1j * phi), z, n)) ** 2 for z in (-2.0, 2.0)]]
    exp = experiment((128, 128), (-2.0, 2.0), SHARP, refractive_index=n)
    assert relative_error(reconstruct(exp, frames)[0, 0], phi) < 0.04


def test_absorption_is_told_from_phase():
    phi = bumps((128, 128), 1.5, width_um=4.0, seed=1)
    mu = bumps((128, 128), 0.35, seed=2)
    frames = [[np.abs(propagate(np.exp(-mu + 1j * phi), z)) ** 2 for z in (-1.5, 0.0, 1.5)]]
    foci = (-1.5, 0.0, 1.5)
    measured = reconstruct(experiment((128, 128), foci, SHARP), frames)[0, 0]
    uniform = reconstruct(experiment((128, 128), foci, {**SHARP, "intensity": "uniform"}), frames)[
        0, 0
    ]
    assert relative_error(measured, phi) < 0.05
    assert relative_error(uniform, phi) > 3 * relative_error(measured, phi)


def test_uniform_and_measured_agree_on_a_pure_phase_object():
    phi = bumps((96, 96), 0.5)
    frames = [[np.abs(propagate(np.exp(1j * phi), z)) ** 2 for z in (-1.0, 1.0)]]
    exp = experiment((96, 96), (-1.0, 1.0), SHARP)
    uniform = experiment((96, 96), (-1.0, 1.0), {**SHARP, "intensity": "uniform"})
    np.testing.assert_allclose(reconstruct(exp, frames), reconstruct(uniform, frames), atol=0.01)


def test_third_order_is_sharper_than_first():
    shape = (128, 128)
    phi = bumps(shape, 0.5, width_um=0.8)
    foci = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
    frames = [[np.abs(propagate(np.exp(1j * phi), z)) ** 2 for z in foci]]
    frequency = np.hypot(np.fft.fftfreq(128, PIXEL)[:, None], np.fft.fftfreq(128, PIXEL))
    errors = []
    for order in (1, 3):
        image = reconstruct(experiment(shape, foci, {"order": order}), frames)[0, 0]
        error = np.fft.fft2(image - phi)[frequency > 0.2]
        errors.append(np.linalg.norm(error) / np.linalg.norm(np.fft.fft2(phi)[frequency > 0.2]))
    assert errors[0] > 3 * errors[1]


def test_a_cell_cut_by_the_edge_does_not_bend_the_field():
    shape = (128, 256)
    y, x = np.indices(shape) * PIXEL
    inside = 1.0 * np.exp(-((x - 84) ** 2 + (y - 32) ** 2) / (2 * 4.0**2))
    phi = inside + 2.0 * np.exp(-((x - 32) ** 2 + (y - 28) ** 2) / (2 * 6.0**2))
    frames = [[np.abs(propagate(np.exp(1j * phi), z))[:, 64:192] ** 2 for z in (-1.0, 1.0)]]
    image = reconstruct(experiment((128, 128), (-1.0, 1.0)), frames)[0, 0]
    middle = np.s_[24:104, 64:]
    error = image[middle] - phi[:, 64:192][middle]
    assert (error - np.median(error)).std() < 0.06


def test_calibrated_z_scale_scales_the_phase():
    phi = bumps((128, 128), 1.0)
    frames = [[np.abs(propagate(np.exp(1j * phi), z)) ** 2 for z in (-1.2, 1.2)]]
    exp = experiment((128, 128), (-1.0, 1.0), SHARP)
    assert relative_error(reconstruct(exp, frames, Calibration(z_scale=1.2))[0, 0], phi) < 0.04
    assert reconstruct(exp, frames)[0, 0].max() == pytest.approx(1.2, rel=0.05)


def test_a_lens_that_magnifies_is_undone():
    phi = bumps((128, 128), 1.0)
    field = (1 - bumps((128, 128), 0.2, seed=3)) * np.exp(1j * phi)
    foci, growth = (-1.0, 1.0), 4e-3
    middle = 127 / 2
    frames = [
        affine_transform(
            np.abs(propagate(field, z)) ** 2,
            [1 / (1 + growth * z)] * 2,
            middle - middle / (1 + growth * z),
            mode="nearest",
        )
        for z in foci
    ]
    exp = experiment((128, 128), foci, SHARP)
    undone = reconstruct(exp, [frames], Calibration(magnification_per_um=growth))[0, 0]
    assert relative_error(undone, phi) < 0.02
    assert relative_error(reconstruct(exp, [frames])[0, 0], phi) > 0.1


def test_flicker_between_foci_is_not_a_change_along_z():
    phi = bumps((128, 128), 1.0)
    frames = np.array([np.abs(propagate(np.exp(1j * phi), z)) ** 2 for z in (-1.0, 1.0)])
    exp = experiment((128, 128), (-1.0, 1.0), SHARP)
    flickering = frames * np.array([1.03, 0.98])[:, None, None]
    np.testing.assert_allclose(
        reconstruct(exp, [flickering]), reconstruct(exp, [frames]), atol=0.01
    )


def test_a_batch_is_its_items():
    exp = experiment((96, 80), (-1.0, 1.0))
    items = []
    for seed in range(3):
        phi = bumps((96, 80), 1.0, seed=seed)
        items.append([np.abs(propagate(np.exp(1j * phi), z)) ** 2 for z in (-1.0, 1.0)])
    batch = reconstruct(exp, items)
    assert batch.shape == (3, 1, 96, 80)
    for item, images in zip(items, batch, strict=True):
        np.testing.assert_array_equal(images, reconstruct(exp, [item])[0])


def test_noise_is_held_by_the_regularisation():
    rng = np.random.default_rng(0)
    frames = 1 + rng.normal(0, 0.01, (1, 3, 128, 128))
    foci = (-2.0, 0.0, 2.0)
    gentle = reconstruct(experiment((128, 128), foci, {"regularisation": 1e-5}), frames)
    firm = reconstruct(experiment((128, 128), foci, {"regularisation": 1e-2}), frames)
    assert firm.std() < 0.2 * gentle.std()


def test_a_channel_and_its_foci_are_chosen():
    array = {"rows": 5, "columns": 5, "pitch_mm": 4.0, "distance_mm": 40.0}
    patterns = {
        "side": {"kind": "half_circle", "direction_deg": 0},
        "axis": {"kind": "leds", "leds": [12]},
    }
    light = {
        "source": "led_array",
        "array": array,
        "patterns": patterns,
        "channels": {name: {"pattern": name} for name in patterns},
    }
    exp = experiment((32, 32), (-1.0, 0.0, 1.0), illumination=light)
    assert Tie().measurement(exp).frames == (3, 4, 5)
    with pytest.raises(ExperimentError, match="oblique"):
        Tie().measurement(
            experiment((32, 32), (-1.0, 1.0), {"channel": "side"}, illumination=light)
        )
    with pytest.raises(ExperimentError, match="did you mean 'axis'"):
        Tie().measurement(
            experiment((32, 32), (-1.0, 1.0), {"channel": "axes"}, illumination=light)
        )


@pytest.mark.parametrize(
    ("foci", "settings", "coherence", "message"),
    [
        ((0.0,), {}, 0.1, "two or more foci"),
        ((-1.0, 1.0), {}, 0.95, "incoherent"),
        ((-1.0, 1.0), {"order": 2}, 0.1, "order"),
        ((-1.0, 1.0), {"regularization": 1e-3}, 0.1, "did you mean 'regularisation'"),
        ((-1.0, 1.0), {"regularisation": -1}, 0.1, "regularisation"),
    ],
)
def test_refuses_with_the_fix(foci, settings, coherence, message):
    light = {"source": "condenser", "coherence": coherence}
    with pytest.raises(ExperimentError, match=message) as error:
        Tie().measurement(experiment((32, 32), foci, settings, light))
    assert error.value.fix


def test_a_dark_frame_is_refused_in_a_sentence():
    frames = np.ones((1, 2, 32, 32))
    frames[0, 1] = 0
    with pytest.raises(SlotError, match="a frame has no light"):
        reconstruct(experiment((32, 32), (-1.0, 1.0)), frames)
