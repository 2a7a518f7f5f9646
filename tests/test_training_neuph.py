"""Training of neuph: its fields, batches, and a training from start to end."""

from __future__ import annotations

import copy
from importlib.resources import files

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.experiment import parse_experiment
from pipeline.methods.neuph.fit import light_record, packaged, read_record
from pipeline.methods.neuph.record import NeuPhNetwork
from pipeline.methods.neuph.weights import load_network
from pipeline.optics.forward import predict_frames
from pipeline.samples.smears import stained_field
from pipeline.training import train
from pipeline.training.neuph.batches import PatternNoise
from pipeline.training.neuph.begin import begin
from pipeline.training.neuph.fields import PatternImaging, StainedImaging, shown_phase
from pipeline.training.neuph.recorded import recorded_fields
from pipeline.training.neuph.settings import NeuPhTraining
from pipeline.training.neuph.task import query_loss
from pipeline.training.neuph.train import train_neuph

torch.set_num_threads(1)

DEMO = yaml.safe_load((files("pipeline.demos") / "neuph.yaml").read_text(encoding="utf-8"))
SMALL = NeuPhTraining(
    network=NeuPhNetwork(blocks=1, features=6, hidden=12, layers=2),
    fields=2,
    validation_fields=1,
    field_px=32,
    crop_px=16,
    batch=2,
    queries=50,
)


def experiment():
    data = copy.deepcopy(DEMO)
    data["calibration"] = {"source": "none"}
    return parse_experiment(data)


@pytest.fixture(scope="module")
def light():
    return light_record(experiment(), Calibration())


def test_frames_of_a_perfect_microscope_are_the_forward_models(light):
    """Another way of computing them, over the same field; the border, which sees another surrounding, is left out."""
    imaging = PatternImaging(light, 6, 40, leaves_share=1.0, imperfect=False)
    phase, frames = imaging(3)
    data = copy.deepcopy(DEMO)
    margin = 12
    data["microscope"]["camera"]["shape_px"] = [40 + 2 * margin] * 2
    data["calibration"] = {"source": "none"}
    side = (40 + 2 * margin) * 6
    drawn = torch.from_numpy(imaging.specimen(3, (side, side), light.pixel_um / 6))
    expected = predict_frames(drawn, None, parse_experiment(data))
    inner = slice(margin, margin + 40)
    for k in range(5):
        wanted = expected[k, inner, inner].numpy()
        assert np.corrcoef(frames[k].ravel(), wanted.ravel())[0, 1] > 0.999
        assert frames[k].mean() == pytest.approx(wanted.mean(), rel=0.01)
    assert phase.shape == (240, 240)


def test_a_field_is_a_function_of_its_seed(light):
    imaging = PatternImaging(light, 6, 32)
    for seed in (1, 2):
        for one, other in zip(imaging(seed), imaging(seed), strict=True):
            assert np.array_equal(one, other)
    assert not np.array_equal(imaging(1)[0], imaging(2)[0])


def test_stain_goes_its_own_way():
    """Dark is not thick: what a network must not learn from specimens whose amplitude follows from their phase."""
    shared = []
    for seed in range(6):
        phase, absorption = stained_field(seed, (160, 160), 0.3)
        again = stained_field(seed, (160, 160), 0.3)
        assert all(np.array_equal(a, b) for a, b in zip((phase, absorption), again, strict=True))
        assert 0 <= absorption.min() <= absorption.max() <= 0.92
        shared.append(np.corrcoef(phase.ravel(), absorption.ravel())[0, 1])
    assert min(shared) < 0.9
    assert max(shared) > 0.2


def test_stained_specimens_send_more_light_into_the_dark(light):
    living, stained = (
        np.mean([kind(light, 6, 32)(seed)[1][2:].mean() for seed in range(5)])
        for kind in (PatternImaging, StainedImaging)
    )
    assert stained > 2 * living


def test_the_truth_is_what_the_light_can_show(light):
    """A grating within the synthetic NA is kept, one beyond it is gone; thick phase keeps its whole turns."""
    pixel_um, n = light.pixel_um / 6, 480
    x = torch.arange(n) * pixel_um
    limit = light.synthetic_na / light.wavelength_um

    def shown(periods):
        phase = 7 + 0.2 * torch.sin(2 * np.pi * periods / (n * pixel_um) * x).expand(n, n)
        return shown_phase(torch.polar(torch.ones_like(phase), phase), phase, pixel_um, light)

    inside = int(0.95 * limit * n * pixel_um)
    beyond = int(1.1 * limit * n * pixel_um)
    assert float(shown(inside).std()) == pytest.approx(0.2 / 2**0.5, rel=0.02)
    assert float(shown(beyond).std()) < 0.01
    assert float(shown(inside).mean()) == pytest.approx(7, abs=0.02)


