"""How far to trust an image: what the light leaves unexplained, the alarm, and the scale's uncertainty."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.calibration import Calibration
from pipeline.evaluation.trust.evaluate import evaluate_trust
from pipeline.evaluation.trust.faults import clipped, dusty, scratched, with_foreign_detail
from pipeline.evaluation.trust.measures import detectable, roc_auc
from pipeline.evaluation.trust.plan import TrustPlan
from pipeline.experiment import Experiment, parse_experiment
from pipeline.frames import Measurement
from pipeline.lifecycle.report.trust import trust_lines, trust_report, trust_rows
from pipeline.methods.dl_srqpi.networks import build_network
from pipeline.methods.dl_srqpi.record import (
    NetworkRecord,
    OpticsRecord,
    TrainingRecord,
    WeightsRecord,
)
from pipeline.methods.dl_srqpi.weights import save_weights
from pipeline.methods.dpc import Dpc
from pipeline.methods.tie import Tie
from pipeline.optics.forward import predict_frames
from pipeline.optics.residual import agreement
from pipeline.optics.weak_absorption import absorption_contrast, absorption_transfer
from pipeline.stages.alarm import Signs, alarm, contrast_skewness, piled_up
from pipeline.stages.scale import scale_uncertainty

SIDE, SIGMA = 64, 0.001


def experiment(foci=(4.0,), coherence=0.0, method="tie", side=SIDE) -> Experiment:
    return parse_experiment(
        {
            "microscope": {
                "driver": "simulator",
                "camera": {
                    "shape_px": [side, side],
                    "pixel_um": 6.5,
                    "binning": 4,
                    "bit_depth": 16,
                },
            },
            "optics": {"wavelength_um": 0.55, "numerical_aperture": 0.4, "magnification": 10},
            "illumination": {
                "source": "condenser",
                "coherence": coherence,
                "channels": {"bf": {}},
            },
            "sequence": {"timepoints": 1, "foci_um": list(foci)},
            "reconstruction": {"method": method},
        }
    )


# Read noise alone, of a camera with much light: the same at every pixel.
CAMERA = Calibration(
    flat={"bf": np.full((), 10_000, np.float32)}, gain_e_per_count=1e4, read_noise_e=SIGMA * 1e8
)


def cells(height: float = 1.0) -> torch.Tensor:
    """``[4·SIDE, 4·SIDE]`` radians."""
    y, x = torch.meshgrid(*[torch.linspace(0, 1, 4 * SIDE)] * 2, indexing="ij")
    phase = torch.zeros_like(y)
    for cy, cx, r in ((0.35, 0.4, 0.07), (0.6, 0.65, 0.05), (0.7, 0.3, 0.09)):
        phase += torch.exp(-(((y - cy) ** 2 + (x - cx) ** 2) / r**2))
    return height * phase


def absorption_seen(phase: torch.Tensor, coherence: float = 0.0) -> torch.Tensor:
    y, x = phase.shape
    optics = experiment().optics
    transfer = absorption_transfer((y // 4, x // 4), 2.6, optics, 4.0, coherence)
    return absorption_contrast(phase, transfer, 4)


def agree(frame: torch.Tensor, phase: torch.Tensor, seed: int = 1, absorbed: bool = False):
    e = experiment()
    noise = SIGMA * torch.randn(frame.shape, generator=torch.Generator().manual_seed(seed))
    seen = (frame + noise)[None, None]
    thick = absorption_seen(phase)[None, None] if absorbed else None
    predicted = predict_frames(phase, None, e)[None]
    return agreement(
        seen, torch.ones_like(seen, dtype=torch.bool), predicted, e, CAMERA, absorption=thick
    )


def seen(phase: torch.Tensor, absorption: torch.Tensor | None = None) -> torch.Tensor:
    return predict_frames(phase, absorption, experiment())[0]


def test_what_is_unexplained_counts_neither_light_nor_contrast():
    for height in (1.0, 2.0):
        right = agree(seen(cells(height)), cells(height))
        assert abs(right.unexplained.item()) < 0.05
        half = agree(seen(cells(height)), 0 * cells())
        assert half.unexplained.item() > 0.8
    assert half.residual.item() > 5 * right.residual.item()


def test_an_empty_field_has_nothing_unexplained():
    empty = agree(torch.ones(SIDE, SIDE), 0 * cells())
    assert empty.residual.item() == pytest.approx(1, abs=0.1)
    assert abs(empty.unexplained.item()) < 0.3


def test_a_small_defect_shows_in_its_block():
    frame = seen(cells())
    good = agree(frame, cells())
    spoilt = frame.clone()
    spoilt[20:27, 40:47] *= 0.9
    bad = agree(spoilt, cells())
    assert bad.worst_block.item() > good.worst_block.item() + 0.3


def test_absorption_in_proportion_to_the_phase_is_no_failure_of_the_phase():
    phase = cells(1.5)
    frame = seen(phase, 1 - torch.exp(-0.02 * phase))
    kept, fitted = agree(frame, phase), agree(frame, phase, absorbed=True)
    assert fitted.residual.item() == kept.residual.item()
    assert kept.unexplained.item() > 0.1
    assert abs(fitted.unexplained.item()) < 0.05
    # A gain in light is not absorption.
    bright = agree(seen(phase, 1 - torch.exp(0.02 * phase)), phase, absorbed=True)
    assert bright.unexplained.item() > 0.1


@pytest.mark.parametrize("coherence", [0.0, 0.2])
def test_absorption_contrast_is_that_of_the_forward_model(coherence):
    e, phase = experiment(coherence=coherence), cells(0.1)
    exact = (
        predict_frames(phase, 1 - torch.exp(-0.01 * phase), e) - predict_frames(phase, None, e)
    )[0]
    linear = 0.01 * absorption_seen(phase, coherence)
    assert (exact - linear).std() < 0.05 * exact.std()


def test_light_gathers_behind_cells_not_before_them():
    frames = {z: predict_frames(cells(), None, experiment(foci=(z,))) for z in (-4.0, 4.0)}
    assert contrast_skewness(frames[4.0], [4.0], 2.6) > 1
    assert contrast_skewness(frames[-4.0], [4.0], 2.6) < -1
    both = torch.cat([frames[-4.0], frames[4.0]])
    assert contrast_skewness(both, [-4.0, 4.0], 2.6) > 1
    assert math.isnan(contrast_skewness(frames[4.0], [0.0], 2.6))
    assert contrast_skewness(torch.ones(1, SIDE, SIDE), [4.0], 2.6) == 0


def test_counts_that_are_cut_off_are_piled_up_and_those_that_end_are_not():
    rng = np.random.default_rng(0)
    for scale in (3, 300):  # pixels share counts, or hardly do
        frame = (
            (10 * scale + scale / 4 * rng.standard_normal((1, 64, 64))).round().astype(np.uint16)
        )
        assert piled_up(frame) < 0.001
    assert piled_up(clipped(frame, 0.01)) == pytest.approx(0.01, abs=0.002)
    assert piled_up(np.full((2, 8, 8), 7, np.uint16)) == 1


def test_the_alarm_is_its_largest_sign():
    quiet = Signs(0.0, 0.0, 0.0, 1.0)
    assert alarm(quiet) <= 0
    assert alarm(quiet._replace(saturated=0.01)) > 1
    assert alarm(quiet._replace(skewness=-3.0)) > 1
    assert alarm(quiet._replace(unexplained=0.9)) > 1
    assert alarm(quiet._replace(skewness=math.nan, worst_block=0.9)) > 1
    assert math.isnan(alarm(Signs(*[math.nan] * 4)))


KNOWN = Calibration(z_scale=1.0, z_scale_sigma=0.03, z_zero_um=0.0, z_zero_sigma_um=0.2)


def of_tie(foci, calibration):
    e = experiment(foci=foci)
    return scale_uncertainty(Tie(), e, calibration, Tie().measurement(e), "cpu", None)


def test_two_foci_owe_their_scale_to_the_lens_and_nothing_to_its_zero():
    both = of_tie((-4.0, 4.0), KNOWN)
    assert both == pytest.approx(0.03, rel=0.1)
    assert of_tie((-4.0, 4.0), replace(KNOWN, z_zero_sigma_um=None)) == pytest.approx(
        both, rel=0.05
    )


class Contrast(Tie):
    """Takes a frame's contrast for its phase, whatever z it is told."""

    def load(self, experiment, calibration, device, weights):
        return lambda frames, valid: SimpleNamespace(images=20 * (frames - 1))


