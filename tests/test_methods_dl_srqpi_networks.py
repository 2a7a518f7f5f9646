"""dl_srqpi's parts: the linear estimate, the forms of network, tiles, and what a GPU replays."""

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
from pipeline.methods.dl_srqpi.inputs import CHANNELS, NetworkInputs
from pipeline.methods.dl_srqpi.linear_estimate import linear_filter
from pipeline.methods.dl_srqpi.networks import build_network
from pipeline.methods.dl_srqpi.networks.fused import fine_image
from pipeline.methods.dl_srqpi.networks.layers import pad_to_multiple
from pipeline.methods.dl_srqpi.networks.unet import PaperUNet
from pipeline.methods.dl_srqpi.record import NetworkRecord
from pipeline.methods.dl_srqpi.tiles import plan_tiles
from pipeline.methods.dpc.transfer import Pupil, weak_transfer
from pipeline.methods.fill import fill_invalid
from pipeline.optics.weak_object import condenser_phase_transfer

FORMS = (
    NetworkRecord(width=4, levels=2, depth=2),
    NetworkRecord(width=4, levels=2, stride=2),
    NetworkRecord(form="sub_pixel", width=4, levels=2),
    NetworkRecord(form="paper", width=4, levels=2),
    NetworkRecord(form="srcnn", width=4),
)
each_form = pytest.mark.parametrize("form", FORMS, ids=lambda n: f"{n.form}-{n.stride}")


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


# The linear estimate


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


def imaged_bump(z_um: float, side: int = 96, sigma_um: float = 3.5):
    """A weak Gaussian phase: at the middle of camera pixels, and its frame ``[1, Y, X]`` by exact propagation."""
    u, pixel = 4, 2.6
    n, fine = side * u, pixel / u
    at = (np.arange(n) - n / 2 + 0.5) * fine
    phase = 0.1 * np.exp(-(at[:, None] ** 2 + at**2) / (2 * sigma_um**2))
    f = np.fft.fftfreq(n, fine)
    square = f[:, None] ** 2 + f**2
    axis = np.sqrt(np.maximum(1 / 0.55**2 - square, 0))
    kernel = np.exp(2j * np.pi * z_um * axis) * (square <= (0.4 / 0.55) ** 2)
    seen = np.abs(np.fft.ifft2(np.fft.fft2(np.exp(1j * phase)) * kernel)) ** 2
    frame = seen.reshape(side, u, side, u).mean((1, 3))
    middle = at.reshape(side, u).mean(1)
    truth = 0.1 * np.exp(-(middle[:, None] ** 2 + middle**2) / (2 * sigma_um**2))
    return truth, torch.from_numpy(frame[None].astype(np.float32))


@pytest.mark.parametrize("z", [2.0, 4.0, 10.0])
def test_the_estimate_finds_a_weak_phase_in_its_band(z):
    truth, frame = imaged_bump(z)
    conditions = Conditions(0.55, 0.4, 1.0, 2.6, z, 0.0)
    estimate = NetworkInputs(conditions, (96, 96))(frame)[0, 1].numpy()
    f = np.hypot(np.fft.fftfreq(96, 2.6)[:, None], np.fft.fftfreq(96, 2.6))
    band = (f > 0.07) & (f < 0.13)
    found, true = np.fft.fft2(estimate)[band], np.fft.fft2(truth)[band]
    assert np.linalg.norm(found - true) < 0.07 * np.linalg.norm(true)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (40, 64)])
def test_the_margin_mirrors_a_frame_however_small(shape):
    contrast = frames(1, shape)[:, 0] - 1
    known = linear_filter(USUAL, shape)
    (rows, columns), margin = known.mirrored_shape, known.margin_px
    assert rows >= shape[0] + 2 * margin
    assert columns >= shape[1] + 2 * margin
    # A filter that passes everything gives the frame back; one that passes only the mean, the mean of mirrors.
    everything = replace(known, response=torch.ones_like(known.response))
    assert torch.allclose(everything(contrast), contrast, atol=1e-6)
    mean = torch.zeros_like(known.response)
    mean[0, 0] = 1
    padding = [(margin, n - m - margin) for n, m in zip((rows, columns), shape, strict=True)]
    mirrored = np.pad(contrast[0].numpy(), padding, "symmetric")
    flat = replace(known, response=mean)(contrast)
    assert torch.allclose(flat, torch.full_like(flat, float(mirrored.mean())), atol=1e-6)


@pytest.mark.parametrize("shape", [(31, 64), (64, 31), (33, 47)])
def test_odd_and_even_widths_after_mirroring(shape):
    """The width of the mirrored frame can't be told from its spectrum: both 2n - 2 and 2n - 1 have n columns."""
    known = linear_filter(replace(USUAL, pixel_um=5.0), shape)
    assert known.response.shape == (known.mirrored_shape[0], known.mirrored_shape[1] // 2 + 1)
    contrast = frames(1, shape)[:, 0] - 1
    everything = replace(known, response=torch.ones_like(known.response))
    assert torch.allclose(everything(contrast), contrast, atol=1e-6)


def test_the_estimate_has_no_constant_term():
    known = linear_filter(USUAL, (40, 64))
    assert float(known.response[0, 0]) == pytest.approx(0, abs=1e-9)
    assert torch.isfinite(known.response).all()


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
        out = build_network(form).eval()(torch.zeros(2, CHANNELS, *shape), torch.zeros(2, NUMBERS))
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
    plain = network(x, conditions.expand(2, -1)).detach()
    with torch.inference_mode():
        quick = network(x, conditions.expand(2, -1))
        network.specialise(conditions)
        folded = network(x, torch.zeros(2, NUMBERS))
    assert torch.allclose(quick, plain, atol=1e-5)
    assert torch.allclose(folded, plain, atol=1e-4)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())


@pytest.mark.parametrize("stride", [1, 2])
def test_phase_pixels_lie_where_their_camera_pixel_is(stride):
    """A last layer of biases alone, each naming its place: both ways, more rows than a strip."""
    u, times = 4, 4 * stride
    head = torch.nn.Conv2d(3, times**2, 3, padding=1)
    torch.nn.init.zeros_(head.weight)
    place = torch.arange(float(times**2)).reshape(stride, u, stride, u)
    with torch.no_grad():
        head.bias.copy_(place.permute(1, 3, 0, 2).reshape(-1))
    features, plus = torch.zeros(2, 3, 35, 4), torch.randn(2, 1, 35 * stride, 4 * stride)
    expected = place.reshape(times, times).repeat(35, 4)
    expected = expected + plus.repeat_interleave(u, -1).repeat_interleave(u, -2)
    trained = fine_image(head, features, u, stride=stride, plus=plus)
    with torch.no_grad():
        quick = fine_image(head, features, u, stride=stride, plus=plus)
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
    centre = network.reach + 2 * network.multiple
    side = 2 * centre
    x = torch.randn(1, CHANNELS, side, side)
    touched = x.clone()
    touched[..., centre, centre] += 1
    numbers = torch.from_numpy(USUAL.numbers())[None]
    with torch.inference_mode():
        changed = (network(touched, numbers) - network(x, numbers)).abs()[0, 0] > 1e-6
    rows = changed.any(1).nonzero() // network.record.upsampling
    assert changed.any()
    assert int((rows - centre).abs().max()) <= network.reach


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
