"""NeuPh: its decoder in both forms, which frames fit, and what comes out."""

from __future__ import annotations

import copy
import json
from importlib.resources import files

import numpy as np
import pytest
import tifffile
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from live_runs import livephase

from pipeline.calibration import Calibration, LedOrientation
from pipeline.errors import ExperimentError, MethodError, SlotError
from pipeline.experiment import parse_experiment
from pipeline.frames import Region, SlotKey
from pipeline.methods.contract import Continuous
from pipeline.methods.neuph import NeuPhMethod
from pipeline.methods.neuph.fit import light_record, matching_frames, read_record, weights_path
from pipeline.methods.neuph.inputs import measured_scale, scaled
from pipeline.methods.neuph.networks import ConvolutionDecoder, FoldedDecoder, Grid, NeuPh
from pipeline.methods.neuph.networks.fused import linear_relu
from pipeline.methods.neuph.networks.trunk import Trunk
from pipeline.methods.neuph.record import (
    NETWORKS,
    InputScale,
    NeuPhNetwork,
    TrainingRecord,
    WeightsRecord,
)
from pipeline.methods.neuph.weights import load_network, save_weights
from pipeline.optics.forward import predict_frames
from pipeline.reprocess.query import query_phase
from pipeline.store.reader import RunReader

torch.set_num_threads(1)

TINY = NeuPhNetwork(blocks=1, features=6, hidden=12, layers=3)
DEMO = yaml.safe_load((files("pipeline.demos") / "neuph.yaml").read_text(encoding="utf-8"))


def demo_data(**settings):
    data = copy.deepcopy(DEMO)
    data["calibration"] = {"source": "none"}
    data["microscope"]["camera"]["shape_px"] = [40, 44]
    data["reconstruction"]["settings"] = settings
    return data


def demo(**settings):
    return parse_experiment(demo_data(**settings))


def untrained(record=TINY, seed=0):
    torch.manual_seed(seed)
    network = NeuPh(record).eval()
    with torch.no_grad():
        # Of the size that phase has, and far from linear.
        network.decoder.last.weight.mul_(20)
    return network


@pytest.fixture
def weights(tmp_path):
    """A file that fits the demonstration's light; the network in it is not trained."""
    light = light_record(demo(), Calibration())
    record = WeightsRecord(
        network=TINY,
        light=light,
        scale=InputScale(mean=(0.0,) * 6, deviation=(0.1, 0.1, 0.02, 0.02, 0.02, 0.5)),
        training=TrainingRecord(
            seed=0,
            steps=1,
            fields=1,
            upsampling=6,
            data="none",
            minutes=0.0,
            validation={},
            livephase="0",
            torch="0",
        ),
    )
    path = tmp_path / "tiny.safetensors"
    save_weights(untrained(), record, path)
    return path


# Decoder


@settings(max_examples=25, deadline=None)
@given(
    density=st.floats(0.6, 9.0),
    first=st.tuples(st.floats(-1.0, 4.0), st.floats(-1.0, 4.0)),
    extent=st.tuples(st.floats(2.0, 7.0), st.floats(2.0, 7.0)),
)
def test_the_folded_decoder_is_the_plain_one_on_any_grid(density, first, extent):
    """At any density, in any rectangle, also one that reaches over the border of the latent."""
    network = untrained()
    latent = torch.randn(2, TINY.latent, 7, 9, generator=torch.Generator().manual_seed(1))
    grid = Grid.region(first, extent, density)
    with torch.inference_mode():
        plain = network.decoder.plain(latent, grid)
        folded = FoldedDecoder(network.decoder, "cpu", torch.float32)
        found = folded(folded.prepared(latent), grid)
    assert plain.shape == (2, *grid.shape)
    assert float((plain - found).abs().max()) < 1e-4


