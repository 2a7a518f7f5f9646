"""dl_srqpi's parts: the estimates, the forms of network, tiles, and what a GPU replays."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from dl_srqpi_weights import USUAL, frames, untrained
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import MethodError
from pipeline.experiment import Optics
from pipeline.methods.dl_srqpi import cuda
from pipeline.methods.dl_srqpi.conditions import NUMBERS, Conditions
from pipeline.methods.dl_srqpi.frame_model import (
    explained,
    frame_kernel,
    kernel_reach,
    sent_back,
)
from pipeline.methods.dl_srqpi.inputs import CHANNELS, NetworkInputs
from pipeline.methods.dl_srqpi.networks import build_network
from pipeline.methods.dl_srqpi.networks.fused import fine_image
from pipeline.methods.dl_srqpi.networks.layers import pad_to_multiple
from pipeline.methods.dl_srqpi.networks.unet import PaperUNet
from pipeline.methods.dl_srqpi.record import NetworkRecord, UNetRecord
from pipeline.methods.dl_srqpi.tiles import plan_tiles
from pipeline.methods.dl_srqpi.weak_model import weak_model
from pipeline.methods.dpc.transfer import Pupil, weak_transfer
from pipeline.methods.fill import fill_invalid
from pipeline.optics.weak_object import condenser_phase_transfer

FORMS = (
    NetworkRecord(width=4, levels=2, earlier=(UNetRecord(width=4, depths=(1, 2)),)),
    NetworkRecord(width=4, levels=2, depths=(2, 1, 3)),
    NetworkRecord(form="sub_pixel", width=4, levels=2),
    NetworkRecord(form="paper", width=4, levels=2),
    NetworkRecord(form="srcnn", width=4),
)
each_form = pytest.mark.parametrize("form", FORMS, ids=lambda n: f"{n.form}-{len(n.unets)}")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def transfer(frequencies, z_um, coherence):
    return condenser_phase_transfer(
        frequencies,
        wavelength_um=0.55,
        numerical_aperture=0.4,
        refractive_index=1.0,
        z_um=z_um,
        coherence=coherence,
    )


def called(network, x, numbers=None):
    """Under `USUAL` conditions, or as if told others."""
    numbers = torch.from_numpy(USUAL.numbers()) if numbers is None else numbers
    kernels = NetworkInputs(USUAL, (24, 24)).kernels(network.record.upsampling)
    return network(x, numbers.expand(len(x), -1), kernels.expand(len(x), -1, -1, -1))


# The estimates


@pytest.mark.parametrize("z", [1.0, 4.0, 13.0, -4.0])
def test_transfer_of_a_plane_wave(z):
    f = np.linspace(0, 0.25, 60)
    assert transfer(f, z, 0.0) == pytest.approx(2 * np.sin(np.pi * 0.55 * z * f**2), abs=0.02)
    # Beyond the pupil nothing passes.
    assert transfer(np.array([0.75, 0.9]), z, 0.0) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("coherence", [0.1, 0.4])
def test_transfer_of_a_disc_is_the_weak_object_transfer(coherence):
    n = 600
    radius = np.sqrt((np.arange(n) + 0.5) / n) * coherence * 0.4 / 0.55
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(n)
    waves = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    optics = Optics(wavelength_um=0.55, numerical_aperture=0.4, magnification=10)
    step, reach = 0.02, 20
    whole = weak_transfer(
        Pupil(optics, z_um=4.0), waves, np.full(n, 1 / n), (step, step), (0, reach)
    )
    ours = transfer(step * np.arange(reach + 1), 4.0, coherence)
    assert ours == pytest.approx(whole[0, 0, reach:].real, abs=0.02)


def camera_frame(phase, z_um: float, u: int):
    """``[1, Y, X]`` by exact propagation of a phase that is u times finer than pixels of 2.6 µm."""
    n = len(phase)
    f = np.fft.fftfreq(n, 2.6 / u)
    square = f[:, None] ** 2 + f**2
    axis = np.sqrt(np.maximum(1 / 0.55**2 - square, 0))
    kernel = np.exp(2j * np.pi * z_um * axis) * (square <= (0.4 / 0.55) ** 2)
    seen = np.abs(np.fft.ifft2(np.fft.fft2(np.exp(1j * phase)) * kernel)) ** 2
    binned = seen.reshape(n // u, u, n // u, u).mean((1, 3))
    return torch.from_numpy(binned[None].astype(np.float32))


def imaged_bump(z_um: float, side: int = 96, sigma_um: float = 3.5):
    """A weak Gaussian phase: at the middle of camera pixels, and its frame ``[1, Y, X]``."""
    u = 4
    at = (np.arange(side * u) - side * u / 2 + 0.5) * 2.6 / u

    def bump(at):
        return 0.1 * np.exp(-(at[:, None] ** 2 + at**2) / (2 * sigma_um**2))

    return bump(at.reshape(side, u).mean(1)), camera_frame(bump(at), z_um, u)


@pytest.mark.parametrize("channel", [1, 2], ids=["linear", "non-negative"])
@pytest.mark.parametrize("z", [2.0, 4.0, 10.0])
def test_estimates_find_a_weak_phase_in_their_band(z, channel):
    truth, frame = imaged_bump(z)
    conditions = Conditions(0.55, 0.4, 1.0, 2.6, z, 0.0)
    estimate = NetworkInputs(conditions, (96, 96))(frame)[0, channel].numpy()
    f = np.hypot(np.fft.fftfreq(96, 2.6)[:, None], np.fft.fftfreq(96, 2.6))
    band = (f > 0.07) & (f < 0.13)
    found, true = np.fft.fft2(estimate)[band], np.fft.fft2(truth)[band]
    # What every round takes is a fifth of so weak a phase.
    most = {1: 0.07, 2: 0.45}[channel]
    assert np.linalg.norm(found - true) < most * np.linalg.norm(true)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (40, 64)])
def test_the_margin_mirrors_a_frame_however_small(shape):
    contrast = frames(1, shape)[:, 0] - 1
    model = weak_model(USUAL, shape)
    (rows, columns), margin = model.mirrored_shape, model.margin_px
    assert rows >= shape[0] + 2 * margin
    assert columns >= shape[1] + 2 * margin
    padding = [(margin, n - m - margin) for n, m in zip((rows, columns), shape, strict=True)]
    mirrored = np.pad(contrast[0].numpy(), padding, "symmetric")
    whole = model.image(model.spectrum(contrast))
    np.testing.assert_allclose(whole[0].numpy(), mirrored, atol=1e-6)
    assert torch.allclose(model.cropped(whole, contrast.shape[-2:]), contrast, atol=1e-6)


@pytest.mark.parametrize("shape", [(31, 64), (64, 31), (33, 47)])
def test_odd_and_even_widths_after_mirroring(shape):
    """The width of the mirrored frame can't be told from its spectrum: both 2n - 2 and 2n - 1 have n columns."""
    model = weak_model(replace(USUAL, pixel_um=5.0), shape)
    assert model.transfer.shape == (model.mirrored_shape[0], model.mirrored_shape[1] // 2 + 1)
    contrast = frames(1, shape)[:, 0] - 1
    again = model.cropped(model.image(model.spectrum(contrast)), contrast.shape[-2:])
    assert torch.allclose(again, contrast, atol=1e-6)


def test_the_model_has_no_constant_term_and_knows_its_aliases():
    model = weak_model(USUAL, (40, 64))
    assert float(model.transfer[0, 0]) == pytest.approx(0, abs=1e-9)
    assert torch.isfinite(model.transfer).all()
    # What folds into the lowest frequencies comes from the pixel frequency, into the highest from just beyond.
    assert 0 < float(model.aliased[0, 0]) < float(model.aliased[0, -1])
    coarser = weak_model(replace(USUAL, pixel_um=2 * USUAL.pixel_um), (40, 64))
    shares = [float(m.aliased.mean()) / m.contrast**2 for m in (model, coarser)]
    assert shares[1] > shares[0]


def test_nothing_below_the_background_gives_a_crowd_its_height():
    """Cells 16 µm wide, 5 µm apart: a linear inverse can't tell the mean, and digs pits between them."""
    side, u, period = 128, 4, 20.8
    at = (np.arange(side * u) + 0.5) / u * 2.6 % period - period / 2
    phase = 1.2 / (1 + np.exp(np.hypot(at[:, None], at) - 8))
    truth = phase.reshape(side, u, side, u).mean((1, 3))
    noise = torch.randn(side, side, generator=torch.Generator().manual_seed(1))
    noisy = camera_frame(phase, 4.0, u) + 0.0025 * noise
    _, linear, positive = NetworkInputs(replace(USUAL, coherence=0.0), (side, side))(noisy)[
        0
    ].numpy()
    assert positive.min() == 0
    assert positive.mean() == pytest.approx(truth.mean(), rel=0.25)
    assert abs(linear.mean()) < 0.01
    error, without = (np.sqrt(np.mean((e - truth) ** 2)) for e in (positive, linear))
    assert error < 0.25 * without


def test_a_specimen_of_any_strength_leaves_the_estimate_finite():
    frame = 1 + torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(2))
    inputs = NetworkInputs(USUAL, (64, 64))(frame.clamp_min(0))
    assert torch.isfinite(inputs).all()
    # The stronger the contrast, the less of it the linear model is believed.
    assert inputs[0, 2].max() < 30


