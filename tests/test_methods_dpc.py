"""`dpc` against a brute-force microscope that shares no code with it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from pipeline.calibration import Calibration, LedOrientation
from pipeline.errors import ExperimentError
from pipeline.experiment import parse_experiment
from pipeline.methods.dpc import Dpc

torch.set_num_threads(1)

WAVELENGTH, NA, PIXEL = 0.53, 0.25, 0.5
# 7 x 7 LEDs, 4 mm apart at 50 mm: 29 lie inside NA 0.25.
ARRAY = {"rows": 7, "columns": 7, "pitch_mm": 4.0, "distance_mm": 50.0}
HALVES = {
    name: {"kind": "half_circle", "direction_deg": angle}
    for name, angle in (("right", 0), ("top", 90), ("left", 180), ("bottom", 270))
}


def experiment(shape, patterns=None, foci=(0.0,), settings=None, **optics):
    patterns = patterns or HALVES
    return parse_experiment(
        {
            "microscope": {
                "driver": "simulator",
                "camera": {"shape_px": shape, "pixel_um": PIXEL * 10},
            },
            "optics": {
                "wavelength_um": WAVELENGTH,
                "numerical_aperture": NA,
                "magnification": 10,
                **optics,
            },
            "illumination": {
                "source": "led_array",
                "array": ARRAY,
                "patterns": patterns,
                "channels": {name: {"pattern": name} for name in patterns},
            },
            "sequence": {"timepoints": 1, "foci_um": list(foci)},
            "reconstruction": {
                "method": "dpc",
                "settings": {
                    "padding_px": 0,
                    "regularisation_phase": 1e-6,
                    "regularisation_absorption": 1e-6,
                    **(settings or {}),
                },
            },
        }
    )


def led_directions():
    """Direction sines of ARRAY, by hand: row by row from the lowest x and y."""
    out = []
    for row in range(-3, 4):
        for column in range(-3, 4):
            x, y = 4.0 * column, 4.0 * row
            distance = np.sqrt(x * x + y * y + 50.0**2)
            out.append((x / distance, y / distance))
    return out


def half(angle_deg):
    a = np.deg2rad(angle_deg)
    return [
        s
        for s in led_directions()
        if s[0] * np.cos(a) + s[1] * np.sin(a) > 1e-9 and np.hypot(*s) <= NA
    ]


def photograph(specimen, leds, z_um, n=1.0, flip_x=False, fine=2, aberration=None):
    """Counts of one pattern, background 1: Abbe's sum on a grid `fine` times the camera's, then binned.

    `specimen` is the complex transmission on the fine grid, one period of a periodic world. Each plane wave is brought
    to the nearest frequency of the grid only where that changes nothing: the spectrum stays and the pupil moves.
    """
    rows, columns = specimen.shape
    fy = np.fft.fftfreq(rows, PIXEL / fine)[:, None]
    fx = np.fft.fftfreq(columns, PIXEL / fine)[None, :]
    spectrum = np.fft.fft2(specimen)
    k = n / WAVELENGTH
    total, background = 0.0, 0.0
    for sx, sy in leds:
        gx, gy = -(-sx if flip_x else sx) / WAVELENGTH, -sy / WAVELENGTH

        def pupil(ax, ay):
            r2 = ax**2 + ay**2
            phase = 2 * np.pi * z_um * np.sqrt(k**2 - r2 + 0j).real
            if aberration is not None:
                phase = phase + aberration(ax * WAVELENGTH / NA, ay * WAVELENGTH / NA)
            return (r2 <= (NA / WAVELENGTH) ** 2) * np.exp(1j * phase)

        # Field exp(2πi g·r) · specimen: its spectrum at f + g is the specimen's at f.
        field = np.fft.ifft2(spectrum * pupil(fx + gx, fy + gy))
        total = total + np.abs(field) ** 2
        background += abs(complex(pupil(np.float64(gx), np.float64(gy)))) ** 2
    binned = total.reshape(rows // fine, fine, columns // fine, fine).mean((1, 3))
    return binned / background


def smooth_noise(rng, shape, cutoff, low=0.15):
    """Band-limited random image with unit standard deviation and no frequency below `low` of the NA/λ."""
    fy = np.fft.fftfreq(shape[0], PIXEL / 2)[:, None]
    fx = np.fft.fftfreq(shape[1], PIXEL / 2)[None, :]
    radius = np.hypot(fx, fy) * WAVELENGTH / NA
    spectrum = np.fft.fft2(rng.standard_normal(shape)) * (radius <= cutoff) * (radius >= low)
    image = np.fft.ifft2(spectrum).real
    return image / image.std()


def at_camera(image):
    rows, columns = image.shape
    return image.reshape(rows // 2, 2, columns // 2, 2).mean((1, 3))


def low_passed_at_camera(image):
    """What a perfect instrument would report: the image at the centres of the camera's pixels, not blurred by them."""
    rows, columns = image.shape
    spectrum = np.fft.fft2(image)
    fy, fx = np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)[None, :]
    # Centres of 2 x 2 blocks lie half a fine sample beyond the block's first sample.
    moved = np.fft.ifft2(spectrum * np.exp(2j * np.pi * 0.5 * (fy + fx))).real
    return moved[::2, ::2]


