"""Training: data as the camera would see it, a trainer that goes on where it was, honest tables."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pipeline.errors import ExperimentError, MethodError
from pipeline.experiment import Experiment, parse_experiment
from pipeline.methods.dl_srqpi.header import read_record
from pipeline.methods.dl_srqpi.networks import build_network
from pipeline.methods.dl_srqpi.record import NetworkRecord, OpticsRecord
from pipeline.methods.dl_srqpi.weights import load_network
from pipeline.samples import training_field
from pipeline.training import train
from pipeline.training.checkpoint import load_checkpoint, save_checkpoint
from pipeline.training.data import Fields, image_specimen, make_fields
from pipeline.training.loss import sharp_loss, square_loss
from pipeline.training.patches import add_noise, draw_batch
from pipeline.training.settings import TrainingSettings
from pipeline.training.train_dl_srqpi import train_dl_srqpi, training_optics, weights_name
from pipeline.training.trainer import Budget, Trainer


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def experiment(**changes) -> Experiment:
    demo = files("pipeline.demos").joinpath("dl_srqpi.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(demo)
    for section, values in changes.items():
        data[section] = {**data[section], **values}
    return parse_experiment(data)


SMALL = TrainingSettings(
    network=NetworkRecord(width=4, levels=2),
    fields=2,
    validation_fields=1,
    field_px=32,
    oversampling=1,
    patch_px=16,
    batch=2,
)


@pytest.fixture(scope="module")
def optics() -> OpticsRecord:
    return training_optics(experiment())


@pytest.fixture(scope="module")
def fields(optics) -> Fields:
    lens = experiment().optics
    return make_fields(training_field, [1, 2], SMALL.field_px, lens, optics, 1)


# Data


def blob(seed, shape, pixel_um):
    """A smooth bump off the middle, the same wherever the grid ends."""
    y, x = (((np.arange(n) + 0.5) - n / 2) * pixel_um for n in shape)
    r2 = (y[:, None] - 6) ** 2 + (x[None, :] + 9) ** 2
    return np.exp(-r2 / 2 / 7**2).astype(np.float32)


def test_frame_and_phase_show_the_same_place(optics):
    phase, seen = image_specimen(blob, 0, 48, experiment().optics, optics, 1, (4.0, -4.0))
    assert phase.shape == (192, 192)
    assert seen.shape == (2, 48, 48)
    peak = np.unravel_index(int(phase.argmax()), phase.shape)
    # Downstream of a bump the light gathers; upstream it is missing there.
    bright = np.unravel_index(int(seen[0].argmax()), (48, 48))
    dark = np.unravel_index(int(seen[1].argmin()), (48, 48))
    for place in (bright, dark):
        assert np.abs(np.array(place) * 4 + 1.5 - peak).max() <= 4


def test_the_border_sees_what_lies_beyond(optics):
    """A wider field shows the same light: nothing comes in from the opposite edge."""
    lens = experiment().optics
    small = image_specimen(blob, 0, 24, lens, optics, 1, (4.0,))[1][0]
    large = image_specimen(blob, 0, 64, lens, optics, 1, (4.0,))[1][0][20:44, 20:44]
    # Each is divided by its own mean.
    assert torch.allclose(small, large / large.mean(), atol=2e-3)


def test_fields_are_finite_and_background_is_one(fields):
    assert fields.phases.shape == (2, 128, 128)
    assert fields.frames.shape == (2, 32, 32)
    assert torch.isfinite(fields.phases).all()
    assert torch.allclose(fields.frames.mean((-2, -1)), torch.ones(2), atol=1e-5)


def test_noise_is_what_it_says():
    flat = torch.ones(2, 256, 256)
    noisy = add_noise(flat, torch.tensor([0.01, 0.002]), np.random.default_rng(0))
    assert noisy.std((-2, -1)).tolist() == pytest.approx([0.01, 0.002], rel=0.02)
    bright = add_noise(4 * flat, torch.tensor([0.01, 0.01]), np.random.default_rng(0))
    assert float(bright.std()) == pytest.approx(0.02, rel=0.02)


def test_batches_are_a_pure_function_of_seed_and_step(fields):
    first, again = (draw_batch(fields, SMALL, 3, 7) for _ in range(2))
    assert first[0].shape == (2, 1, 16, 16)
    assert first[1].shape == (2, 1, 64, 64)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], draw_batch(fields, SMALL, 3, 8)[0])
    assert not torch.equal(first[0], draw_batch(fields, SMALL, 4, 7)[0])


def test_patches_keep_frame_and_phase_together():
    """A phase that is its own camera image, nearest neighbour: every patch must stay so."""
    frame = 1 + torch.rand(1, 32, 32)
    phase = frame.repeat_interleave(4, -1).repeat_interleave(4, -2)
    quiet = SMALL.model_copy(update={"noise": (1e-9, 1e-9), "contrast_gain": 1.0, "batch": 16})
    inputs, truth = draw_batch(Fields(phase, frame), quiet, 0, 0)
    assert torch.allclose(truth[:, :, 1::4, 2::4], inputs + 1, atol=1e-5)
    turned = {tuple(t[0, :2, 0].tolist()) for t in inputs}
    assert len(turned) > 8


def test_losses_are_zero_for_the_truth():
    truth = torch.rand(1, 1, 8, 8)
    assert sharp_loss(truth, truth) == 0
    assert square_loss(truth, truth) == 0
    checker = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1
    assert sharp_loss(truth + 0.1 * checker, truth) > sharp_loss(truth + 0.1, truth)


def test_squares_keep_the_mass_where_absolute_errors_lose_it():
    """Of a pixel that is 1 rad in one case of four, and 0 else, with nothing to tell which."""
    truth = torch.tensor([1.0, 0, 0, 0]).reshape(4, 1, 1, 1).expand(4, 1, 8, 8)
    guesses = torch.linspace(0, 1, 101)
    best = [
        float(guesses[int(torch.stack([f(truth * 0 + g, truth) for g in guesses]).argmin())])
        for f in (square_loss, sharp_loss)
    ]
    assert best == [pytest.approx(0.25), pytest.approx(0.0)]


# Trainer


def figures(network):
    total = sum(float(p.detach().abs().sum()) for p in network.parameters())
    return {"score": total, "rmse_rad": 1.0}


def trainer(tmp_path, fields, optics, steps, settings=SMALL, seed=0, **kwargs) -> Trainer:
    return Trainer(fields, optics, settings, seed, Budget(steps), tmp_path / "c", **kwargs)


def weights_after(run: Trainer, validate=figures) -> dict[str, torch.Tensor]:
    kept: dict[str, torch.Tensor] = {}

    def keep(network, event):
        kept.update({k: v.clone() for k, v in network.state_dict().items()})

    run.run(validate, keep, lambda event: None)
    return kept


class StoppedError(Exception):
    pass


def test_killed_and_resumed_is_undisturbed(tmp_path, fields, optics):
    whole = weights_after(trainer(tmp_path, fields, optics, 8, validations=1))

    interrupted = trainer(tmp_path, fields, optics, 8, checkpoint_s=0.0, validations=1)
    step = interrupted._train_step

    def train_step(rate, progress):
        if interrupted.step == 5:
            raise StoppedError
        return step(rate, progress)

    interrupted._train_step = train_step
    with pytest.raises(StoppedError):
        weights_after(interrupted)
    resumed = trainer(tmp_path, fields, optics, 8, validations=1)
    assert resumed.step == 5
    after = weights_after(resumed)
    assert whole.keys() == after.keys()
    assert all(torch.equal(whole[k], after[k]) for k in whole)
    assert not (tmp_path / "c").exists()


def test_another_trainings_checkpoint_is_refused(tmp_path, fields, optics):
    trainer(tmp_path, fields, optics, 8)._save()
    with pytest.raises(MethodError, match="other settings, optics or seed"):
        trainer(tmp_path, fields, optics, 8, seed=1)
    (tmp_path / "c").write_bytes(b"torn")
    with pytest.raises(MethodError, match="can't be read"):
        trainer(tmp_path, fields, optics, 8)


def test_checkpoints_hold_no_code(tmp_path):
    save_checkpoint({"identity": "a", "path": Path("x")}, tmp_path / "c")
    with pytest.raises(MethodError, match="can't be read"):
        load_checkpoint(tmp_path / "c", "a")


def test_the_best_weights_are_kept(tmp_path, fields, optics):
    scores = iter([3.0, 5.0, 4.0, 1.0, 2.0])
    kept = []
    run = trainer(tmp_path, fields, optics, 5, validations=5)
    run.run(
        lambda network: {"score": next(scores)},
        lambda network, event: kept.append(event.validation["score"]),
        lambda event: None,
    )
    assert kept == [3.0, 5.0]


def test_a_diverging_training_stops(tmp_path, fields, optics):
    poisoned = Fields(fields.phases * float("inf"), fields.frames)
    with pytest.raises(MethodError, match="loss became"):
        weights_after(trainer(tmp_path, poisoned, optics, 3))


def test_it_learns(tmp_path, fields, optics):
    """Sixty steps on two small fields: better than saying zero everywhere."""
    settings = SMALL.model_copy(
        update={"network": NetworkRecord(width=8, levels=2), "batch": 4, "average_steps": 10}
    )
    run = trainer(tmp_path, fields, optics, 60, settings)
    network = build_network(settings.network).eval()
    network.load_state_dict(weights_after(run))
    frame = (fields.frames[:, None] - 1) * settings.contrast_gain
    with torch.inference_mode():
        error = (network(frame)[:, 0] - fields.phases).square().mean()
    assert error < 0.5 * fields.phases.square().mean()


# The verbs


def test_train_leaves_weights_that_fit(tmp_path):
    out = tmp_path / "sub" / "w.safetensors"
    heard = []
    result = train_dl_srqpi(experiment(), out, steps=3, seed=5, settings=SMALL, report=heard.append)
    assert result["weights"] == str(out)
    record = read_record(out)
    assert (record.training.seed, record.training.steps, record.training.samples) == (5, 3, 6)
    assert record.optics.z_um == 4.0
    load_network(out)
    lines = [json.loads(line) for line in out.with_suffix(".log.jsonl").read_text().splitlines()]
    assert lines == heard
    assert lines[0]["fields"] == 3
    assert lines[-1]["kept"] is True
    assert {p.suffix for p in out.parent.iterdir()} == {".safetensors", ".jsonl"}
    again = train_dl_srqpi(
        experiment(), tmp_path / "b.safetensors", steps=3, seed=5, settings=SMALL
    )
    ours, theirs = load_network(out)[0].state_dict(), load_network(Path(again["weights"]))[0]
    assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in ours.items())


@pytest.mark.parametrize(
    ("changes", "arguments", "cause"),
    [
        ({"sequence": {"foci_um": [0.0]}}, {}, "defocused"),
        ({"sequence": {"foci_um": [-4.0, 4.0]}}, {}, "weights are for one"),
        ({}, {"minutes": 0}, "needs time"),
        ({}, {"steps": 0}, "needs time"),
        ({}, {"steps": 1, "minutes": 1}, "both given"),
    ],
)
def test_what_can_not_be_trained_is_refused(tmp_path, changes, arguments, cause):
    with pytest.raises(ExperimentError, match=cause) as refused:
        train("dl_srqpi", experiment(**changes), tmp_path / "w.safetensors", **arguments)
    assert refused.value.fix


def test_methods_without_a_network():
    with pytest.raises(ExperimentError, match="no network") as refused:
        train("tie", experiment())
    assert "dl_srqpi" in refused.value.fix


def test_weights_are_named_after_their_optics(optics):
    assert weights_name(optics) == "dl_srqpi_na0.4_550nm_2.6um_z4.safetensors"