# What a phase explains


@pytest.mark.parametrize(("u", "z", "coherence"), [(4, 4.0, 0.0), (3, 8.0, 0.0), (1, 4.0, 0.0)])
def test_a_weak_phase_explains_its_frame(u, z, coherence):
    """Detail finer than the camera's pixels, aliases and all, against exact propagation on a finer grid."""
    side, finer = 48, 12 // u
    rng = np.random.default_rng(3)
    f = np.hypot(np.fft.fftfreq(12 * side, 2.6 / 12)[:, None], np.fft.fftfreq(12 * side, 2.6 / 12))
    spectrum = np.fft.fft2(rng.standard_normal((12 * side,) * 2)) / (1 + (f / 0.05) ** 2)
    # What pixels of 2.6 µm / u hold.
    phase = np.fft.ifft2(spectrum * (f < 0.4 * u / 2.6)).real
    phase *= 0.02 / phase.std()
    frame = camera_frame(phase, z, 12)
    seen = phase[finer // 2 :: finer, finer // 2 :: finer] if finer % 2 else None
    if seen is None:  # the middle of a fine pixel lies between two samples
        shift = np.exp(2j * np.pi * np.fft.fftfreq(12 * side) * (finer / 2 - 0.5))
        seen = np.fft.ifft2(np.fft.fft2(phase) * shift[:, None] * shift).real[::finer, ::finer]
    conditions = replace(USUAL, z_um=z, coherence=coherence)
    fine = torch.from_numpy(seen.astype(np.float32))[None, None]
    model = explained(
        torch.nn.functional.pixel_unshuffle(fine, u), frame_kernel(conditions, u)[None]
    )
    inner = (..., slice(8, -8), slice(8, -8))
    contrast = (frame - 1)[inner]
    assert (model[0][inner] - contrast).std() < 0.03 * contrast.std()


def test_a_kernel_is_the_same_turned_and_mirrored():
    fine = torch.nn.functional.pixel_shuffle(frame_kernel(USUAL, 4)[None], 4)[0, 0]
    assert torch.allclose(fine, fine.rot90(), atol=1e-7)
    assert torch.allclose(fine, fine.flip(-1), atol=1e-7)
    # An even phase changes nothing.
    assert float(fine.sum()) == pytest.approx(0, abs=1e-3)


def test_finer_pixels_see_light_from_more_of_them():
    assert kernel_reach(USUAL) == kernel_reach(replace(USUAL, z_um=13.0)) == 5
    assert kernel_reach(replace(USUAL, pixel_um=0.65)) > 5


def test_what_is_sent_back_is_the_transpose_of_what_is_explained():
    kernels = torch.stack([frame_kernel(USUAL, 2), frame_kernel(replace(USUAL, z_um=9.0), 2)])
    # Nothing near the edge, where the phase beyond is made up.
    phase, frame = torch.zeros(2, 4, 40, 32), torch.zeros(2, 1, 40, 32)
    phase[..., 12:-12, 12:-12] = torch.randn(2, 4, 16, 8)
    frame[..., 12:-12, 12:-12] = torch.randn(2, 1, 16, 8)
    there, back = explained(phase, kernels), sent_back(frame, kernels)
    assert (there * frame).sum() == pytest.approx(float((phase * back).sum()), rel=1e-4)
    with torch.inference_mode():
        assert torch.allclose(explained(phase, kernels), there, atol=1e-5)
        assert torch.allclose(sent_back(frame, kernels), back, atol=1e-5)


def test_a_bridged_hole_does_not_ring_over_the_field():
    """Saturated pixels: what the filter makes of their stand-ins stays within its own reach of them."""
    frame = 1 + 0.05 * imaged_bump(4.0)[1][0] + 0.0025 * torch.randn(96, 96)
    invalid = torch.zeros(96, 96, dtype=torch.bool)
    invalid[40:50, 40:50] = True
    bridged = fill_invalid(torch.where(invalid, 40.0, frame)[None, None], ~invalid[None, None])[0]
    inputs = NetworkInputs(USUAL, (96, 96))
    whole, without = inputs(frame[None])[0, 1], inputs(bridged)[0, 1]
    away = torch.ones(96, 96, dtype=torch.bool)
    away[15:75, 15:75] = False
    assert (whole - without)[away].abs().max() < 0.02 * whole.std()


def test_contrast_is_told_in_units_of_the_usual():
    """What a network is given hardly depends on z, where the frame's own contrast grows with it."""
    raw, told = [], []
    for z in (1.0, 13.0):
        _, frame = imaged_bump(z)
        raw.append(float(frame.std()))
        conditions = Conditions(0.55, 0.4, 1.0, 2.6, z, 0.0)
        told.append(float(NetworkInputs(conditions, (96, 96))(frame)[0, 0].std()))
    assert raw[1] > 6 * raw[0]
    assert 1 / 3 < told[1] / told[0] < 3


def test_conditions_are_numbers_about_one():
    for z in (1.0, 4.0, 13.0):
        for coherence in (0.0, 0.4):
            numbers = Conditions(0.55, 0.4, 1.0, 2.6, z, coherence).numbers()
            assert numbers.shape == (NUMBERS,)
            assert np.abs(numbers).max() < 4


# The forms


@each_form
@pytest.mark.parametrize("shape", [(16, 16), (17, 30), (1, 3)])
def test_any_frame_comes_out_four_times_finer(form, shape):
    with torch.inference_mode():
        out = called(build_network(form).eval(), torch.zeros(2, CHANNELS, *shape))
    assert out.shape == (2, 1, 4 * shape[0], 4 * shape[1])


def test_the_papers_form_is_the_papers():
    network = build_network(NetworkRecord(form="paper", width=16, levels=4))
    assert isinstance(network, PaperUNet)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(1.94e6, rel=0.01)
    assert len(network.body.down) == len(network.body.up) == 4


@each_form
@pytest.mark.parametrize("shape", [(24, 24), (19, 34)])
def test_the_quick_ways_change_nothing(form, shape):
    """Folded, fused and in strips as the training's layers one by one, gradients and all."""
    network, x = untrained(form), torch.randn(2, CHANNELS, *shape)
    conditions = torch.from_numpy(USUAL.numbers())
    plain = called(network, x).detach()
    with torch.inference_mode():
        quick = called(network, x)
        network.specialise(conditions)
        folded = called(network, x, torch.zeros(NUMBERS))
    assert torch.allclose(quick, plain, atol=1e-5)
    assert torch.allclose(folded, plain, atol=1e-4)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())


