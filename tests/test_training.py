"""Training: data as the camera would see it, a trainer that goes on where it was, honest tables."""

import copy
import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError, MethodError
from pipeline.experiment import Experiment, parse_experiment
from pipeline.methods.dl_srqpi.conditions import NUMBERS, Conditions
from pipeline.methods.dl_srqpi.header import read_record
from pipeline.methods.dl_srqpi.inputs import CHANNELS, NetworkInputs
from pipeline.methods.dl_srqpi.networks import build_network
from pipeline.methods.dl_srqpi.record import NetworkRecord, OpticsRecord, UNetRecord
from pipeline.methods.dl_srqpi.weights import load_network
from pipeline.methods.precision import channels_last
from pipeline.methods.weights_file import sha256
from pipeline.optics.sensor import bin_pixels
from pipeline.quality import align_piston, ssim
from pipeline.samples import training_field
from pipeline.training import train
from pipeline.training.batches import Batches
from pipeline.training.checkpoint import load_checkpoint, save_checkpoint
from pipeline.training.data import Fields, Imaging
from pipeline.training.field_cache import cached_fields
from pipeline.training.field_making import make_fields
from pipeline.training.inherit import inherited
from pipeline.training.loss import (
    coarse_loss,
    evened,
    sharp_loss,
    square_loss,
    structure_loss,
    training_loss,
)
from pipeline.training.noise import add_noise
from pipeline.training.optics import training_optics, weights_name
from pipeline.training.optimizers import Optimizers
from pipeline.training.prefetch import Prefetched
from pipeline.training.ranges import Ranges
from pipeline.training.settings import TrainingSettings
from pipeline.training.task import dl_srqpi_task
from pipeline.training.train_dl_srqpi import train_dl_srqpi
from pipeline.training.trainer import Budget, Trainer
from pipeline.training.validation import Validation


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


TWO_UNETS = NetworkRecord(width=8, levels=2, earlier=(UNetRecord(width=4, depths=(1, 1)),))

SMALL = TrainingSettings(
    network=NetworkRecord(width=4, levels=2),
    fields=2,
    images=2,
    validation_fields=1,
    field_px=32,
    oversampling=1,
    patch_px=16,
    batch=2,
)


@pytest.fixture(scope="module")
def optics() -> OpticsRecord:
    return training_optics(experiment(), scope="all")


@pytest.fixture(scope="module")
def fields(optics) -> Fields:
    return make_fields(training_field, [1, 2], Imaging(optics, 4, SMALL.field_px, 1, images=2))


# Conditions


def test_conditions_fill_their_ranges_and_the_experiments_own_are_the_most_frequent(optics):
    rng = np.random.default_rng(0)
    drawn = [Ranges(optics).draw(rng) for _ in range(2000)]
    z, s = np.array([(c.z_um, c.coherence) for c in drawn]).T
    assert 0.95 < z.min() < 1.1 < 12.8 < z.max() < 13.6
    assert s.min() == 0 < 0.38 < s.max() < 0.43
    assert np.mean(np.abs(z / 4 - 1) < 0.1) > 0.35
    assert 0.4 < np.mean(s == 0) < 0.5
    assert np.isfinite([c.numbers() for c in drawn]).all()
    assert np.abs([c.numbers() for c in drawn]).max() < 6


def test_a_lab_trains_around_its_own_conditions_and_its_calibration():
    own = training_optics(
        experiment(illumination={"coherence": 0.2}), Calibration(pixel_um=2.7, z_scale=1.1)
    )
    assert (own.pixel_um, own.z_um) == (2.7, pytest.approx(4.4))
    assert (own.z_min_um, own.z_max_um) == (pytest.approx(3.96), pytest.approx(4.84))
    assert (own.coherence_min, own.coherence_max) == (pytest.approx(0.15), pytest.approx(0.25))


# Data