def weak_specimen(seed, shape, phase=0.02, absorption=0.01, cutoff=1.2):
    rng = np.random.default_rng(seed)
    fine = (2 * shape[0], 2 * shape[1])
    phi = phase * smooth_noise(rng, fine, cutoff)
    mu = absorption * smooth_noise(rng, fine, cutoff)
    return phi, mu


def reconstruct(exp, frames, calibration=None, valid=None):
    frames = torch.from_numpy(np.asarray(frames, np.float32))
    valid = torch.ones(frames.shape, dtype=torch.bool) if valid is None else torch.from_numpy(valid)
    loaded = Dpc().load(exp, calibration or Calibration(), "cpu", None)
    return loaded(frames, valid).images.numpy()


def relative_error(image, truth):
    image, truth = image - image.mean(), truth - truth.mean()
    return np.sqrt(((image - truth) ** 2).mean() / (truth**2).mean())


@pytest.mark.parametrize("z_um", [0.0, -8.0, 5.0])
@pytest.mark.parametrize("shape", [(64, 64), (63, 71)])
def test_weak_object_comes_back(z_um, shape):
    phi, mu = weak_specimen(1, shape)
    specimen = np.exp(-mu + 1j * phi)
    frames = [photograph(specimen, half(a), z_um) for a in (0, 90, 180, 270)]
    images = reconstruct(experiment(shape, foci=[z_um]), [frames])
    assert images.shape == (1, 2, *shape)
    assert images.dtype == np.float32
    assert relative_error(images[0, 0], low_passed_at_camera(phi)) < 0.05
    assert relative_error(images[0, 1], low_passed_at_camera(mu)) < 0.05


def test_absorption_does_not_leak_into_phase():
    _, mu = weak_specimen(2, (64, 64))
    frames = [photograph(np.exp(-mu), half(a), 0.0) for a in (0, 90, 180, 270)]
    phase, absorption = reconstruct(experiment((64, 64)), [frames])[0]
    assert phase.std() < 0.03 * mu.std()
    assert relative_error(absorption, low_passed_at_camera(mu)) < 0.03


def test_sign_a_longer_path_is_positive():
    y, x = np.mgrid[:128, :128] * PIXEL / 2
    bead = 0.2 * np.exp(-((x - 12) ** 2 + (y - 20) ** 2) / (2 * 2.0**2))
    frames = [photograph(np.exp(1j * bead), half(a), 0.0) for a in (0, 90, 180, 270)]
    phase = reconstruct(experiment((64, 64)), [frames])[0, 0]
    peak = np.unravel_index(phase.argmax(), phase.shape)
    assert abs(peak[0] * PIXEL - 20) <= PIXEL
    assert abs(peak[1] * PIXEL - 12) <= PIXEL
    assert phase.max() == pytest.approx(0.2, rel=0.1)
    assert abs(np.median(phase)) < 0.01


def test_mirrored_leds_need_the_calibrated_orientation():
    phi, mu = weak_specimen(3, (64, 64))
    specimen = np.exp(-mu + 1j * phi)
    frames = [photograph(specimen, half(a), 4.0, flip_x=True) for a in (0, 90, 180, 270)]
    exp = experiment((64, 64), foci=[4.0])
    truth = low_passed_at_camera(phi)
    turned = reconstruct(exp, [frames], Calibration(led_orientation=LedOrientation(flip_x=True)))
    assert relative_error(turned[0, 0], truth) < 0.05
    assert relative_error(reconstruct(exp, [frames])[0, 0], truth) > 0.5