def test_training_asks_the_same_function():
    network = untrained()
    generator = torch.Generator().manual_seed(2)
    latent = torch.randn(3, TINY.latent, 8, 8, generator=generator)
    rows, columns = 9 * torch.rand(2, 3, 50, generator=generator, dtype=torch.float64) - 0.5
    plain = network.decoder(latent, rows, columns, 1 / 6)
    folded = network.decoder.folded(latent, rows, columns, 1 / 6)
    assert float((plain - folded).detach().abs().max()) < 1e-5
    plain.sum().backward()
    wanted = network.decoder.first.weight.grad.clone()
    network.zero_grad()
    folded.sum().backward()
    assert torch.allclose(network.decoder.first.weight.grad, wanted, atol=1e-4)


def test_bf16_costs_little():
    network = untrained()
    latent = torch.randn(1, TINY.latent, 8, 8, generator=torch.Generator().manual_seed(3))
    grid = Grid.whole((8, 8), 6)
    with torch.inference_mode():
        exact, half = (
            decoder(decoder.prepared(latent), grid)
            for decoder in (
                FoldedDecoder(network.decoder, "cpu", dtype)
                for dtype in (torch.float32, torch.bfloat16)
            )
        )
    assert float((exact - half).square().mean().sqrt() / exact.std()) < 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 16), (37, 24), (5, 40, 128)])
def test_a_layer_and_its_relu_in_one_are_the_two(dtype, shape):
    x, weight = torch.randn(shape).to(dtype), torch.randn(32, shape[-1]).to(dtype)
    bias = torch.randn(32).to(dtype)
    with torch.inference_mode():
        one = linear_relu(x, weight, bias)
        two = torch.nn.functional.linear(x.double(), weight.double(), bias.double()).relu()
    assert one.dtype == dtype
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(one.double(), two, rtol=4 * step, atol=shape[-1] * step)


def test_it_is_continuous_where_the_nearest_latent_pixels_change():
    network = untrained()
    latent = torch.randn(1, TINY.latent, 8, 8, generator=torch.Generator().manual_seed(4))
    rows = torch.linspace(3.49, 3.51, 41, dtype=torch.float64)[None]
    across = torch.full_like(rows, 4.2)
    with torch.inference_mode():
        phase = network.decoder(latent, rows, across, 1 / 6)[0]
    steps = phase.diff().abs()
    assert float(steps.max()) < 3 * float(steps.median()) + 1e-4


def test_sizes():
    def parameters(name):
        return sum(p.numel() for p in NeuPh(NETWORKS[name]).parameters())

    assert parameters("paper") == pytest.approx(29.9e6, rel=0.01)
    # Two bytes each.
    assert 2 * parameters("compact") < 16 * 2**20


# The trunk


@pytest.mark.parametrize("shape", [(24, 40), (13, 22), (5, 7)])
def test_a_trunk_keeps_the_size_of_any_latent(shape):
    torch.manual_seed(6)
    trunk = Trunk(6, (8, 8, 8)).eval()
    latent = torch.randn(2, 6, *shape)
    with torch.inference_mode():
        found = trunk(latent)
    assert found.shape == latent.shape
    assert float((found - latent).square().mean((2, 3)).min()) > 1e-4


def test_a_trunk_sees_far_and_is_the_same_at_all_places():
    """Encoders alone see 13 pixels; moved by what its coarsest pixel measures, a specimen gives a moved latent."""
    torch.manual_seed(5)
    frames = torch.randn(1, 6, 240, 240)
    touched = frames.clone()
    touched[..., 70:72, 100:102] += 5
    near = NeuPhNetwork(blocks=1, features=6)
    for record, sees in ((near, False), (near.model_copy(update={"trunk": (8, 8, 8)}), True)):
        encoders = NeuPh(record).eval().encoders
        with torch.inference_mode():
            whole = encoders(frames)
            changed = (encoders(touched) - whole)[..., 70, 75].abs().max()
            part = encoders(frames[..., 8:, 16:])
        assert bool(changed > 1e-6) is sees
        inner = slice(96, 112)
        assert torch.allclose(part[..., inner, inner], whole[..., 104:120, 112:128], atol=1e-5)


# The decoder of convolutions that the field is compared with


CONVOLUTIONS = TINY.model_copy(update={"decoder": "cnn"})