def test_the_scale_is_as_uncertain_as_the_light_is_not_as_what_the_method_is_told():
    e = experiment()
    found = scale_uncertainty(
        Contrast(), e, replace(KNOWN, z_zero_sigma_um=0.0), Measurement((0,)), "cpu", None
    )
    assert found == pytest.approx(0.03, rel=0.15)


def test_an_uncertainty_that_nobody_measured_is_unknown():
    assert math.isnan(of_tie((-4.0, 4.0), Calibration()))
    assert of_tie((-4.0, 4.0), replace(KNOWN, z_scale_sigma=0.0, z_zero_sigma_um=0.0)) == 0
    e = experiment(foci=(0.0,))
    assert math.isnan(scale_uncertainty(Dpc(), e, KNOWN, Measurement((0,)), "cpu", None))


def test_the_report_says_what_is_known_and_what_is_not():
    nan = np.array([math.nan, math.nan])
    phase = {"residual": np.array([1.0, 3.0]), "unexplained": np.array([0.01, 0.03])}
    told = trust_report(
        {**phase, "alarm": np.array([0.5, 2.0]), "scale_uncertainty": np.array([0.03, 0.03])}
    )
    assert told == {"residual": 2.0, "unexplained": 0.02, "alarms": 1, "scale_uncertainty": 0.03}
    text = "\n".join(trust_lines({**told, "reconstructed": 2}))
    assert "scale ± 3 %" in text
    assert "1 of 2 images want looking at" in text
    blank = trust_report(
        dict.fromkeys(("residual", "unexplained", "alarm", "scale_uncertainty"), nan)
    )
    assert set(blank.values()) == {None}
    assert ("scale of the phase, from the calibrated focus (k = 1)", "not known") in trust_rows(
        {**blank, "reconstructed": 2}
    )