def test_calibrated_pixel_and_z_scale_are_used():
    phi, mu = weak_specimen(4, (64, 64))
    specimen = np.exp(-mu + 1j * phi)
    frames = [photograph(specimen, half(a), 6.0) for a in (0, 90, 180, 270)]
    exp = experiment((64, 64), foci=[5.0])
    truth = low_passed_at_camera(phi)
    right = reconstruct(exp, [frames], Calibration(z_scale=1.2, pixel_um=PIXEL))
    wrong = reconstruct(exp, [frames])
    assert relative_error(right[0, 0], truth) < 0.05 < relative_error(wrong[0, 0], truth)


def test_single_leds_in_water_at_two_foci():
    phi, mu = weak_specimen(5, (64, 64), cutoff=0.9)
    specimen = np.exp(-mu + 1j * phi)
    leds = {"a": 24, "b": 26, "c": 17, "d": 31}
    directions = led_directions()
    patterns = {name: {"kind": "leds", "leds": [led]} for name, led in leds.items()}
    frames = [
        photograph(specimen, [directions[led]], z, n=1.33)
        for led in leds.values()
        for z in (-4.0, 6.0)
    ]
    exp = experiment((64, 64), patterns, foci=[-4.0, 6.0], refractive_index=1.33)
    assert Dpc().measurement(exp).frames == tuple(range(8))
    images = reconstruct(exp, [frames])
    assert relative_error(images[0, 0], low_passed_at_camera(phi)) < 0.05


def test_known_aberration_is_taken_out():
    phi, mu = weak_specimen(6, (64, 64))
    specimen = np.exp(-mu + 1j * phi)

    def astigmatism_and_coma(x, y):
        return 0.6 * np.sqrt(6) * (x**2 - y**2) - 0.3 * np.sqrt(8) * (3 * (x**2 + y**2) - 2) * y

    frames = [
        photograph(specimen, half(a), 3.0, aberration=astigmatism_and_coma)
        for a in (0, 90, 180, 270)
    ]
    known = {"aberration_rad": {"astigmatism_0": 0.6, "coma_y": -0.3}}
    truth = low_passed_at_camera(phi)
    corrected = reconstruct(experiment((64, 64), foci=[3.0], settings=known), [frames])[0, 0]
    plain = reconstruct(experiment((64, 64), foci=[3.0]), [frames])[0, 0]
    assert relative_error(corrected, truth) < 0.05 < relative_error(plain, truth)


@pytest.mark.parametrize("shape", [(64, 64), (45, 50)])
def test_upsampled_pixels_lie_on_the_camera_pixels(shape):
    # Band-limited below the camera's Nyquist frequency, so that interpolation is exact.
    phi, mu = weak_specimen(7, shape, cutoff=1.0)
    frames = [photograph(np.exp(-mu + 1j * phi), half(a), 0.0) for a in (0, 90, 180, 270)]
    images = reconstruct(experiment(shape, settings={"upsampling": 2}), [frames])
    assert images.shape == (1, 2, 2 * shape[0], 2 * shape[1])
    assert relative_error(images[0, 0], phi) < 0.05


def test_a_batch_is_its_items_and_float32_is_enough():
    shape = (48, 56)
    exp = experiment(shape, foci=[7.0])
    items, truths = [], []
    for seed in (8, 9, 10):
        phi, mu = weak_specimen(seed, shape)
        specimen = np.exp(-mu + 1j * phi)
        items.append([photograph(specimen, half(a), 7.0) for a in (0, 90, 180, 270)])
        truths.append(low_passed_at_camera(phi))
    batch = reconstruct(exp, items)
    for item, images, truth in zip(items, batch, truths, strict=True):
        np.testing.assert_allclose(images, reconstruct(exp, [item])[0], atol=2e-6)
        assert relative_error(images[0], truth) < 0.05