def test_convolutions_are_as_large_as_the_field():
    field, convolutions = (
        sum(p.numel() for p in NeuPh(NETWORKS[name]).decoder.parameters())
        for name in ("compact", "cnn_decoder")
    )
    assert convolutions == pytest.approx(field, rel=0.15)


def test_convolutions_are_asked_like_a_field():
    """Their own grid gives their very pixels, in training and live; between them it is interpolated."""
    torch.manual_seed(0)
    decoder = ConvolutionDecoder(CONVOLUTIONS).eval()
    latent = torch.randn(2, CONVOLUTIONS.latent, 5, 7, generator=torch.Generator().manual_seed(1))
    network = NeuPh(CONVOLUTIONS)
    network.decoder = decoder
    ready = network.ready_decoder("cpu", torch.float32)
    with torch.inference_mode():
        image = decoder(latent)
        assert image.shape == (2, 30, 42)
        prepared = ready.prepared(latent)
        assert prepared.shape == (2, 5, 7, 36)
        assert torch.allclose(ready(prepared, Grid.whole((5, 7), 6)), image, atol=1e-5)
        rows = torch.tensor([[0.25, 3.4], [4.9, 1.0]], dtype=torch.float64)
        columns = torch.tensor([[6.9, 0.0], [2.26, 3.1]], dtype=torch.float64)
        asked = decoder.asked(latent, rows, columns)
        for b, q in np.ndindex(2, 2):
            y, x = int(6 * rows[b, q]), int(6 * columns[b, q])
            assert float(asked[b, q]) == pytest.approx(float(image[b, y, x]))
        fine = ready(prepared, Grid.region((1, 1), (2, 2), 18))
        assert torch.allclose(fine[:, 1::3, 1::3], image[:, 6:18, 6:18], atol=1e-5)


def test_a_grid_needs_a_point():
    with pytest.raises(ExperimentError, match="no point"):
        Grid.region((0, 0), (0.1, 0.1), 1.0)
    assert Grid.whole((10, 20), 49.8).shape == (498, 996)


# Which frames


def test_the_demonstrations_light_is_the_papers():
    light = light_record(demo(), Calibration())
    assert [len(p.sines) for p in light.patterns] == [4, 4, 58, 56, 62]
    assert light.synthetic_na == pytest.approx(0.51, abs=0.005)


def test_frames_are_found_by_what_they_show_not_by_their_names_or_order():
    light = light_record(demo(), Calibration())
    assert matching_frames(demo(), Calibration(), light) == [0, 1, 2, 3, 4]
    data = demo_data()
    data["sequence"]["channels"] = ["dark_120", "left", "dark_0", "right", "dark_240"]
    data["sequence"]["foci_um"] = [-40.0, 0.0]
    frames = matching_frames(parse_experiment(data), Calibration(), light)
    assert frames == [2 * 3 + 1, 2 * 1 + 1, 2 * 2 + 1, 2 * 0 + 1, 2 * 4 + 1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optics": {"wavelength_um": 0.53}}, ["wavelength", "0.53"]),
        ({"optics": {"numerical_aperture": 0.13}}, ["NA 0.13"]),
        ({"optics": {"magnification": 5}}, ["camera pixel"]),
        ({"sequence": {"foci_um": [30.0]}}, ["defocus 30"]),
        ({"sequence": {"channels": ["right", "left", "dark_0"]}}, ["pattern 4", "darkfield"]),
        ({"illumination": {"array": {"distance_mm": 90.0}}}, ["pattern"]),
    ],
)
def test_other_light_is_refused(change, words):
    light = light_record(demo(), Calibration())
    data = demo_data()
    for section, values in change.items():
        for key, value in values.items():
            if isinstance(value, dict):
                data[section][key] |= value
            else:
                data[section][key] = value
    with pytest.raises(ExperimentError) as refusal:
        matching_frames(parse_experiment(data), Calibration(), light)
    for word in words:
        assert word in str(refusal.value)


def test_an_array_that_lies_the_other_way_is_refused_once_that_is_known():
    light = light_record(demo(), Calibration())
    turned = Calibration(led_orientation=LedOrientation(rotation_deg=30.0))
    with pytest.raises(ExperimentError, match="no channel shows pattern"):
        matching_frames(demo(), turned, light)


