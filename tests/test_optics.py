"""Optics against computations of their own: Talbot gratings, TIE's sign, brute force, energy."""

import math

import numpy as np
import pytest
import torch

from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment, Optics, parse_experiment
from pipeline.optics.forward import (
    camera_intensity,
    image_intensity,
    intensity_samples,
    predict_frames,
    thin_specimen,
)
from pipeline.optics.illumination import (
    Source,
    background_intensity,
    channel_source,
    condenser_source,
)
from pipeline.optics.propagation import angular_spectrum, frequency_grid
from pipeline.optics.pupil import aberration_phase, pupil
from pipeline.optics.sensor import bin_pixels

OPTICS = Optics(wavelength_um=0.5, numerical_aperture=0.25, magnification=10)
PIXEL = 0.5


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def plane_waves(*frequencies):
    f = torch.tensor(frequencies, dtype=torch.float64)
    return Source(f, torch.full((len(f),), 1 / len(f), dtype=torch.float64))


ON_AXIS = plane_waves((0.0, 0.0))


def bump(n=64, height=0.5, width=4.0, pixel=PIXEL):
    r = (torch.arange(n) - n // 2) * pixel
    return height * torch.exp(-(r[:, None] ** 2 + r[None, :] ** 2) / width**2)


def random_field(shape=(24, 20), seed=0):
    g = torch.Generator().manual_seed(seed)
    return thin_specimen(torch.rand(shape, generator=g), 0.3 * torch.rand(shape, generator=g))


def led_experiment(channels, patterns, **optics):
    return parse_experiment(
        {
            "microscope": {
                "driver": "simulator",
                "camera": {"shape_px": [32, 32], "pixel_um": 5.0},
            },
            "optics": {
                "wavelength_um": 0.5,
                "numerical_aperture": 0.25,
                "magnification": 10,
                **optics,
            },
            "illumination": {
                "source": "led_array",
                "array": {"rows": 15, "columns": 15, "pitch_mm": 4, "distance_mm": 70},
                "patterns": patterns,
                "channels": channels,
            },
            "sequence": {"timepoints": 1},
        }
    )


def brute_force(field, pixel, optics, source, z, shape, offset=0.0):
    """Abbe's sum as a double sum of exponentials in float64, on any image grid."""
    u = field.numpy().astype(np.complex128)
    ny, nx = u.shape
    ky = np.fft.fftfreq(ny, pixel)
    kx = np.fft.fftfreq(nx, pixel)
    spectrum = np.fft.fft2(u) / u.size
    y = np.arange(shape[0]) * ny * pixel / shape[0] + offset
    x = np.arange(shape[1]) * nx * pixel / shape[1] + offset
    ey, ex = np.exp(2j * np.pi * np.outer(y, ky)), np.exp(2j * np.pi * np.outer(x, kx))
    total = np.zeros(shape)
    for (sx, sy), weight in zip(source.frequencies.numpy(), source.weights.numpy(), strict=True):
        f2 = (ky[:, None] + sy) ** 2 + (kx[None, :] + sx) ** 2
        k2 = (optics.refractive_index / optics.wavelength_um) ** 2
        p = (f2 <= (optics.cutoff_per_um) ** 2) * np.exp(
            2j * np.pi * z * np.sqrt(np.maximum(k2 - f2, 0))
        )
        total += weight * np.abs(ey @ (spectrum * p) @ ex.T) ** 2
    return total


def test_propagation_keeps_energy_and_runs_backwards():
    field = random_field()
    transfer = angular_spectrum((24, 20), PIXEL, 0.5, 1.33, 37.0)
    there = torch.fft.ifft2(torch.fft.fft2(field) * transfer)
    back = torch.fft.ifft2(torch.fft.fft2(there) * transfer.conj())
    assert there.abs().square().sum() == pytest.approx(field.abs().square().sum().item(), rel=1e-5)
    assert not torch.allclose(there, field, atol=1e-2)
    torch.testing.assert_close(back, field, atol=1e-5, rtol=0)


def test_propagation_of_a_tilted_wave_is_its_plane_wave_phase():
    transfer = angular_spectrum((16, 16), 0.5, 0.55, 1.0, 2.0)
    f = 3 / 8.0
    expected = np.exp(2j * np.pi * 2.0 * np.sqrt(1 / 0.55**2 - f**2))
    assert transfer[0, 3].item() == pytest.approx(expected, abs=1e-5)


def test_evanescent_waves_are_cut():
    transfer = angular_spectrum((64, 64), 0.1, 0.5, 1.0, 1.0)
    fy, fx = frequency_grid((64, 64), 0.1, dtype=torch.float64)
    evanescent = fy**2 + fx**2 > 1 / 0.5**2 + 1e-6
    assert evanescent.any()
    assert (transfer[evanescent] == 0).all()
    torch.testing.assert_close(
        transfer[~evanescent].abs(), torch.ones(int((~evanescent).sum())), atol=1e-6, rtol=0
    )


def test_propagation_gives_gradients_of_z():
    z = torch.tensor(3.0, requires_grad=True)
    field = torch.fft.fft2(thin_specimen(bump()))
    centre = torch.fft.ifft2(field * angular_spectrum((64, 64), PIXEL, 0.5, 1.0, z))[32, 32]
    centre.abs().square().backward()
    assert z.grad is not None
    assert z.grad > 0


def test_zernikes_are_orthonormal_over_the_pupil():
    f = torch.linspace(-1, 1, 801, dtype=torch.float64) * OPTICS.cutoff_per_um
    inside = f[:, None] ** 2 + f[None, :] ** 2 <= OPTICS.cutoff_per_um**2
    names = ["astigmatism_0", "astigmatism_45", "coma_x", "coma_y", "spherical", "defocus"]
    modes = torch.stack(
        [aberration_phase(f[:, None], f[None, :], OPTICS, {n: 1.0})[inside] for n in names]
    )
    gram = modes @ modes.T / modes.shape[1]
    torch.testing.assert_close(gram, torch.eye(6, dtype=torch.float64), atol=0.01, rtol=0)


def test_coma_x_is_odd_in_x_and_even_in_y():
    f = torch.linspace(-0.4, 0.4, 9, dtype=torch.float64)
    phase = aberration_phase(f[:, None], f[None, :], OPTICS, {"coma_x": 1.0})
    torch.testing.assert_close(phase.flip(1), -phase)
    torch.testing.assert_close(phase.flip(0), phase)


def test_an_unknown_aberration_is_refused_with_the_nearest():
    with pytest.raises(ExperimentError, match="did you mean 'coma_x'"):
        pupil(torch.zeros(1), torch.zeros(1), OPTICS, aberration={"comax": 1.0})


@pytest.mark.parametrize("z", [6.0, -6.0, 18.0])
def test_talbot_contrast_of_a_weak_phase_grating(z):
    """I = 1 + 2·ε·sin(2πz(k − √(k² − f²)))·cos(2πfx) to first order in ε."""
    n, periods, epsilon = 64, 4, 0.01
    f = periods / (n * PIXEL)
    x = torch.arange(n) * PIXEL
    phase = epsilon * torch.cos(2 * math.pi * f * x).expand(n, n).contiguous()
    image = image_intensity(thin_specimen(phase), PIXEL, OPTICS, ON_AXIS, z)
    k = 1 / 0.5
    contrast = 2 * epsilon * math.sin(2 * math.pi * z * (k - math.sqrt(k**2 - f**2)))
    measured = 2 * (image[0] * torch.cos(2 * math.pi * f * x)).mean()
    assert measured.item() == pytest.approx(contrast, rel=0.01)


def test_a_positive_phase_bump_gets_brighter_downstream():
    """TIE: ∂I/∂z = −(λ/2π)·∇·(I∇φ); a bump is a converging lens."""
    phase, z = bump(), 1.0
    above, below = (
        image_intensity(thin_specimen(phase), PIXEL, OPTICS, ON_AXIS, s * z) for s in (1, -1)
    )
    assert above[32, 32] > 1 > below[32, 32]
    fy, fx = frequency_grid((64, 64), PIXEL)
    laplacian = torch.fft.ifft2(-4 * math.pi**2 * (fy**2 + fx**2) * torch.fft.fft2(phase)).real
    slope = (above - below) / (2 * z)
    torch.testing.assert_close(slope, -0.5 / (2 * math.pi) * laplacian, atol=1.5e-4, rtol=0)


def test_the_pupil_cuts_at_na_over_lambda():
    n = 64
    x = torch.arange(n) * PIXEL
    step = 1 / (n * PIXEL)
    for periods, passes in ((15, True), (17, False)):  # NA/λ = 0.5 = 16 steps
        grating = torch.exp(2j * math.pi * periods * step * x).expand(n, n).to(torch.complex64)
        image = image_intensity(grating.contiguous(), PIXEL, OPTICS, ON_AXIS)
        assert image.mean().item() == pytest.approx(1.0 if passes else 0.0, abs=1e-5)


@pytest.mark.parametrize("shape", [None, (24, 20), (48, 40), (30, 34), (20, 16)])
def test_abbe_sum_equals_brute_force_on_and_off_the_grid(shape):
    optics = Optics(wavelength_um=0.5, numerical_aperture=0.212, magnification=10)
    step = 1 / (24 * PIXEL), 1 / (20 * PIXEL)
    source = plane_waves(
        (0.0, 0.0), (2 * step[1], -step[0]), (0.137, 0.071), (-0.61, 0.33), (0.39, 0)
    )
    field = random_field()
    image = image_intensity(field, PIXEL, optics, source, 5.0, shape=shape)
    expected = brute_force(field, PIXEL, optics, source, 5.0, shape or (24, 20))
    np.testing.assert_allclose(image.numpy(), expected, atol=2e-5)


def test_a_wave_on_the_grid_equals_a_tilted_field():
    field = random_field((32, 32))
    step = 1 / (32 * PIXEL)
    x = torch.arange(32) * PIXEL
    tilt = torch.exp(2j * math.pi * 3 * step * x).to(torch.complex64)
    by_pupil = image_intensity(field, PIXEL, OPTICS, plane_waves((3 * step, 0.0)), 4.0)
    by_field = image_intensity(field * tilt, PIXEL, OPTICS, ON_AXIS, 4.0)
    torch.testing.assert_close(by_pupil, by_field, atol=1e-5, rtol=0)


def test_a_wave_off_the_grid_makes_no_seam():
    """The image of a shifted specimen is the shifted image, across the border too."""
    source = plane_waves((0.1234, -0.0567))
    field = thin_specimen(bump())
    image = image_intensity(field, PIXEL, OPTICS, source, 8.0)
    rolled = image_intensity(field.roll((32, 32), (0, 1)), PIXEL, OPTICS, source, 8.0)
    torch.testing.assert_close(image.roll((32, 32), (0, 1)), rolled, atol=1e-5, rtol=0)


def test_many_waves_in_batches_equal_one_by_one(monkeypatch):
    source = condenser_source(OPTICS, 0.5)
    fields = torch.stack([random_field((32, 32), seed) for seed in range(2)])
    z = torch.tensor([3.0, -7.0])
    together = image_intensity(fields, PIXEL, OPTICS, source, z)
    monkeypatch.setattr("pipeline.optics.forward._CHUNK_BYTES", {"cpu": 1})
    for i in range(2):
        alone = image_intensity(fields[i], PIXEL, OPTICS, source, float(z[i]))
        torch.testing.assert_close(together[i], alone, atol=1e-5, rtol=0)


def test_background_is_one_in_brightfield_and_zero_in_darkfield():
    blank = torch.ones(16, 16, dtype=torch.complex64)
    for source, level in (
        (condenser_source(OPTICS, 0.8), 1.0),
        (plane_waves((0.5, 0.0)), 1.0),  # at the very edge, NA/λ
        (plane_waves((0.6, 0.0)), 0.0),
        (plane_waves((0.6, 0.0), (0.1, 0.0)), 0.5),
    ):
        image = image_intensity(blank, PIXEL, OPTICS, source, 10.0)
        torch.testing.assert_close(image, torch.full((16, 16), level), atol=1e-5, rtol=0)
        assert background_intensity(source, OPTICS) == level


def test_light_from_the_right_brightens_the_slope_that_refracts_it_into_the_pupil():
    """Weak-object sign of DPC: light of the LEDs at +x travels towards −x, and a phase that rises
    towards +x bends it towards the axis. Near the pupil's edge only that slope passes."""
    e = led_experiment(
        {"right": {"pattern": "right"}, "left": {"pattern": "left"}},
        {
            "right": {"kind": "half_circle", "direction_deg": 0},
            "left": {"kind": "half_circle", "direction_deg": 180},
        },
    )
    phase = bump(height=0.1)
    right, left = (
        image_intensity(thin_specimen(phase), PIXEL, OPTICS, channel_source(e, name))
        for name in ("right", "left")
    )
    assert channel_source(e, "right").frequencies[:, 0].max() < 0
    dpc = (right - left) / (right + left)
    slope = phase.roll(-1, 1) - phase.roll(1, 1)
    assert (dpc * slope).sum() / (dpc.norm() * slope.norm()) > 0.9


@pytest.mark.parametrize(("frame", "samples"), [(4, 8), (8, 4), (32, 1)])
def test_camera_pixels_integrate_the_intensity_over_their_area(frame, samples):
    """Against the integral over each pixel, by brute force on 16 points along each axis."""
    field = thin_specimen(bump(32, 1.0, 2.0))
    pixel = 32 * PIXEL / frame
    assert intensity_samples(pixel, OPTICS) == samples
    seen = camera_intensity(field, PIXEL, OPTICS, ON_AXIS, 6.0, frame_shape=(frame, frame))
    points = 16 * frame
    # The field's sample i is the middle of its square, at (i + ½)·PIXEL from the border.
    middle = (32 * PIXEL / points - PIXEL) / 2
    fine = brute_force(field, PIXEL, OPTICS, ON_AXIS, 6.0, (points, points), middle)
    expected = fine.reshape(frame, 16, frame, 16).mean((1, 3))
    np.testing.assert_allclose(seen.numpy(), expected, atol=1e-3)
    assert np.abs(expected - 1).max() > 0.02


def test_camera_image_of_a_symmetric_field_is_symmetric():
    r = (torch.arange(40) - 19.5) * PIXEL
    phase = torch.exp(-(r[:, None] ** 2 + r[None, :] ** 2) / 4)
    image = camera_intensity(
        thin_specimen(phase), PIXEL, OPTICS, ON_AXIS, 5.0, frame_shape=(10, 10)
    )
    torch.testing.assert_close(image, image.flip(0, 1), atol=1e-5, rtol=0)


def test_bin_pixels_is_the_mean_of_each_block():
    image = torch.arange(24.0).reshape(4, 6)
    expected = image.numpy().reshape(2, 2, 3, 2).mean((1, 3))
    np.testing.assert_array_equal(bin_pixels(image, 2).numpy(), expected)
    assert bin_pixels(image, 1) is image


def test_an_image_grid_that_cannot_hold_the_pupil_is_refused():
    with pytest.raises(ValueError, match="does not hold the pupil"):
        image_intensity(random_field((64, 64)), PIXEL, OPTICS, ON_AXIS, shape=(16, 16))


def test_image_is_differentiable_in_phase_focus_and_aberration():
    phase = bump(32).requires_grad_()
    z = torch.tensor(4.0, requires_grad=True)
    coma = torch.tensor(0.3, requires_grad=True)
    image = image_intensity(
        thin_specimen(phase),
        PIXEL,
        OPTICS,
        condenser_source(OPTICS, 0.3),
        z,
        aberration={"coma_x": coma},
    )
    gradients = torch.autograd.grad(image[16, 14], [phase, z, coma])
    step = 1e-2

    def at(p, zz, c):
        with torch.no_grad():
            return image_intensity(
                thin_specimen(p).to(torch.complex128),
                PIXEL,
                OPTICS,
                condenser_source(OPTICS, 0.3),
                zz,
                aberration={"coma_x": c},
            )[16, 14].item()

    p = phase.detach()
    for gradient, high, low in (
        (gradients[1], at(p, 4 + step, 0.3), at(p, 4 - step, 0.3)),
        (gradients[2], at(p, 4.0, 0.3 + step), at(p, 4.0, 0.3 - step)),
    ):
        assert gradient.item() == pytest.approx((high - low) / (2 * step), rel=0.02, abs=1e-5)
    assert gradients[0].abs().max() > 1e-3


@pytest.fixture
def two_channel() -> Experiment:
    return led_experiment(
        {"half": {"pattern": "half"}, "dark": {"pattern": "dark"}},
        {
            "half": {"kind": "half_circle", "direction_deg": 90},
            "dark": {"kind": "arc", "na_min": 0.26, "na_max": 0.35},
        },
    )


def test_predicted_frames_come_in_slot_order_with_unit_background(two_channel):
    e = two_channel.model_copy(
        update={"sequence": two_channel.sequence.model_copy(update={"foci_um": (0.0, 5.0)})}
    )
    phase = bump(64, pixel=0.25)
    frames = predict_frames(phase, None, e)
    assert frames.shape == (4, 32, 32)
    assert frames.dtype == torch.float32
    torch.testing.assert_close(frames[:2, 0, 0], torch.ones(2), atol=0.01, rtol=0)
    assert (frames[2:].mean((1, 2)) < 0.05).all()
    torch.testing.assert_close(predict_frames(phase, None, e, frames=(3, 0)), frames[[3, 0]])
    direct = camera_intensity(
        thin_specimen(phase), 0.25, e.optics, channel_source(e, "half"), 5.0, frame_shape=(32, 32)
    )
    torch.testing.assert_close(frames[1], direct, atol=1e-5, rtol=0)


def test_predicted_frames_of_a_wrong_grid_are_refused(two_channel):
    with pytest.raises(ValueError, match="does not divide"):
        predict_frames(torch.zeros(50, 50), None, two_channel)