def test_dark_frames_have_the_noise_of_their_few_photons():
    settings = SMALL.model_copy(update={"background_e": (1000.0, 1000.001), "read_noise_e": 0.0})
    noise = PatternNoise(np.array([1.0, 50.0]), settings)
    frames = torch.stack([torch.ones(100, 100), torch.full((100, 100), 0.002)])
    seen = noise(frames, np.random.default_rng(0))
    assert float(seen[0].std()) == pytest.approx(1000**-0.5, rel=0.05)
    assert float(seen[1].std()) == pytest.approx((0.002 / 50_000) ** 0.5, rel=0.05)
    assert torch.equal(seen, noise(frames, np.random.default_rng(0)))


def half_cell(heights):
    """Crops ``[B, 10]`` of which one half is background and the other a cell of each of these heights."""
    return torch.tensor(heights)[:, None] * (torch.arange(10) >= 5)


def test_heights_that_the_light_leaves_open_are_guessed_by_their_mean():
    """Of cells that look alike, five of 1 and three of 3 rad: the median and the commonest is 1, the mean 1.75."""
    truth, spans = half_cell([1.0] * 5 + [3.0] * 3), torch.full((8,), 3.0)
    guesses = np.arange(0.5, 3.5, 0.05)
    losses = [float(query_loss(half_cell([float(g)] * 8), truth, spans)) for g in guesses]
    assert guesses[int(np.argmin(losses))] == pytest.approx(1.75, abs=0.3)


def test_a_constant_is_no_error_where_no_background_is_near():
    spans = torch.tensor([3.0])
    leaf = 2 + torch.linspace(0, 1, 10)[None]
    assert float(query_loss(leaf + 0.7, leaf, spans)) == pytest.approx(
        float(query_loss(leaf, leaf, spans)), abs=1e-5
    )
    cell = half_cell([2.0])
    assert float(query_loss(cell + 0.7, cell, spans)) > float(query_loss(cell, cell, spans)) + 1


def test_a_small_error_halved_counts_as_much_as_a_large_one_in_the_details():
    """But for the squared errors, which are the large one's alone."""
    truth, spans = 2 + torch.zeros(2, 10), torch.tensor([5.0, 5.0])
    sign = torch.tensor([1.0, -1.0]).repeat(5)
    small, large = 0.5 * sign, 5.0 * sign

    def loss(one, other):
        return float(query_loss(truth + torch.stack([one, other]), truth, spans))

    before = loss(small, large)
    assert before - loss(small / 2, large) == pytest.approx(np.log(2) / 2, rel=0.1)
    assert before - loss(small, large / 2) == pytest.approx(np.log(2) * 1.5, rel=0.1)


def test_a_training_from_start_to_end_and_again_is_the_same(tmp_path):
    lines = []
    for name in ("one", "two"):
        train_neuph(
            experiment(),
            tmp_path / f"{name}.safetensors",
            steps=4,
            settings=SMALL,
            report=lines.append,
        )
    one, two = (tmp_path / f"{name}.safetensors" for name in ("one", "two"))
    tensors = load_file(one)
    assert len(tensors) > 20
    assert all(torch.equal(tensors[n], other) for n, other in load_file(two).items())
    record = read_record(one)
    assert record.training.fields == 2
    assert record.light == light_record(experiment(), Calibration())
    assert "neuph" in (tmp_path / "one.md").read_text(encoding="utf-8").lower()
    assert not (tmp_path / "one.checkpoint").exists()
    assert any("validation" in line for line in lines)