def test_a_condenser_and_single_patterns_are_refused(demo_data):
    with pytest.raises(ExperimentError, match="LED patterns"):
        NeuPhMethod().measurement(parse_experiment(demo_data))
    data = copy.deepcopy(DEMO)
    data["sequence"]["channels"] = ["right", "dark_0"]
    with pytest.raises(ExperimentError, match="two brightfield"):
        light_record(parse_experiment(data), Calibration())


def test_without_weights_it_says_how_to_make_them(tmp_path):
    with pytest.raises(MethodError, match="livephase train neuph"):
        weights_path(demo(), None, tmp_path)


# Reconstruction


def named(weights, **settings):
    data = demo_data(**settings)
    data["reconstruction"]["weights"] = str(weights)
    return parse_experiment(data)


def cells(density=6):
    y, x = torch.meshgrid(torch.arange(40.0 * density), torch.arange(44.0 * density), indexing="ij")
    phase = torch.zeros_like(x)
    for cy, cx, r in ((10, 12, 4), (25, 30, 6), (30, 10, 3)):
        inside = 1 - ((y / density - cy) ** 2 + (x / density - cx) ** 2) / r**2
        phase = phase + 1.5 * inside.clamp_min(0).sqrt()
    return phase


def test_frames_become_phase(weights):
    experiment = named(weights)
    measurement = NeuPhMethod().measurement(experiment)
    assert measurement.frames == (0, 1, 2, 3, 4)
    assert measurement.upsampling == 6
    assert measurement.weights_sha256 is not None
    method = NeuPhMethod().load(experiment, Calibration(), "cpu", None)
    frames = predict_frames(cells(), None, experiment)[None]
    valid = torch.ones_like(frames, dtype=torch.bool)
    phase = method(frames, valid).images
    assert phase.shape == (1, 1, 240, 264)
    assert bool(torch.isfinite(phase).all())
    # A missing frame's pixels are filled, not believed.
    valid[0, 2, 5:9, 5:9] = False
    frames[0, 2, 5:9, 5:9] = float("nan")
    assert bool(torch.isfinite(method(frames, valid).images).all())
    with pytest.raises(SlotError, match="no light"):
        method(torch.zeros_like(frames), torch.ones_like(valid))


def test_any_grid_is_asked_of_a_kept_latent(weights):
    experiment = named(weights, precision="fp32")
    method = NeuPhMethod().load(experiment, Calibration(), "cpu", None)
    assert isinstance(method, Continuous)
    frames = predict_frames(cells(), None, experiment)
    latent = method.latent(frames, torch.ones_like(frames, dtype=torch.bool))
    whole = method.query(latent, Region(0, 0, 40, 44), 6)
    part = method.query(latent, Region(10.0, 12.0, 5.0, 8.0), 6)
    assert torch.allclose(part, whole[60:90, 72:120], atol=1e-5)
    # Three times as fine: every third point is the same place.
    fine = method.query(latent, Region(10.0, 12.0, 5.0, 8.0), 18)
    assert torch.allclose(fine[1::3, 1::3], part, atol=1e-5)


def test_a_run_is_queried_later(weights, tmp_path, cli):
    """The same phase as live where the grid is the same; from a kept latent without the frames."""
    data = demo_data(precision="fp32")
    data["reconstruction"]["weights"] = str(weights)
    data["sequence"] = {"timepoints": 2}
    experiment = tmp_path / "e.yaml"
    experiment.write_text(yaml.safe_dump(data), encoding="utf-8")
    run = tmp_path / "run"
    assert livephase("run", experiment, "--out", run)[0] == 0
    found = query_phase(run, timepoint=1, keep=True)
    assert not found.latent_kept
    live = RunReader(run).phase(SlotKey(1, 0))[0]
    difference = found.phase - live
    assert np.abs(difference - np.median(difference)).max() < 1e-3
    fine = query_phase(run, timepoint=1, region=(4, 6, 10.0, 5.0), density=49.8)
    assert fine.latent_kept
    assert fine.interpolated
    assert fine.phase.shape == (498, 249)
    asked = ("--region", "4,6,10,5", "--density", "6")
    status, out, _ = cli("query", run, *asked, "--out", tmp_path / "p.tif", "--json")
    assert status == 0
    assert json.loads(out)["shape"] == [60, 30]
    assert tifffile.imread(tmp_path / "p.tif").shape == (60, 30)
    for wrong, words in (
        (["--region", "4,6,100,5"], "not within the field"),
        (["--region", "4,6"], "--region Y,X,H,W"),
        (["--timepoint", "7"], "no timepoint 7"),
        (["--out", str(tmp_path / "p.jpg")], ".tif or .npy"),
    ):
        status, _, err = cli("query", run, *wrong)
        assert status == 2
        assert words in err