def blob(seed, shape, pixel_um):
    """A smooth bump off the middle, the same wherever the grid ends."""
    y, x = (((np.arange(n) + 0.5) - n / 2) * pixel_um for n in shape)
    r2 = (y[:, None] - 6) ** 2 + (x[None, :] + 9) ** 2
    return np.exp(-r2 / 2 / 7**2).astype(np.float32)


def perfect(optics, field_px) -> Imaging:
    return Imaging(optics, 4, field_px, 1, imperfect=False)


def at(optics, z_um, coherence=0.0) -> Conditions:
    return Conditions(
        optics.wavelength_um,
        optics.numerical_aperture,
        optics.refractive_index,
        optics.pixel_um,
        z_um,
        coherence,
    )


def test_frame_and_phase_show_the_same_place(optics):
    phase, seen = perfect(optics, 48).under([at(optics, 4.0), at(optics, -4.0)], blob, 0)
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
    here = [at(optics, 4.0)]
    small = perfect(optics, 24).under(here, blob, 0)[1][0]
    large = perfect(optics, 64).under(here, blob, 0)[1][0][20:44, 20:44]
    # Each is divided by its own mean.
    assert torch.allclose(small, large / large.mean(), atol=2e-3)


def test_pixels_may_be_coarse_for_the_objective(optics):
    coarse = optics.model_copy(update={"numerical_aperture": 0.75})
    _, seen = perfect(coarse, 24).under([at(coarse, 2.0, 0.2)], blob, 0)
    assert torch.isfinite(seen).all()
    assert seen.std() > 0.001


def test_fields_are_finite_and_background_is_one(fields):
    assert fields.phases.shape == (2, 128, 128)
    assert fields.frames.shape == (2, 2, 32, 32)
    assert fields.upsampling == 4
    assert torch.isfinite(fields.phases).all()
    assert torch.allclose(fields.frames.mean((-2, -1)), torch.ones(2, 2), atol=1e-5)


def test_fields_are_made_once(tmp_path, optics, fields):
    imaging = Imaging(optics, 4, SMALL.field_px, 1, images=2)
    heard = []
    made = cached_fields(tmp_path, training_field, [1, 2], imaging, 1, heard.append)
    (cache,) = tmp_path.iterdir()
    begun = cache.stat().st_mtime_ns
    read = cached_fields(tmp_path, training_field, [1, 2], imaging, 1, heard.append)
    assert cache.stat().st_mtime_ns == begun
    for got in (made, read):
        assert torch.equal(got.phases, fields.phases)
        assert torch.equal(got.frames, fields.frames)
        assert got.conditions == fields.conditions
    cached_fields(tmp_path, training_field, [1], imaging, 1, heard.append)
    assert len(list(tmp_path.iterdir())) == 2


def flat(seed, shape, pixel_um):
    """A specimen that costs nothing."""
    return np.full(shape, 0.1 * seed, np.float32)


def test_fields_that_were_made_before_a_stop_are_kept(tmp_path, optics, monkeypatch):
    monkeypatch.setattr("pipeline.training.field_cache._BLOCK", 2)
    imaging = perfect(optics, 32)
    drawn, heard = [], []

    def stopping(seed, shape, pixel_um):
        drawn.append(seed)
        if drawn == [1, 2, 3]:
            raise KeyboardInterrupt
        return flat(seed, shape, pixel_um)

    with pytest.raises(KeyboardInterrupt):
        cached_fields(tmp_path, stopping, [1, 2, 3, 4, 5], imaging, 1, heard.append)
    made = cached_fields(tmp_path, stopping, [1, 2, 3, 4, 5], imaging, 1, heard.append)
    assert drawn == [1, 2, 3, 3, 4, 5]
    assert len(list(tmp_path.iterdir())) == 1
    whole = make_fields(flat, [1, 2, 3, 4, 5], imaging)
    assert torch.equal(made.phases, whole.phases)
    assert torch.equal(made.frames, whole.frames)
    assert made.conditions == whole.conditions
    assert made.fingerprint() == whole.fingerprint() != replace(whole, noisy=True).fingerprint()