def test_unequal_exposures_and_flicker_do_not_matter():
    phi, mu = weak_specimen(11, (64, 64))
    frames = np.stack([photograph(np.exp(-mu + 1j * phi), half(a), 0.0) for a in (0, 90, 180, 270)])
    exp = experiment((64, 64))
    steady = reconstruct(exp, [frames])
    unsteady = reconstruct(exp, [frames * np.array([1.1, 0.9, 1.3, 1.0])[:, None, None]])
    np.testing.assert_allclose(unsteady[0, 0], steady[0, 0], atol=1e-4)


def test_bad_pixels_are_replaced_before_they_spread():
    phi, mu = weak_specimen(12, (64, 64))
    frames = np.stack(
        [photograph(np.exp(-mu + 1j * phi), half(a), 0.0) for a in (0, 90, 180, 270)]
    )[None]
    exp = experiment((64, 64), settings={"regularisation_phase": 1e-3})
    clean = reconstruct(exp, frames)
    valid = np.random.default_rng(0).random(frames.shape) > 0.005
    broken = np.where(valid, frames, np.nan)
    assert relative_error(reconstruct(exp, broken, valid=valid)[0, 0], clean[0, 0]) < 0.15


def test_padding_keeps_opposite_edges_apart():
    y, x = np.mgrid[:128, :128] * PIXEL / 2
    # A bead cut by the right edge: without padding its ghost appears at the left.
    bead = 0.2 * np.exp(-((x - 31.8) ** 2 + (y - 16) ** 2) / (2 * 2.0**2))
    wide = np.zeros((128, 256))
    wide[:, :128] = bead
    wide[:, 128:] = 0.2 * np.exp(-((x + 32 - 31.8) ** 2 + (y - 16) ** 2) / (2 * 2.0**2))
    frames = [photograph(np.exp(1j * wide), half(a), 0.0)[:, :64] for a in (0, 90, 180, 270)]
    settings = {"regularisation_phase": 1e-3, "regularisation_absorption": 1e-3}
    ghost = []
    for padding in (0, 32):
        exp = experiment((64, 64), settings={**settings, "padding_px": padding})
        ghost.append(np.abs(reconstruct(exp, [frames])[0, 0][24:40, :4]).max())
    assert ghost[1] < 0.35 * ghost[0]
    assert ghost[1] < 0.02


def test_a_coarse_camera_still_gives_what_lies_below_its_aliases():
    # Nyquist at 0.5 cycles/µm, half circles pass up to 0.89: what folds back lands above 0.1.
    rng = np.random.default_rng(13)
    phi = 0.02 * smooth_noise(rng, (256, 256), 2.2)
    frames = [at_camera(photograph(np.exp(1j * phi), half(a), 0.0)) for a in (0, 90, 180, 270)]
    exp = experiment((64, 64), magnification=5)
    assert exp.pixel_um == 2 * PIXEL
    image = reconstruct(exp, [frames])[0, 0]
    f = np.fft.fftfreq(256)
    at_centres = np.fft.fft2(phi) * np.exp(2j * np.pi * 1.5 * (f[:, None] + f))
    inside = np.hypot(f[:, None], f) < 0.2 / 4
    truth = np.fft.ifft2(at_centres * inside).real[::4, ::4]
    camera_f = np.fft.fftfreq(64)
    low = np.hypot(camera_f[:, None], camera_f) < 0.2
    assert relative_error(np.fft.ifft2(np.fft.fft2(image) * low).real, truth) < 0.1