def test_a_part_left_out_is_trained_on_the_same_fields(tmp_path):
    """No darkfield: two frames, the truth of five. Convolutions: the same frames."""
    made = []
    for name in ("cnn_decoder", "no_darkfield"):
        out = tmp_path / f"{name}.safetensors"
        train_neuph(experiment(), out, steps=1, settings=SMALL, network=name, report=made.append)
    whole = light_record(experiment(), Calibration())
    assert len(list(tmp_path.glob("fields-*.pt"))) == 2
    convolutions, blind = (
        read_record(tmp_path / f"{name}.safetensors") for name in ("cnn_decoder", "no_darkfield")
    )
    assert convolutions.network.decoder == "cnn"
    assert convolutions.light == whole
    assert blind.name == "no_darkfield"
    assert blind.network.darkfield == 0
    assert blind.light.patterns == whole.patterns[:2]
    assert blind.truth_na == pytest.approx(whole.synthetic_na, abs=1e-4)
    # Begun from, it stays what it is.
    begun = tmp_path / "begun.safetensors"
    train_neuph(
        experiment(),
        begun,
        steps=1,
        settings=SMALL,
        begin_from=tmp_path / "no_darkfield.safetensors",
    )
    assert read_record(begun).truth_na == blind.truth_na


def test_a_network_begins_with_the_parts_that_another_has(light):
    """Encoders by what they see: without darkfield the DPC image's is the second, not the third."""
    path = packaged("compact")[0]
    known = load_network(path)[0]
    bright = light.model_copy(update={"patterns": light.patterns[:2]})
    blind, name, parent = begin(path, "no_darkfield", known.record, bright, 0)
    assert (name, len(parent)) == ("no_darkfield", 64)
    for mine, other in ((0, 0), (1, 2)):
        for one, two in zip(
            blind.encoders.parts[mine].parameters(),
            known.encoders.parts[other].parameters(),
            strict=True,
        ):
            assert torch.equal(one, two)
    convolutions = begin(path, "cnn_decoder", known.record, light, 0)[0]
    for one, two in zip(
        convolutions.encoders.parameters(), known.encoders.parameters(), strict=True
    ):
        assert torch.equal(one, two)
    with pytest.raises(ExperimentError, match="no layer that fits into the network 'paper'"):
        begin(path, "paper", known.record, light, 0)
    with pytest.raises(ExperimentError, match="take 2 brightfield and 3 darkfield"):
        begin(path, None, known.record, bright, 0)


def test_what_cannot_be_trained_is_refused(tmp_path):
    with pytest.raises(ExperimentError, match="did you mean 'stained'"):
        train("neuph", experiment(), tmp_path / "w.safetensors", steps=1, specimens="staind")
    with pytest.raises(ExperimentError, match="neuph's"):
        train("dl_srqpi", experiment(), tmp_path / "w.safetensors", steps=1, specimens="stained")
    with pytest.raises(ExperimentError, match="dl_srqpi's"):
        train("neuph", experiment(), tmp_path / "w.safetensors", steps=1, scope="all")
    with pytest.raises(ExperimentError, match="did you mean 'compact'"):
        train("neuph", experiment(), tmp_path / "w.safetensors", steps=1, network="compakt")


def test_a_single_led_recording_is_a_training_pair(tmp_path, light):
    """Its patterns' frames are the sums of its LEDs', its phase that of the specimen."""
    data = copy.deepcopy(DEMO)
    data["microscope"]["camera"]["shape_px"] = [32, 32]
    data["microscope"]["camera"]["bit_depth"] = 16
    data["illumination"] = {
        "source": "led_array",
        "array": data["illumination"]["array"],
        "one_by_one": {"na_max": 0.411, "exposure_ms": 10, "darkfield_exposure_ms": 100},
    }
    data["sequence"] = {"timepoints": 1}
    data["reconstruction"] = {"method": "fpm", "settings": {"rounds": 1, "iterations": 3}}
    path = tmp_path / "single.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    pair = recorded_fields(path, light, 6)
    assert pair.noisy
    assert pair.frames.shape == (1, 5, 32, 32)
    assert pair.phases.shape == (1, 192, 192)
    assert float(pair.frames[0, :2].mean()) == pytest.approx(1, abs=0.15)
    assert 0 < float(pair.frames[0, 2:].mean()) < 0.1
    small = SMALL.model_copy(update={"recorded_share": 1.0})
    train_neuph(
        experiment(), tmp_path / "w.safetensors", steps=2, settings=small, recordings=[path]
    )
    assert "recorded (single)" in read_record(tmp_path / "w.safetensors").training.data
    other = light.model_copy(update={"wavelength_um": 0.53})
    with pytest.raises(ExperimentError, match="wavelength"):
        recorded_fields(path, other, 6)