@pytest.mark.parametrize("channels", [1, 16])
def test_phase_pixels_lie_where_their_camera_pixel_is(channels):
    """A last layer of biases alone, each naming its place: both ways, more rows than a strip."""
    u = 4
    head = torch.nn.Conv2d(3, u**2, 3, padding=1)
    torch.nn.init.zeros_(head.weight)
    place = torch.arange(float(u**2))
    with torch.no_grad():
        head.bias.copy_(place)
    features, plus = torch.zeros(2, 3, 35, 4), torch.randn(2, channels, 35, 4)
    added = plus.expand(-1, u**2, -1, -1).reshape(2, u, u, 35, 4)
    fine = added.permute(0, 3, 1, 4, 2).reshape(2, 1, 35 * u, 4 * u)
    expected = place.reshape(u, u).repeat(35, 4) + fine
    trained = fine_image(head, features, u, plus)
    with torch.no_grad():
        quick = fine_image(head, features, u, plus)
    assert torch.equal(trained, expected)
    assert torch.equal(quick, expected)


@given(side=st.integers(1, 40), levels=st.integers(1, 5))
@settings(deadline=None, max_examples=30)
def test_padding_mirrors_the_edge(side, levels):
    x = torch.arange(float(side))[None, None, :, None].expand(1, 1, side, side)
    padded = pad_to_multiple(x, 2**levels)
    assert padded.shape[-1] % 2**levels == 0
    assert padded.shape[-1] < side + 2**levels
    ours = padded[0, 0, :, 0].numpy()
    assert np.array_equal(ours, np.pad(np.arange(float(side)), (0, len(ours) - side), "symmetric"))