def test_faults_are_of_the_size_that_is_said():
    rng = np.random.default_rng(0)
    frame = np.ones((128, 128), np.float32)
    for spoil in (dusty, scratched):
        for _ in range(5):
            assert 0.005 < float((spoil(frame, rng) < 0.97).mean()) < 0.02
    phase, other = cells().numpy(), cells().numpy()[::-1].copy()
    tampered = with_foreign_detail(phase, other, 4)
    assert np.abs(tampered - phase).max() > 0.02
    assert abs(float((tampered - phase)[:8].max())) < 0.01, "the background stays"


def test_roc_auc_and_what_is_detectable():
    assert roc_auc([1, 2], [3, 4]) == 1
    assert roc_auc([1, 2], [1, 2]) == 0.5
    assert math.isnan(roc_auc([], [1]))
    auc = {-1.0: 1.0, -0.5: 0.96, -0.25: 0.6, 0.5: 0.96, 1.0: 0.7}
    assert detectable(auc, 4.0) == {"less": 2.0, "more": None}
    assert detectable({-1.0: None, 1.0: 0.96}, 4.0) == {"less": None, "more": 4.0}


def test_the_evaluation_runs_the_live_path_and_says_everything(tmp_path):
    torch.manual_seed(0)
    record = NetworkRecord(width=4, levels=1)
    weights = tmp_path / "weights.safetensors"
    save_weights(
        build_network(record),
        WeightsRecord(
            network=record,
            optics=OpticsRecord(
                wavelength_um=0.55,
                numerical_aperture=0.4,
                refractive_index=1,
                pixel_um=2.6,
                z_um=4,
                z_min_um=1,
                z_max_um=13,
                coherence_min=0,
                coherence_max=0.4,
            ),
            training=TrainingRecord(
                seed=0,
                steps=1,
                samples=1,
                fields=1,
                images=1,
                data="none",
                noise=(0.001, 0.02),
                minutes=0,
                validation={},
                livephase="0",
                torch="2",
            ),
        ),
        weights,
    )
    plan = TrustPlan(
        fields=1,
        field_px=48,
        cameras=("10000_electrons",),
        z_errors=(0.5,),
        wavelength_errors=(0.2,),
        z_sigmas=(0.05,),
        draws=1,
    )
    found = evaluate_trust(experiment(side=48), weights, plan=plan)
    assert {"dust", "scratch", "saturation", "flipped_z", "foreign_detail", "wrong_z"} <= set(
        found["residual_auc"]
    )
    assert found["residual_auc"]["saturation"] == 1
    for part in (found, found["focus_comparison"], found["true_phase"]):
        assert set(part["auc_by_z_error"]) == {"-0.5", "+0.5"}
        assert set(part["auc_by_wavelength_error"]) == {"-0.2", "+0.2"}
    assert found["focus_comparison"]["told_z_um"] == 11
    stated = found["scale_coverage"]["0.05"]["stated"]
    # The untrained network is the linear estimate, whose phase goes with 1/z.
    assert stated == pytest.approx(0.05, rel=0.1)
    assert found["trust_conditions"]["fields"] == 1
