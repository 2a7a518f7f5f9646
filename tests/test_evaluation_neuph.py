"""Evaluation of neuph: its forward model and specimens, the figures, and the tables on tiny weights."""

from __future__ import annotations

import copy
import json
from importlib.resources import files

import numpy as np
import pytest
import torch
import yaml

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.evaluation import evaluate
from pipeline.evaluation.forward import Conditions, image
from pipeline.evaluation.neuph import plan as plans
from pipeline.evaluation.neuph.evaluate import evaluate_neuph, neuph_text
from pipeline.evaluation.neuph.fields import LEAVES, Light, pattern_field
from pipeline.evaluation.neuph.scores import FIGURES, frequency_measure, score
from pipeline.evaluation.specimens.leaves import dead_leaves
from pipeline.experiment import Optics, parse_experiment
from pipeline.methods.neuph.fit import light_record
from pipeline.methods.neuph.networks import NeuPh
from pipeline.methods.neuph.record import InputScale, NeuPhNetwork, TrainingRecord, WeightsRecord
from pipeline.methods.neuph.weights import save_weights
from pipeline.optics.forward import camera_intensity, thin_specimen
from pipeline.optics.illumination import Source

torch.set_num_threads(1)

LENS = Optics(wavelength_um=0.63, numerical_aperture=0.1, magnification=4)
DEMO = yaml.safe_load((files("pipeline.demos") / "neuph.yaml").read_text(encoding="utf-8"))


def test_frames_under_leds_are_those_of_the_other_forward_model():
    """On the field's frequency grid, so that both mean the same LEDs; two bright, one dark."""
    side, u, pixel_um = 48, 4, 1.625
    phase = dead_leaves(1, (side * u, side * u), pixel_um / u)
    step = LENS.wavelength_um / (side * pixel_um)
    for leds in (((3 * step, -2 * step), (0.0, 5 * step)), ((20 * step, 7 * step),)):
        ours = image(
            phase, pixel_um / u, LENS, pixel_um, (side, side), [Conditions(0.0, leds=leds)]
        )
        waves = torch.tensor(leds, dtype=torch.float64) / LENS.wavelength_um
        source = Source(waves, torch.full((len(leds),), 1 / len(leds), dtype=torch.float64))
        field = thin_specimen(torch.from_numpy(phase))
        theirs = camera_intensity(field, pixel_um / u, LENS, source, frame_shape=(side, side))
        assert np.allclose(ours[0], theirs.numpy(), atol=2e-3 * float(theirs.max()))


def test_leaves_hide_each_other_and_leave_nothing_bare():
    field = dead_leaves(0, (200, 200), 0.27)
    assert np.array_equal(field, dead_leaves(0, (200, 200), 0.27))
    assert not np.array_equal(field, dead_leaves(1, (200, 200), 0.27))
    assert (field == 0).mean() < 0.05
    assert 0.5 < field.max() <= 2.0
    flat = (np.diff(field, axis=1) == 0).mean()
    assert flat > 0.6


def test_the_truth_of_a_field_is_band_limited_and_its_frames_have_few_photons_in_the_dark():
    sines = np.array([[0.02, 0.0], [0.2, 0.1]])
    lights = [Light(sines[:1], 1e4), Light(sines[1:], 1e4)]
    field = pattern_field(LEAVES, 0, lights, LENS, 1.625, 0.3, field_px=40, upsampling=6)
    assert field.truth.shape == (240, 240)
    assert field.frames.shape == (2, 40, 40)
    spectrum = np.abs(
        np.fft.fft2((field.truth - field.truth.mean()) * np.hanning(240)[:, None] * np.hanning(240))
    )
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(240, 1.625 / 6), np.fft.fftfreq(240, 1.625 / 6)))
    # Of the field; its phase has a little beyond.
    assert spectrum[f > 1.6 * 0.3 / 0.63].max() < 0.02 * spectrum.max()
    assert field.frames[0].mean() == pytest.approx(1, abs=0.1)
    assert 0 < field.frames[1].mean() < 0.05


def test_figures():
    rng = np.random.default_rng(0)
    truth = np.zeros((96, 96))
    truth[30:60, 30:60] = 1.0
    fine = rng.normal(0, 0.05, truth.shape)
    same = score(truth + 3, truth, 6, 0.27, 0.16)
    assert same["mse"] == pytest.approx(0, abs=1e-12)
    assert same["ssim"] == pytest.approx(1)
    noisy = score(truth + fine, truth, 6, 0.27, 0.16)
    assert noisy["mse"] == pytest.approx(0.05**2, rel=0.05)
    assert noisy["background_std_rad"] == pytest.approx(0.05, rel=0.05)
    # White noise has little below the objective's own NA.
    assert noisy["low_frequency_rmse_rad"] < 0.01
    tilted = score(truth + np.linspace(0, 1, 96), truth, 6, 0.27, 0.16)
    assert tilted["low_frequency_rmse_rad"] > 0.2
    assert frequency_measure(truth + fine) > frequency_measure(truth)
    assert frequency_measure(truth + 5) == pytest.approx(frequency_measure(truth))


def test_the_tables_of_tiny_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.evaluation.neuph.object_field._STEPS", 2)
    data = copy.deepcopy(DEMO)
    data["calibration"] = {"source": "none"}
    experiment = parse_experiment(data)
    light = light_record(experiment, Calibration())
    network = NeuPhNetwork(blocks=1, features=4, hidden=8, layers=2)
    record = WeightsRecord(
        network=network,
        light=light,
        scale=InputScale(mean=(0.0,) * 6, deviation=(1.0,) * 6),
        training=TrainingRecord(
            seed=0,
            steps=1,
            fields=1,
            upsampling=4,
            data="none",
            minutes=0.0,
            validation={},
            livephase="0",
            torch="0",
        ),
    )
    torch.manual_seed(0)
    save_weights(NeuPh(network), record, tmp_path / "w.safetensors")
    small = plans.NeuPhPlan(
        "test", cells=(("amoeboid", 3),), leaves=(3,), field_px=32, tuning=(("mitotic", 3),)
    )
    result = evaluate_neuph(experiment, tmp_path / "w.safetensors", small, lambda _: None)
    assert json.loads(json.dumps(result)) == result
    for name in (*FIGURES, "ssim_dead_leaves"):
        assert name in result
    two, one = (result["baselines"][n] for n in ("dpc_two_axis", "dpc_one_axis"))
    # The same method, told more.
    assert two["mse"] != one["mse"]
    assert two["ssim"] > result["ssim"]
    assert result["baselines"]["fpm_multiplexed"]["ssim"] is not None
    assert result["baselines"]["per_object_field"]["mse"] is not None
    assert result["baselines"]["ablation_no_darkfield"] is None
    text = neuph_text(result)
    assert "| dpc_two_axis" in text
    assert "without a row: ablation_cnn_decoder" in text


def test_what_it_has_not_got_is_refused(tmp_path):
    with pytest.raises(ExperimentError, match="SRCNN"):
        evaluate("neuph", parse_experiment(copy.deepcopy(DEMO)), out=tmp_path)