def test_a_full_disk_is_said_before_the_work_and_leaves_no_torn_file(tmp_path, optics, monkeypatch):
    imaging = perfect(optics, 32)
    free = type("Usage", (), {"free": 2 * imaging.field_bytes - 1})()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda folder: free)
        with pytest.raises(MethodError, match="GB left"):
            cached_fields(tmp_path, flat, [1], imaging, 1, print)

    def full(state, path):
        path.write_bytes(b"half")
        raise RuntimeError("[enforce fail] PytorchStreamWriter failed\nframe #0")

    save_checkpoint({"identity": "a", "step": 1}, tmp_path / "c")
    monkeypatch.setattr("torch.save", full)
    with pytest.raises(MethodError, match=r"can't be written .*a part of it\): make room"):
        save_checkpoint({"identity": "a", "step": 2}, tmp_path / "c")
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "c", "a") == {"identity": "a", "step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_specimens_and_imaging_are_those_of_the_caches_version(fields):
    """Where these change, `field_cache._VERSION` has to: a cache of before would be taken for one of now."""
    seen = [fields.phases[0].float().mean(), fields.phases[1].float().std()]
    seen += [frame.std() for frame in fields.frames.flatten(0, 1)]
    assert [float(v) for v in seen] == pytest.approx(
        [0.68977, 0.5216, 0.15481, 0.09658, 0.03795, 0.03903], rel=2e-3
    )
    drawn = [c.z_um for row in fields.conditions for c in row]
    assert drawn == pytest.approx([9.5749, 6.7402, 3.7412, 3.8424], abs=1e-4)


def test_several_processes_make_the_same_fields(optics):
    imaging = Imaging(optics, 1, 32, 1, images=1)
    alone, together = (make_fields(blob, range(4), imaging, n) for n in (1, 2))
    assert torch.equal(alone.phases, together.phases)
    assert torch.equal(alone.frames, together.frames)
    assert alone.conditions == together.conditions


def test_noise_is_what_it_says():
    flat = torch.ones(2, 256, 256)
    noisy = add_noise(flat, torch.tensor([0.01, 0.002]), np.random.default_rng(0))
    assert noisy.std((-2, -1)).tolist() == pytest.approx([0.01, 0.002], rel=0.02)
    bright = add_noise(4 * flat, torch.tensor([0.01, 0.01]), np.random.default_rng(0))
    assert float(bright.std()) == pytest.approx(0.02, rel=0.02)


def test_batches_are_a_pure_function_of_seed_and_step(fields):
    batches = Batches([fields], [1.0], SMALL)
    first, again = (batches.draw(3, 7) for _ in range(2))
    assert first.inputs.shape == (2, CHANNELS, 16, 16)
    assert first.conditions.shape == (2, NUMBERS)
    assert first.kernels.shape == (2, 16, 11, 11)
    assert first.phases.shape == (2, 1, 64, 64)
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.phases, again.phases)
    assert not torch.equal(first.inputs, batches.draw(3, 8).inputs)
    assert not torch.equal(first.inputs, batches.draw(4, 7).inputs)


def test_patches_keep_frame_phase_and_conditions_together(optics):
    """A phase that is its own camera image, nearest neighbour: every patch must stay so."""
    frame = 1 + torch.rand(1, 2, 32, 32)
    frame = frame / frame.mean((-2, -1), keepdim=True)
    two = (at(optics, 3.0), at(optics, 9.0, 0.3))
    quiet = SMALL.model_copy(update={"noise": (1e-9, 1e-9), "batch": 16})
    for k, conditions in enumerate(two):
        phase = frame[:, k].repeat_interleave(4, -1).repeat_interleave(4, -2)
        one = Fields(phase, frame[:, k : k + 1], ((conditions,),))
        batch = Batches([one], [1.0], quiet).draw(0, 0)
        scale = NetworkInputs(conditions, (32, 32))(frame[:, k])[0, 0].std() / frame[0, k].std()
        seen = batch.inputs[:, :1] / scale + 1
        assert torch.allclose(batch.phases[:, :, 1::4, 2::4], seen, atol=1e-4)
        assert torch.equal(batch.conditions[3], torch.from_numpy(conditions.numbers()))
        assert len({tuple(t[0, :2, 0].tolist()) for t in batch.inputs}) > 8


