"""The phase that is nowhere below the background: what it adds to what frames tell."""

from importlib.resources import files

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from pipeline.calibration import Calibration
from pipeline.evaluation.neuph.fields import Light, pattern_field
from pipeline.experiment import parse_experiment
from pipeline.methods.dpc.nonnegative import load_nonnegative
from pipeline.methods.dpc.patterns import pattern_transfer
from pipeline.methods.dpc.reconstructor import load_dpc
from pipeline.methods.dpc.settings import DpcSettings
from pipeline.methods.neuph.fit import channel_sines
from pipeline.optics.nonnegative import nonnegative, usual_power

torch.set_num_threads(1)

SIDE = 64


def transform(images):
    return torch.fft.rfft2(images, norm="forward")


def image(spectrum):
    return torch.fft.irfft2(spectrum, s=(SIDE, SIDE), norm="forward")


@given(seed=st.integers(0, 2**32 - 1), discs=st.integers(1, 6))
def test_what_a_transfer_lacks_comes_back_from_the_sign_alone(seed, discs):
    """Discs seen without their low frequencies: the constraint puts back most of what the linear inverse leaves out."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((SIDE, SIDE))
    phase = np.zeros((SIDE, SIDE), np.float32)
    for _ in range(discs):
        radius, (cy, cx) = rng.uniform(5, 11), rng.uniform(12, SIDE - 12, 2)
        phase = np.maximum(phase, np.float32(np.hypot(y - cy, x - cx) < radius))
    f = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE))
    transfer = torch.from_numpy((f > 0.03).astype(np.float32) * np.minimum(f / 0.1, 1))
    seen = transform(torch.from_numpy(phase)) * transfer
    curvature = transfer.square() + 1e-6
    linear = image(seen * transfer / curvature).numpy()
    pull = 0.05
    found = nonnegative(
        (seen * transfer / (curvature + pull))[None],
        pull / (curvature + pull),
        transform,
        image,
        40,
    )[0].numpy()
    assert found.min() >= 0

    def error(estimate):
        return np.std(estimate - phase)

    assert error(found) < 0.6 * error(linear)


@pytest.fixture(scope="module")
def half_circles():
    """The demonstration's two brightfield half circles, for a camera of 80²."""
    data = yaml.safe_load((files("pipeline.demos") / "neuph.yaml").read_text(encoding="utf-8"))
    data["calibration"] = {"source": "none"}
    data["microscope"]["camera"]["shape_px"] = [80, 80]
    experiment = parse_experiment(data)
    sines = {c: channel_sines(experiment, c, None) for c in experiment.channel_names}
    inside = experiment.optics.numerical_aperture
    bright = [c for c, s in sines.items() if np.hypot(*s.T).max() <= inside * 1.001]
    assert len(bright) == 2
    return experiment, [(c, 0) for c in bright], [Light(sines[c], 10_000.0) for c in bright]


def wide(error, pixel_um):
    """Its deviation at periods of 20 µm and more."""
    f = np.hypot(
        np.fft.fftfreq(error.shape[0], pixel_um)[:, None],
        np.fft.fftfreq(error.shape[1], pixel_um),
    )
    return np.std(np.fft.ifft2(np.fft.fft2(error) * (f < 0.05)).real)


@pytest.mark.parametrize("family", ["amoeboid", "fibroblasts", "epithelium"])
def test_half_circles_tell_more_of_wide_cells_than_a_linear_inverse_finds(half_circles, family):
    experiment, used, lights = half_circles
    field = pattern_field(
        family, 3, lights, experiment.optics, experiment.pixel_um, 0.51, field_px=80, upsampling=2
    )
    truth = field.truth.reshape(80, 2, 80, 2).mean((1, 3))
    frames = torch.from_numpy(field.frames)[None]
    linear = load_dpc(experiment, Calibration(), DpcSettings(), used, "cpu")
    left_out = linear(frames, torch.ones_like(frames, dtype=torch.bool)).images[0, 0].numpy()
    found = load_nonnegative(experiment, Calibration(), used, "cpu")(frames)[0].numpy()
    assert found.shape == truth.shape
    assert found.min() >= 0
    pixel_um = experiment.pixel_um
    assert wide(found - truth, pixel_um) < 0.85 * wide(left_out - truth, pixel_um)


def test_absorption_is_not_taken_for_phase(half_circles):
    """Frames that the same transfer functions make of one and of the other."""
    experiment, used, _ = half_circles
    known = pattern_transfer(experiment, Calibration(), DpcSettings(), used)
    y, x = np.indices(known.padded)
    spot = np.exp(-((y - 40) ** 2 + (x - 40) ** 2) / (2 * 3.0**2))

    def found(of):
        contrast = np.fft.irfft2(np.fft.rfft2(0.1 * spot) * known.both[of], s=known.padded)
        frames = torch.from_numpy((1 + contrast)[None, :, :80, :80].astype(np.float32))
        return load_nonnegative(experiment, Calibration(), used, "cpu")(frames)[0].numpy()

    phase, absorption = found(0), found(1)
    assert phase.max() > 0.03
    assert absorption.max() < 0.1 * phase.max()


def test_the_usual_specimens_power_does_not_depend_on_the_pixel():
    """The same structure has the same power per area of the spectrum, however finely it is sampled."""
    f = np.array([0.0, 0.04, 0.2])
    assert_allclose(usual_power(f, 1.0), 4 * usual_power(f, 2.0))
    assert (np.diff(usual_power(f, 1.0)) < 0).all()