def saved(path, network, light, **more):
    record = WeightsRecord(
        network=network,
        light=light,
        scale=InputScale(
            mean=(0.0,) * sum(network.encoders), deviation=(0.1,) * sum(network.encoders)
        ),
        training=read_record(path).training,
        **more,
    )
    other = path.with_name("other.safetensors")
    save_weights(NeuPh(network), record, other)
    return other


def test_networks_with_a_part_left_out_run_live(weights):
    """Convolutions give phase on any grid, too; a network without darkfield takes the two frames that it was shown."""
    light = read_record(weights).light
    experiment = named(saved(weights, CONVOLUTIONS, light))
    frames = predict_frames(cells(), None, experiment)
    valid = torch.ones_like(frames, dtype=torch.bool)
    method = NeuPhMethod().load(experiment, Calibration(), "cpu", None)
    assert method(frames[None], valid[None]).images.shape == (1, 1, 240, 264)
    part = method.query(method.latent(frames, valid), Region(3, 4, 10, 5), 7.3)
    assert part.shape == (73, 36)
    bright = light.model_copy(update={"patterns": light.patterns[:2]})
    blind = TINY.model_copy(update={"darkfield": 0})
    experiment = named(saved(weights, blind, bright, truth_na=light.synthetic_na))
    assert NeuPhMethod().measurement(experiment).frames == (0, 1)
    method = NeuPhMethod().load(experiment, Calibration(), "cpu", None)
    assert method(frames[None, :2], valid[None, :2]).images.shape == (1, 1, 240, 264)
    # What it makes beyond the brightfield's limit is a guess, whatever its truth was.
    assert method.finest_um > 2 * 0.5 * 0.63 / light.synthetic_na


def test_tiles_make_the_whole_field(weights):
    """Away from the rims of tiles, which lack their surroundings, and but for each tile's piston."""
    frames = predict_frames(cells(), None, named(weights))[None]
    valid = torch.ones_like(frames, dtype=torch.bool)
    whole, tiled = (
        NeuPhMethod()
        .load(named(weights, precision="fp32", **s), Calibration(), "cpu", None)(frames, valid)
        .images[0, 0]
        for s in ({}, {"tile_px": 34, "overlap_px": 16})
    )
    difference = tiled - whole
    # The corners that only one tile covers, at least its network's reach from its rim.
    for part in (difference[:36, :60], difference[-36:, -60:]):
        assert float((part - part.median()).abs().max()) < 0.02 * float(whole.std()) + 1e-4


def test_weights_come_back_and_damage_is_noticed(weights, tmp_path):
    network, record = load_network(weights)
    assert record.network == TINY
    before = untrained().state_dict()
    for name, value in network.state_dict().items():
        assert torch.allclose(value, before[name], atol=1e-2), name
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(MethodError, match="can't be read"):
        load_network(torn)


def test_inputs_are_brought_to_the_same_size():
    images = torch.randn(4, 6, 20, 20) * torch.arange(1.0, 7.0)[:, None, None] + 3
    even = scaled(images, measured_scale([images[:2], images[2:]]))
    assert np.allclose(even.mean((0, 2, 3)), 0, atol=1e-4)
    assert np.allclose(even.std((0, 2, 3)), 1, atol=1e-3)
