"""The linear oracle of the tables is what it says: a linear filter of the frame that knows more than others."""

import numpy as np
import pytest
import torch

from pipeline.evaluation import forward
from pipeline.evaluation.field_set import evaluation_field
from pipeline.evaluation.linear_oracle import linear_oracle
from pipeline.evaluation.noise import paper_noise
from pipeline.experiment import Optics
from pipeline.methods.dl_srqpi.conditions import Conditions
from pipeline.methods.dl_srqpi.inputs import ESTIMATE, NetworkInputs
from pipeline.quality import align_piston, rmse_rad

LENS = Optics(wavelength_um=0.55, numerical_aperture=0.4, magnification=10.0)
CAMERA_UM, UPSAMPLING, SIDE = 2.6, 4, 160
SEEN = Conditions(
    wavelength_um=LENS.wavelength_um,
    numerical_aperture=LENS.numerical_aperture,
    refractive_index=LENS.refractive_index,
    pixel_um=CAMERA_UM,
    z_um=4.0,
    coherence=0.2,
)


@pytest.fixture(scope="module")
def specimen():
    """Truth and noisy frame of round dividing cells."""
    field = evaluation_field("mitotic", 0, LENS, CAMERA_UM, SIDE, UPSAMPLING, farthest_um=4.0)
    frame = field.frames([forward.Conditions(4.0, 0.2)])[0]
    return field.truth, paper_noise(frame, np.random.default_rng(0)).astype(np.float32)


def test_what_it_finds_is_neither_too_high_nor_too_low_at_any_period(specimen):
    """A Wiener estimate's error has nothing to do with the estimate: what it says is true on average."""
    truth, frame = specimen
    found = linear_oracle(truth, frame, SEEN, UPSAMPLING)
    window = np.hanning(len(truth))[:, None] * np.hanning(len(truth))
    spectra = [np.fft.fft2((image - image.mean()) * window) for image in (truth, found)]
    f = np.fft.fftfreq(len(truth), CAMERA_UM / UPSAMPLING)
    periods = 1 / np.maximum(np.hypot(f[:, None], f), 1e-9)
    for longest, shortest in ((40, 20), (20, 10), (10, 5.2)):
        ring = (periods <= longest) & (periods > shortest)
        true, own = spectra[0][ring], spectra[1][ring]
        slope = (true * own.conj()).real.sum() / (np.abs(own) ** 2).sum()
        assert slope == pytest.approx(1, abs=0.1), (longest, shortest)


def test_it_is_better_than_the_filter_that_networks_are_given(specimen):
    truth, frame = specimen
    inputs = NetworkInputs(SEEN, (SIDE, SIDE))(torch.from_numpy(frame)[None])
    wiener = torch.nn.functional.interpolate(
        inputs[:, ESTIMATE : ESTIMATE + 1], scale_factor=UPSAMPLING, mode="bicubic"
    )[0, 0].numpy()
    oracle = linear_oracle(truth, frame, SEEN, UPSAMPLING)
    assert rmse_rad(oracle, truth) < 0.9 * rmse_rad(align_piston(wiener, truth), truth)


def test_another_specimen_s_frame_tells_nothing(specimen):
    """It looks at the frame: what it is told of the truth beside it is no image."""
    truth, frame = specimen
    found = linear_oracle(truth, np.rot90(frame).copy(), SEEN, UPSAMPLING)
    assert rmse_rad(found, truth) > 0.9 * float(truth.std())
    assert rmse_rad(linear_oracle(truth, frame, SEEN, UPSAMPLING), truth) < 0.7 * float(truth.std())


def test_an_even_frame_tells_nothing(specimen):
    truth, _ = specimen
    found = linear_oracle(truth, np.ones((SIDE, SIDE), np.float32), SEEN, UPSAMPLING)
    np.testing.assert_allclose(found, truth.mean(), atol=1e-6)