@pytest.mark.parametrize("shape", [(24, 30), (25, 33)])
def test_aliased_transfer_is_what_folds_back(shape):
    from pipeline.methods.dpc.transfer import Pupil, sampled_transfer, weak_transfer

    optics = experiment((32, 32)).optics
    waves = -np.array(half(0)) / WAVELENGTH
    weights = np.ones(len(waves))
    pixel = 1.0
    pupil = Pupil(optics, 4.0)
    transfer, aliased = sampled_transfer(pupil, waves, weights, shape, pixel)
    step = tuple(1 / (n * pixel) for n in shape)
    reach = (50, 60)
    both = weak_transfer(pupil, waves, weights, step, reach)
    expected = np.zeros(shape)
    rows, columns = shape
    for y in range(-50, 51):
        for x in range(-60, 61):
            blur = np.sinc(y / rows) * np.sinc(x / columns)
            power = (np.abs(blur * both[:, y + 50, x + 60]) ** 2).sum()
            expected[y % rows, x % columns] += power
    own = (np.abs(transfer) ** 2).sum(0)
    np.testing.assert_allclose(aliased + own, expected[:, : columns // 2 + 1], atol=1e-9)
    assert aliased.max() > 0.1
    fine = sampled_transfer(pupil, waves, weights, shape, 0.5)[1]
    assert fine.max() == 0


def test_pupil_agrees_with_the_forward_model():
    from pipeline.methods.dpc.transfer import Pupil
    from pipeline.optics.pupil import pupil

    optics = experiment((32, 32), refractive_index=1.33).optics
    aberration = {
        "defocus": 0.1,
        "astigmatism_0": 0.2,
        "astigmatism_45": -0.3,
        "coma_x": 0.4,
        "coma_y": -0.5,
        "spherical": 0.6,
    }
    f = np.linspace(-0.6, 0.6, 41)
    ours = Pupil(optics, 7.0, aberration)(f[None, :], f[:, None])
    theirs = pupil(
        torch.from_numpy(f)[:, None], torch.from_numpy(f)[None, :], optics, 7.0, aberration
    )
    # A constant phase has no meaning.
    turn = theirs.numpy()[20, 20] / ours[20, 20]
    np.testing.assert_allclose(ours * turn, theirs.numpy(), atol=1e-9)


def test_weights_of_the_frames_follow_the_sequence():
    patterns = {
        "dark": {"kind": "arc", "na_min": 0.26, "na_max": 0.33},
        **HALVES,
    }
    exp = experiment((32, 32), patterns, foci=[0.0, 3.0])
    measurement = Dpc().measurement(exp)
    assert measurement.frames == (2, 3, 4, 5, 6, 7, 8, 9)
    assert measurement.outputs == ("phase", "absorption")


def refused(patterns, foci=(0.0,), settings=None):
    with pytest.raises(ExperimentError) as error:
        Dpc().measurement(experiment((32, 32), patterns, foci, settings))
    assert error.value.fix
    return str(error.value)


def test_refuses_what_it_cannot_invert():
    disc = {"kind": "arc", "na_min": 0.0, "na_max": 0.24}
    ring = {"kind": "arc", "na_min": 0.1, "na_max": 0.2}
    dark = {"kind": "arc", "na_min": 0.26, "na_max": 0.33}
    assert "half circles" in refused({"right": HALVES["right"]})
    assert "beyond the objective's NA" in refused({"right": HALVES["right"], "dark": dark})
    assert "symmetric" in refused({"disc": disc, "ring": ring})
    assert "same directions" in refused({"a": HALVES["top"], "b": HALVES["top"]})
    assert "did you mean 'upsampling'" in refused(HALVES, settings={"upsamplin": 2})
    assert "aberration_rad" in refused(HALVES, settings={"aberration_rad": {"come_x": 1.0}})


def test_symmetric_patterns_are_accepted_out_of_focus():
    disc = {"kind": "arc", "na_min": 0.0, "na_max": 0.12}
    ring = {"kind": "arc", "na_min": 0.12, "na_max": 0.2}
    exp = experiment((32, 32), {"disc": disc, "ring": ring}, foci=[5.0])
    assert Dpc().measurement(exp).frames == (0, 1)


def test_refuses_a_condenser():
    data = experiment((32, 32)).model_dump(mode="json")
    data["illumination"] = {"source": "condenser"}
    with pytest.raises(ExperimentError, match="tie"):
        Dpc().measurement(parse_experiment(data))


def test_led_on_the_edge_of_the_pupil_counts_as_inside():
    edge = float(np.hypot(*led_directions()[26]))
    patterns = {
        "right": {"kind": "leds", "leds": [26]},
        "left": {"kind": "leds", "leds": [22]},
        "top": {"kind": "leds", "leds": [38]},
        "bottom": {"kind": "leds", "leds": [10]},
    }
    exp = experiment((48, 48), patterns, numerical_aperture=edge)
    frames = np.ones((1, 4, 48, 48))
    images = reconstruct(exp, frames)
    assert np.isfinite(images).all()
    assert np.abs(images).max() < 1e-5


def test_asking_for_frames_needs_no_torch():
    code = (
        "import sys; from pipeline.methods.dpc import Dpc; from pipeline.methods.tie import Tie;"
        "import pipeline.methods.registry; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