def test_recorded_frames_get_no_noise_and_sets_are_drawn_in_their_shares(fields, optics):
    real = Fields(0 * fields.phases, fields.frames, fields.conditions, noisy=True)
    batches = Batches([fields, real], [1.0, 3.0], SMALL.model_copy(update={"batch": 200}))
    batch = batches.draw(0, 0)
    recorded = batch.phases.abs().amax((1, 2, 3)) == 0
    assert 0.6 < float(recorded.float().mean()) < 0.9
    loud = SMALL.model_copy(update={"noise": (0.5, 0.5), "batch": 8})
    assert Batches([real], [1.0], loud).draw(0, 0).inputs.abs().max() < 20


def test_the_structure_loss_is_the_metric():
    rng = np.random.default_rng(0)
    truth = rng.random((64, 64)).cumsum(0).cumsum(1) / 400
    image = truth + 0.05 * rng.standard_normal((64, 64)) + 0.02
    loss = structure_loss(
        torch.from_numpy(image)[None, None].float(),
        torch.from_numpy(truth)[None, None].float(),
        torch.tensor([np.ptp(truth)]),
    )
    both = (1 - ssim(align_piston(image, truth), truth)) + 0.5 * (1 - ssim(image, truth))
    assert float(loss) == pytest.approx(both, abs=2e-4)


def test_the_coarse_loss_sees_wide_errors_more_than_fine_ones():
    truth = torch.zeros(1, 1, 256, 256)
    checker = (torch.arange(256)[:, None] + torch.arange(256)) % 2 * 2.0 - 1
    assert float(coarse_loss(truth + 0.1 * checker, truth)) < 1e-10
    assert float(coarse_loss(truth + 0.1, truth)) == pytest.approx(14 * 0.01, rel=1e-4)