@each_form
def test_reach_is_as_far_as_a_pixel_is_seen(form):
    network = untrained(form)
    reach = network.reach + network.comparisons * 2 * kernel_reach(USUAL)
    centre = reach + 2 * network.multiple
    side = 2 * centre
    x = torch.randn(1, CHANNELS, side, side)
    touched = x.clone()
    touched[..., centre, centre] += 1
    with torch.inference_mode():
        changed = (called(network, touched) - called(network, x)).abs()[0, 0] > 1e-6
    rows = changed.any(1).nonzero() // network.record.upsampling
    assert changed.any()
    assert int((rows - centre).abs().max()) <= reach


# Tiles


@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    reach=st.integers(0, 40),
    multiple=st.sampled_from([1, 4, 8, 16]),
    most=st.integers(1, 60000),
)
@settings(deadline=None, max_examples=60)
def test_tiles_cover_the_field_once_and_see_enough(shape, reach, multiple, most):
    try:
        tiles = plan_tiles(shape, reach=reach, multiple=multiple, most_px=most)
    except MethodError:
        # Not even a tile that keeps one coarsest pixel.
        smallest = [min(multiple * (1 + 2 * -(-reach // multiple)), n) for n in shape]
        assert smallest[0] * smallest[1] > most
        return
    kept = np.zeros(shape, int)
    for tile in tiles:
        kept[tile.keep] += 1
        for read, keep, side in zip(tile.read, tile.keep, shape, strict=True):
            assert read.start % multiple == 0
            assert 0 <= read.start <= max(keep.start - reach, 0)
            assert min(keep.stop + reach, side) <= read.stop <= side
            assert read.stop == side or (read.stop - read.start) % multiple == 0
    assert (kept == 1).all()


def test_a_field_that_fits_is_one_tile():
    (tile,) = plan_tiles((512, 500), reach=70, multiple=8, most_px=512 * 500)
    assert tile.read == tile.keep == (slice(0, 512), slice(0, 500))


# What a GPU replays, with a stand-in for the capture


def test_what_is_captured_is_replayed():
    def capture(compute, example):
        return lambda x: compute(x) + 1

    found = cuda.replayed(lambda x: 2 * x, torch.ones(1, 4, 4), capture)
    assert torch.equal(found(torch.ones(1, 4, 4)), torch.full((1, 4, 4), 3.0))


def test_what_cannot_be_captured_runs_as_it_is_and_says_so(caplog):
    def capture(compute, example):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    with caplog.at_level(logging.WARNING, "livephase"):
        found = cuda.replayed(lambda x: 2 * x, torch.ones(1, 4, 4), capture)
    assert torch.equal(found(torch.ones(1, 4, 4)), torch.full((1, 4, 4), 2.0))
    (said,) = caplog.messages
    assert "without a CUDA graph" in said
    assert "more" not in said


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_graph_gives_each_frame_its_own_result():
    def compute(x):
        return (x @ x).sqrt()

    given = [torch.full((64, 64), float(i), device="cuda") for i in range(8)]
    graph = cuda.Replayed(compute, given[0])
    found = [graph(x) for x in given]
    for i, one in enumerate(found):
        assert torch.allclose(one.cpu(), torch.full((64, 64), 8.0 * i), rtol=1e-5)