def test_a_tenth_of_its_range_counts_the_same_in_a_thin_specimen_and_a_thick_one():
    truth = torch.rand(1, 1, 64, 64)
    losses = []
    for span in (0.6, 2.0, 6.0):
        of = torch.tensor([span])
        low, aim = evened(0.9 * span * truth, of), evened(span * truth, of)
        losses.append([float(f(low, aim)) for f in (sharp_loss, square_loss, coarse_loss)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[2] == pytest.approx(losses[1], rel=1e-4)
    # In radians where the range is usual; what is nearly empty doesn't grow beyond.
    assert torch.equal(evened(truth, torch.tensor([2.0])), truth)
    assert torch.equal(evened(truth, torch.tensor([0.0])), 4 * truth)


def test_losses_are_zero_for_the_truth():
    truth = torch.rand(1, 1, 8, 8)
    assert sharp_loss(truth, truth) == 0
    assert square_loss(truth, truth) == 0
    checker = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1
    assert sharp_loss(truth + 0.1 * checker, truth) > sharp_loss(truth + 0.1, truth)


def test_a_patch_that_nobody_can_know_does_not_drown_the_others():
    """A sheet that fills its frame a radian too low, beside cells that are a tenth too low."""
    truth = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    phase = torch.stack([truth[0] - 1, 0.9 * truth[1]]).requires_grad_()
    training_loss([phase], truth, torch.tensor([2.0, 2.0])).backward()
    hopeless, cells = phase.grad.flatten(1).norm(dim=1)
    assert cells > hopeless
    squares = square_loss(phase, truth) + coarse_loss(phase, truth)
    assert squares[0] > 100 * squares[1]


def test_squares_keep_the_mass_where_absolute_errors_lose_it():
    """Of a pixel that is 1 rad in one case of four, and 0 else, with nothing to tell which."""
    truth = torch.tensor([1.0, 0, 0, 0]).reshape(4, 1, 1, 1).expand(4, 1, 8, 8)
    guesses = torch.linspace(0, 1, 101)
    best = [
        float(guesses[int(torch.stack([f(truth * 0 + g, truth).mean() for g in guesses]).argmin())])
        for f in (square_loss, sharp_loss)
    ]
    assert best == [pytest.approx(0.25), pytest.approx(0.0)]


# Trainer


def figures(network):
    total = sum(float(p.detach().abs().sum()) for p in network.parameters())
    return {"score": total, "rmse_rad": 1.0}


def trainer(tmp_path, fields, steps, settings=SMALL, seed=0, **kwargs) -> Trainer:
    sets = fields if isinstance(fields, list) else [fields]
    torch.manual_seed(seed)
    return Trainer(
        dl_srqpi_task(build_network(settings.network), Batches(sets, [1.0] * len(sets), settings)),
        settings,
        seed,
        Budget(steps),
        "these optics",
        tmp_path / "c",
        **kwargs,
    )


def weights_after(run: Trainer, validate=figures) -> dict[str, torch.Tensor]:
    kept: dict[str, torch.Tensor] = {}

    def keep(network, event):
        kept.update({k: v.clone() for k, v in network.state_dict().items()})

    run.run(validate, keep, lambda event: None)
    return kept


class StoppedError(Exception):
    pass


def test_killed_and_resumed_is_undisturbed(tmp_path, fields):
    """With norms, both losses, and two data sets."""
    network = NetworkRecord(form="sub_pixel", width=4, levels=2)
    settings = SMALL.model_copy(update={"network": network})
    recorded = replace(fields, noisy=True)

    def begin(folder, **kwargs):
        return trainer(tmp_path / folder, [fields, recorded], 8, settings, validations=1, **kwargs)

    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = weights_after(begin("whole"))

    interrupted = begin("killed", checkpoint_s=0.0)
    step = interrupted._train_step

    def train_step(*given):
        if interrupted.step == 5:
            raise StoppedError
        return step(*given)

    interrupted._train_step = train_step
    with pytest.raises(StoppedError):
        weights_after(interrupted)
    resumed = begin("killed")
    assert resumed.step == 5
    after = weights_after(resumed)
    assert whole.keys() == after.keys()
    assert all(torch.equal(whole[k], after[k]) for k in whole)
    # Killed after its end, it has nothing left to do, and keeps what it kept.
    ended = begin("killed")
    assert ended.step == 8
    assert weights_after(ended) == {}
    ended.forget()
    assert not (tmp_path / "killed" / "c").exists()


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_batches_drawn_ahead_are_those_of_their_steps(fields, threads):
    batches = Batches([fields], [1.0], SMALL)

    def draw(step):
        if step == 9:
            raise StoppedError
        return batches.draw(3, step)

    with Prefetched(draw, 4, threads) as ahead:
        for step in range(4, 9):
            assert torch.equal(ahead.take().inputs, batches.draw(3, step).inputs)
        with pytest.raises(StoppedError):
            ahead.take()


def test_a_training_that_is_killed_at_its_first_validation_goes_on(tmp_path, fields):
    def killed(*_):
        raise StoppedError

    first = trainer(tmp_path, fields, 8, validations=4)
    with pytest.raises(StoppedError):
        first.run(figures, killed, lambda _: None)
    # Weights that were kept lie beside a checkpoint: the same call knows them for its own.
    assert (tmp_path / "c").exists()
    assert weights_after(trainer(tmp_path, fields, 8, validations=4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_trains_validates_and_resumes(tmp_path, fields):
    validation = Validation(fields, SMALL)
    after = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        on_gpu = trainer(tmp_path / folder, fields, 6, validations=2, device="cuda")
        after.append(weights_after(on_gpu, validation))
    assert all(torch.equal(v.cpu(), after[1][k].cpu()) for k, v in after[0].items())


def test_another_trainings_checkpoint_is_refused(tmp_path, fields):
    trainer(tmp_path, fields, 8)._save()
    with pytest.raises(MethodError, match="other settings, optics, data"):
        trainer(tmp_path, fields, 8, seed=1)
    (tmp_path / "c").write_bytes(b"torn")
    with pytest.raises(MethodError, match="can't be read"):
        trainer(tmp_path, fields, 8)


def test_checkpoints_hold_no_code(tmp_path):
    save_checkpoint({"identity": "a", "path": Path("x")}, tmp_path / "c")
    with pytest.raises(MethodError, match="can't be read"):
        load_checkpoint(tmp_path / "c", "a")


def test_the_best_weights_are_kept(tmp_path, fields):
    scores = iter([3.0, 5.0, 4.0, 1.0, 2.0])
    kept = []
    run = trainer(tmp_path, fields, 5, validations=5)
    run.run(
        lambda network: {"score": next(scores)},
        lambda network, event: kept.append(event.validation["score"]),
        lambda event: None,
    )
    assert kept == [3.0, 5.0]


def test_a_diverging_training_stops(tmp_path, fields):
    poisoned = Fields(fields.phases * float("inf"), fields.frames, fields.conditions)
    with pytest.raises(MethodError, match="loss became"):
        weights_after(trainer(tmp_path, poisoned, 3))


def test_kernels_learn_by_muon_where_they_lie_and_all_else_by_adam():
    network = channels_last(build_network(TWO_UNETS))
    optimizers = Optimizers(network, network.inner_kernels(), weight_decay=0.0)
    before = {n: value.detach().clone() for n, value in network.named_parameters()}
    x, numbers = torch.randn(2, CHANNELS, 16, 16), torch.randn(2, NUMBERS)
    kernels = torch.randn(2, 16, 11, 11)
    optimizers.step(network(x, numbers, kernels).square().mean(), 0.01)
    for name, value in network.named_parameters():
        moved = value.detach() - before[name]
        kernel = (
            value.ndim == 4 and name.startswith("body.") and name != "body.unets.0.entry.weight"
        )
        if not kernel:  # Adam's first step is the rate, less where next to nothing is to be gained
            assert moved.abs().max() < 0.0101, name
            assert moved.abs().max() > 0.005 or not moved.any(), name
            continue
        rows = moved.flatten(1)
        values = torch.linalg.svdvals(rows)[: min(rows.shape)]
        # Orthogonal, or nearly: five rounds in bf16 leave 0.7 to 1.2.
        wanted = 0.01 * 0.2 * max(rows.shape) ** 0.5
        assert wanted * 0.5 < values.median() < wanted * 1.4, name


def test_optimizers_go_on_where_they_were():
    def stepped(network, optimizers, count):
        x = torch.randn(1, CHANNELS, 8, 8, generator=torch.Generator().manual_seed(1))
        for _ in range(count):
            out = network(x, torch.zeros(1, NUMBERS), torch.ones(1, 16, 11, 11))
            optimizers.step((out - 1).square().mean(), 0.01)

    torch.manual_seed(0)
    one = channels_last(build_network(TWO_UNETS))
    first = Optimizers(one, one.inner_kernels(), weight_decay=1e-4)
    stepped(one, first, 2)
    two = channels_last(build_network(TWO_UNETS))
    two.load_state_dict(one.state_dict())
    second = Optimizers(two, two.inner_kernels(), weight_decay=1e-4)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    stepped(one, first, 2)
    stepped(two, second, 2)
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name


def test_a_later_u_net_corrects_the_phase_of_the_one_before():
    network = build_network(TWO_UNETS).eval()
    x, numbers = torch.randn(1, CHANNELS, 20, 17), torch.zeros(1, NUMBERS)
    kernels = torch.randn(1, 16, 11, 11)
    with torch.inference_mode():
        first, last = network.phases(x, numbers, kernels)
        assert first.shape == last.shape == (1, 1, 80, 68)
        assert torch.equal(network(x, numbers, kernels), last)
        torch.nn.init.zeros_(network.heads[1].weight)
        torch.nn.init.zeros_(network.heads[1].bias)
        assert torch.allclose(network(x, numbers, kernels), first, atol=1e-6)


def test_it_learns(tmp_path, fields):
    """Sixty steps on two small fields: better than saying zero everywhere."""
    settings = SMALL.model_copy(
        update={"network": NetworkRecord(width=8, levels=2), "batch": 4, "average_steps": 10}
    )
    run = trainer(tmp_path, fields, 60, settings)
    network = build_network(settings.network).eval()
    network.load_state_dict(weights_after(run))
    here = fields.conditions[0][0]
    inputs = NetworkInputs(here, (32, 32))
    with torch.inference_mode():
        phase = network(
            inputs(fields.frames[:1, 0]), torch.from_numpy(here.numbers())[None], inputs.kernels(4)
        )[0, 0]
    truth = fields.phases[0].float()
    estimate = inputs(fields.frames[:1, 0])[0, 1].repeat_interleave(4, -1).repeat_interleave(4, -2)
    assert (phase - truth).square().mean() < 0.7 * (estimate - truth).square().mean()


# The verbs


def _no_picture(*_):
    """Pictures take longer than the training."""


def test_train_leaves_weights_that_fit(tmp_path, monkeypatch):
    out = tmp_path / "sub" / "w.safetensors"
    heard = []
    result = train_dl_srqpi(experiment(), out, steps=2, seed=5, settings=SMALL, report=heard.append)
    assert result["weights"] == str(out)
    record = read_record(out)
    assert (record.training.seed, record.training.steps, record.training.samples) == (5, 2, 4)
    assert record.optics.z_um == 4.0
    load_network(out)
    lines = [json.loads(line) for line in out.with_suffix(".log.jsonl").read_text().splitlines()]
    assert lines == heard
    assert lines[0]["begins_at_step"] == 0
    assert lines[-1]["kept"] is True
    assert sorted({p.suffix for p in out.parent.iterdir()}) == [
        ".jsonl",
        ".md",
        ".pictures",
        ".pt",
        ".safetensors",
    ]
    assert sha256(out) in out.with_suffix(".md").read_text()
    other = out.with_name("b.safetensors")
    monkeypatch.setattr("pipeline.training.train_dl_srqpi.save_picture", _no_picture)
    train_dl_srqpi(experiment(), other, steps=2, seed=5, settings=SMALL)
    ours, theirs = (load_network(path)[0].state_dict() for path in (out, other))
    assert all(torch.equal(v, theirs[k]) for k, v in ours.items())
    with pytest.raises(ExperimentError, match="is there already"):
        train_dl_srqpi(experiment(), out, steps=2, seed=5, settings=SMALL)


@pytest.mark.parametrize(
    ("changes", "arguments", "cause"),
    [
        ({"sequence": {"foci_um": [0.0]}}, {}, "defocused"),
        ({"sequence": {"foci_um": [-4.0, 4.0]}}, {}, "weights are for one"),
        ({"sequence": {"foci_um": [-4.0]}}, {}, "upstream"),
        ({}, {"scope": "al"}, "no conditions 'al'"),
        ({}, {"network": "bass"}, "no network 'bass'"),
        ({}, {"minutes": 0}, "needs time"),
        ({}, {"steps": 0}, "needs time"),
        ({}, {"steps": 1, "minutes": 1}, "both given"),
        ({}, {"seed": 10_000}, "seed 10000"),
        ({}, {"upsampling": 9}, "9 times finer"),
        ({}, {"out": Path("w.pt")}, "not be taken for weights"),
    ],
)
def test_what_can_not_be_trained_is_refused(tmp_path, changes, arguments, cause):
    with pytest.raises(ExperimentError, match=cause) as refused:
        train("dl_srqpi", experiment(**changes), **{"out": tmp_path / "w.safetensors", **arguments})
    assert refused.value.fix


def test_methods_without_a_network():
    with pytest.raises(ExperimentError, match="no network") as refused:
        train("tie", experiment())
    assert "dl_srqpi" in refused.value.fix


def test_weights_are_named_after_their_optics(optics):
    assert weights_name("base", optics) == "dl_srqpi_base_na0.4_550nm_2.6um.safetensors"


def test_fine_tuning_begins_with_the_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.training.train_dl_srqpi.save_picture", _no_picture)
    first, tuned = (tmp_path / f"{name}.safetensors" for name in ("first", "tuned"))
    train_dl_srqpi(experiment(), first, steps=1, settings=SMALL)
    still = SMALL.model_copy(update={"learning_rate": 1e-12})
    result = train_dl_srqpi(
        experiment(),
        tuned,
        steps=1,
        settings=still,
        begin_from=first,
        upsampling=2,
        fields=1,
        batch=3,
    )
    assert result["training"]["begun_from"] == sha256(first)
    assert (result["training"]["fields"], result["training"]["samples"]) == (1, 3)
    with pytest.raises(ExperimentError, match="batch is 0"):
        train_dl_srqpi(experiment(), tmp_path / "x.safetensors", batch=0)
    before, after = (load_network(path)[0] for path in (first, tuned))
    assert (before.record.upsampling, after.record.upsampling) == (4, 2)
    ours, theirs = inherited(before, after), after.state_dict()
    assert all(torch.allclose(value, theirs[name], atol=1e-3) for name, value in ours.items())
    with pytest.raises(ExperimentError, match="are of the network 'own', not of 'fast'"):
        train_dl_srqpi(experiment(), tmp_path / "x.safetensors", network="fast", begin_from=first)


@pytest.mark.parametrize("form", ["residual", "sub_pixel", "paper"])
def test_a_network_begins_with_anothers_phase_on_its_own_pixels(form):
    record = NetworkRecord(form=form, width=4, levels=1)
    parent, coarse, finer = (
        build_network(record.model_copy(update={"upsampling": u})).eval() for u in (4, 2, 8)
    )
    for network in (coarse, finer):
        network.load_state_dict(inherited(parent, network))
    if form == "paper":  # it enlarges first: the same parameters on other pixels
        return
    inputs, conditions = torch.randn(1, CHANNELS, 16, 16), torch.randn(1, NUMBERS)
    with torch.inference_mode():
        phase, binned, repeated = (
            network(inputs, conditions, torch.zeros(1, network.record.upsampling**2, 11, 11))[0]
            for network in (parent, coarse, finer)
        )
    assert torch.allclose(binned, bin_pixels(phase, 2), atol=1e-5)
    assert torch.allclose(bin_pixels(repeated, 2), phase, atol=1e-5)


def test_a_second_look_begins_with_the_same_comparison_on_other_pixels(optics):
    """What a later U-Net reads of the phase and of what is missing hardly changes with the pixels' size."""
    record = NetworkRecord(width=8, levels=1, earlier=(UNetRecord(width=4, depths=(1, 1)),))
    parent = build_network(record).eval()
    reads = {}
    for u in (4, 2, 8):
        network = build_network(record.model_copy(update={"upsampling": u})).eval()
        network.load_state_dict(inherited(parent, network))
        entry = network.body.unets[1].entry
        entry.register_forward_hook(lambda _m, _i, out, u=u: reads.update({u: out}))
        inputs = NetworkInputs(at(optics, 4.0), (24, 24))
        frame = 1 + 0.02 * torch.randn(1, 24, 24, generator=torch.Generator().manual_seed(0))
        numbers = torch.from_numpy(at(optics, 4.0).numbers())[None]
        # With gradients: fused layers call no hooks.
        network(inputs(frame), numbers, inputs.kernels(u))
    for u in (2, 8):
        assert (reads[u] - reads[4]).std() < 0.35 * reads[4].std()
