"""The tables of `livephase evaluate dl_srqpi`: baselines that solve what they claim, figures that are right."""

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dl_srqpi_weights import experiment, record, write
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import ExperimentError, MethodError
from pipeline.evaluation import evaluate, microlens, plan, plots, tie_dct
from pipeline.evaluation.ahead import ahead_of_baselines
from pipeline.evaluation.contenders import BASELINES, Contenders, Tuning, packaged_srcnn
from pipeline.evaluation.dl_srqpi import evaluate_dl_srqpi
from pipeline.evaluation.folder import write_tables
from pipeline.evaluation.markdown import tables_text
from pipeline.evaluation.noise import PAPER_SIGMA
from pipeline.evaluation.plan import NOISE_FREE, NOISES, PAPER, Plan, Row, rows_for
from pipeline.evaluation.scores import FIGURES, mean_scores, score
from pipeline.evaluation.setting import Setting
from pipeline.evaluation.summaries import microlenses_table
from pipeline.evaluation.tie_dct import TieDct
from pipeline.evaluation.trust.plan import CAMERAS, TrustPlan
from pipeline.evaluation.tuning import best
from pipeline.evaluation.workers import executor
from pipeline.methods.dl_srqpi.record import NetworkRecord
from pipeline.quality import (
    align_piston,
    frc_cutoff,
    nyquist_oracle,
    psnr_db,
    rmse_rad,
    ssim,
    ssim_foreground,
)

TINY = Plan(
    name="tiny",
    fields=2,
    field_px=48,
    sweep_fields=1,
    sweep_px=48,
    tuning_fields=1,
    tuning_px=48,
    defocus_um=(1.0, 4.0, 13.0),
    coherences=(0.2,),
    noises=(PAPER, NOISE_FREE),
    lens_um=(10.0, 30.0),
    lens_rad=(0.5,),
    lens_field_px=48,
    isolated_um=(10.0,),
    outside_fields=1,
    trust=TrustPlan(
        fields=1,
        field_px=48,
        cameras=("10000_electrons",),
        z_errors=(0.5,),
        wavelength_errors=(0.2,),
        z_sigmas=(0.05,),
        draws=1,
    ),
)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Of an untrained network, without SRCNN's."""
    torch.set_num_threads(1)
    path = write(tmp_path_factory.mktemp("weights") / "w.safetensors")
    return evaluate_dl_srqpi(experiment(), path, plan=TINY, processes=1)


# Baselines


def waves(n, *terms):
    """Σ a·cos(πjx/L)·cos(πky/L) at so many samples for each of n pixels."""

    def at(fine):
        u = (np.arange(n * fine) + 0.5) / (n * fine) * math.pi
        return sum(a * np.cos(j * u)[:, None] * np.cos(k * u) for a, j, k in terms)

    return at


def frames_of(phase, intensity, z_um=2.0):
    """At -z and +z, I ∓ (z/k)∇·(I∇φ) by finer differences; and the phase. ``[48, 48]`` each."""
    n, pixel_um, optics = 48, 2.6, experiment().optics
    fine = 4
    x = (np.arange(n * fine) + 0.5) * pixel_um / fine
    values, light = phase(fine), intensity(fine)
    flux = [light * np.gradient(values, x, axis=a, edge_order=2) for a in (0, 1)]
    divergence = sum(np.gradient(f, x, axis=a, edge_order=2) for a, f in enumerate(flux))
    change = -z_um * optics.wavelength_um / (2 * math.pi) * divergence
    mean = [v.reshape(n, fine, n, fine).mean((1, 3)) for v in (light, change, values)]
    return mean[0] - mean[1], mean[0] + mean[1], mean[2]


def error(found, truth):
    return rmse_rad(align_piston(found, truth), truth) / truth.std()


def test_cosines_fit_a_phase_that_the_edge_cuts_where_the_fft_bends_it():
    before, behind, truth = frames_of(waves(48, (0.05, 1, 0), (0.03, 1, 2)), waves(48, (1, 0, 0)))
    optics = experiment().optics
    cosines = TieDct((48, 48), 2.6, optics, (-2.0, 2.0), 1e-6)(before, behind)
    assert error(cosines, truth) < 0.01
    row = Row(2.0, 0.0)
    fft = Contenders(experiment(), Path("unused"), None, 1, {}).tie(
        "tie_fft",
        row,
        Tuning(-1.0, 1e-6),
        before.astype(np.float32),
        behind.astype(np.float32),
    )
    assert error(fft, truth) > 10 * error(cosines, truth)


def test_iterating_solves_uneven_intensity(monkeypatch):
    uneven = waves(48, (1, 0, 0), (0.4, 2, 1))
    before, behind, truth = frames_of(waves(48, (0.05, 2, 0), (0.03, 1, 2)), uneven)
    solve = TieDct((48, 48), 2.6, experiment().optics, (-2.0, 2.0), 1e-6)
    assert error(solve(before, behind), truth) < 0.01
    monkeypatch.setattr(tie_dct, "_MOST_ITERATIONS", 1)
    assert error(solve(before, behind), truth) > 0.1


def test_each_row_gets_the_settings_with_the_best_mean():
    row, low, high = Row(4.0, 0.0), Tuning(-1.0, 1e-4), Tuning(0.0, 1e-2)
    fields = [
        {(row, "tie_fft", low): 0.9, (row, "tie_fft", high): 0.7},
        {(row, "tie_fft", low): 0.2, (row, "tie_fft", high): 0.5},
        {},
    ]
    assert best(fields) == {row: {"tie_fft": high}}


def test_srcnn_is_found_by_its_optics(tmp_path):
    rows = [Row(4.0, 0.0)]
    with pytest.raises(MethodError, match="none is installed") as refused:
        packaged_srcnn(experiment(), rows, 4, tmp_path)
    assert "--network srcnn" in refused.value.fix
    assert "--srcnn" in refused.value.fix
    form = NetworkRecord(form="srcnn", width=4)
    write(tmp_path / "dl_srqpi_srcnn_other.safetensors", form, "srcnn", wavelength_um=0.63)
    with pytest.raises(MethodError, match=r"wavelength 0\.55"):
        packaged_srcnn(experiment(), rows, 4, tmp_path)
    ours = write(tmp_path / "dl_srqpi_srcnn_ours.safetensors", form, "srcnn")
    assert packaged_srcnn(experiment(), rows, 4, tmp_path) == ours
    frame = np.ones((16, 16), np.float32)
    contenders = Contenders(experiment(), ours, ours, 4, {})
    assert contenders.network("srcnn", Row(4.0, 0.2), frame).shape == (64, 64)


def test_an_own_srcnn_is_given_on_the_command_line(tmp_path, monkeypatch):
    told = {}

    def tables_of(_experiment, _weights, **options):
        told.update(options)
        raise MethodError("enough", "of this")

    monkeypatch.setattr("pipeline.evaluation.dl_srqpi.evaluate_dl_srqpi", tables_of)
    CliRunner().invoke(app, ["evaluate", "dl_srqpi", "--srcnn", "own.safetensors"])
    assert told["srcnn"] == Path("own.safetensors")


@pytest.mark.parametrize(
    ("network", "optics", "reason"),
    [
        (NetworkRecord(form="srcnn", width=4), {"z_max_um": 8.0}, "defocus 13"),
        (NetworkRecord(form="srcnn", width=4, upsampling=2), {}, "2 times finer"),
        (NetworkRecord(width=4, levels=2), {}, "form residual"),
        (None, {}, "no such file"),
    ],
)
def test_a_srcnn_that_is_none_or_fits_some_rows_only_is_refused_first(
    tmp_path, network, optics, reason
):
    own = write(tmp_path / "own.safetensors")
    other = tmp_path / "other.safetensors"
    if network:
        write(other, network, **optics)
    lines = []
    with pytest.raises(MethodError, match=reason) as refused:
        evaluate_dl_srqpi(
            experiment(), own, srcnn=other, plan=TINY, processes=1, report=lines.append
        )
    assert "--network srcnn" in refused.value.fix
    assert not lines


# Figures


def test_a_score_is_what_quality_says():
    rng = np.random.default_rng(0)
    truth = np.maximum(0, rng.normal(0, 1, (96, 96)).cumsum(0).cumsum(1) / 50)
    image = truth + rng.normal(0, 0.05, truth.shape) + 3
    aligned = align_piston(image, truth)
    assert score(image, truth, 4) == {
        "ssim": ssim(aligned, truth),
        "ssim_foreground": ssim_foreground(aligned, truth),
        "frc_cutoff": frc_cutoff(aligned, truth, 4),
        "psnr_db": psnr_db(aligned, truth),
        "rmse_rad": rmse_rad(aligned, truth),
        "ssim_unaligned": ssim(image, truth),
    }


def test_a_field_without_foreground_does_not_count_in_its_ssim():
    empty = {"ssim": 1.0, "ssim_foreground": math.nan}
    means = mean_scores([empty, {"ssim": 0.0, "ssim_foreground": 0.5}])
    assert means["ssim"] == 0.5
    assert means["ssim_foreground"] == 0.5
    assert mean_scores([empty])["ssim_foreground"] is None


def test_a_baseline_that_is_ahead_is_reported():
    network = {"ssim": 0.9, "rmse_rad": 0.1, "psnr_db": None}
    worse = {"ssim": 0.8, "rmse_rad": 0.2, "psnr_db": 50.0}
    oracle = {"ssim": 0.99, "rmse_rad": 0.01}
    rows = {"1": {**network, "baselines": {"tie_fft": worse, "nyquist_oracle": oracle}}}
    assert ahead_of_baselines({"by_defocus": rows}) == {"ok": True, "compared": 2, "behind": []}
    planted = {**worse, "rmse_rad": 0.05}
    rows["13"] = {**network, "baselines": {"tie_dct": planted}}
    found = ahead_of_baselines({"by_defocus": rows})
    assert not found["ok"]
    assert found["behind"] == [
        {
            "table": "by_defocus",
            "row": "13",
            "figure": "rmse_rad",
            "baseline": "tie_dct",
            "baseline_value": 0.05,
            "network_value": 0.1,
        }
    ]


# Rows


def test_rows_stay_within_what_was_trained():
    usual = rows_for(plan.FULL, record().optics)
    assert [r.z_um for r in usual.by_defocus] == list(range(1, 14))
    assert [r.coherence for r in usual.by_coherence] == [0, 0.1, 0.2, 0.3, 0.4]
    assert usual.headline == Row(4.0, 0.2, PAPER)
    assert [r.noise for r in usual.by_noise] == list(NOISES)
    assert len(set(usual.sweeps)) == len(usual.sweeps) == 13 + 4 + 6
    near = record(z_um=0.8, z_min_um=0.5, z_max_um=0.9, coherence_min=0.3, coherence_max=0.3)
    own = rows_for(plan.FULL, near.optics)
    assert own.headline == Row(0.8, 0.3, PAPER)
    assert all(0.5 <= r.z_um <= 0.9 and r.coherence == 0.3 for r in own.sweeps)
    assert len(own.by_defocus) >= 3


@pytest.mark.parametrize("name", NOISES)
def test_noise_is_what_its_name_says(name):
    noisy = NOISES[name](np.ones((128, 128), np.float32), np.random.default_rng(0))
    electrons = float(name.split("_", maxsplit=1)[0]) if name.endswith("electrons") else None
    expected = {PAPER: PAPER_SIGMA / 4, "0.01_after_binning": 0.01, NOISE_FREE: 0.0}.get(name)
    if electrons:
        expected = math.sqrt(electrons + 1.8**2) / electrons
    assert noisy.std() == pytest.approx(expected, rel=0.03)


def test_the_papers_noise_is_the_same_for_every_upsampling_and_in_trust():
    clean, row = np.ones((64, 64), np.float32), Row(4.0, 0.2, PAPER)
    twice, usual = (replace(setting(), upsampling=s).noisy(clean, row, 4.0, 0) for s in (2, 4))
    np.testing.assert_array_equal(twice, usual)
    camera = CAMERAS[PAPER]
    trust = math.hypot(camera.read_noise_e, math.sqrt(camera.background_e)) / camera.background_e
    assert twice.std() == pytest.approx(trust, rel=0.05)


# Microlenses


def setting():
    return Setting(experiment(), Path("unused"), None, 4, TINY, rows_for(TINY, record().optics), 0)


def test_heights_of_the_truth_are_exact_and_scale():
    made = microlens.lenses(setting(), 20.0, 2.0, 25.0, 4.0)
    assert made.drawn.max() == pytest.approx(2.0, rel=1e-3)
    assert len(np.unique(made.labels)) - 1 >= 9
    scaled = 1.1 * made.truth - 0.7
    assert microlens.heights(made.truth, made.truth, made.labels) == pytest.approx(1.0)
    assert microlens.heights(scaled, made.truth, made.labels) == pytest.approx(1.1)


def test_a_lens_that_stands_alone_has_its_own_square_only():
    made = microlens.lenses(setting(), 10.0, 1.0, 60.0, 4.0)
    square = (10 * microlens.PITCH_DIAMETERS / 0.65) ** 2
    counts = np.unique(made.labels[made.labels > 0], return_counts=True)[1]
    assert counts.size
    assert counts == pytest.approx(square, rel=0.1)


def test_the_noise_of_a_height_is_what_an_inverse_filter_has():
    """Monte Carlo of the same estimator: white noise through 1/H on one square, then the slope."""
    instrument, row, period = experiment(), Row(4.0, 0.0), 26.0
    told = microlens.height_noise(instrument, row, period)
    n = 10  # camera pixels of 2.6 µm
    rng = np.random.default_rng(0)
    fine = ((np.arange(256) + 0.5) / 256 - 0.5) * period
    sag = microlens.sag_um(1.0, 0.55)
    height = microlens.cap(np.hypot(fine[:, None], fine), period / 1.25, sag)
    spectrum = np.fft.fft2(2 * math.pi / 0.55 * 0.5 * height) / 256**2
    f = np.fft.fftfreq(n, 2.6)
    pick = np.rint(f * period).astype(int)
    phase = spectrum[np.ix_(pick, pick)]
    square = f[:, None] ** 2 + f**2
    transfer = 2 * np.sin(math.pi * 0.55 * 4.0 * square)
    transfer *= np.sinc(f * 2.6)[:, None] * np.sinc(f * 2.6)
    kept = (np.abs(transfer) > 0.05 * np.abs(transfer).max()) | (square <= (1.5 / period) ** 2)
    kept[0, 0] = False
    noise = np.fft.fft2(rng.normal(0, 0.0025, (4000, n, n))) / n**2
    slopes = (noise[:, kept] / transfer[kept] * phase[kept].conj()).sum(1).real
    slopes /= (np.abs(phase[kept]) ** 2).sum()
    assert slopes.std() == pytest.approx(told, rel=0.1)


def test_the_largest_period_is_where_noise_reaches_the_tolerance():
    instrument, row = experiment(), Row(4.0, 0.2)
    largest = microlens.largest_period_um(instrument, row)
    assert microlens.height_noise(instrument, row, largest) == pytest.approx(0.03, rel=0.05)
    assert microlens.largest_period_um(instrument, row, 4.0) > 2 * largest


def test_where_noise_drowns_every_lens_no_largest_period_is_stated(tables):
    # Close to focus hardly any contrast is left.
    near = replace(setting(), rows=replace(setting().rows, headline=Row(0.3, 0.2)))
    assert microlens.largest_period_um(near.experiment, near.rows.headline) is None
    lens = {"diameter_um": 10.0, "period_um": 12.5, "peak_rad": 0.5, "relative_error": 0.4}
    lens |= {"spread": 0.1, "noise_of_one_lens": 0.2}
    found = microlenses_table(near, [[lens], [lens], lens])
    assert found["largest_period_um"] is None
    assert found["microlens_height_error"] is None
    assert found["microlens"]["by_peak"]["0.5"] == {"largest_period_um": None, "height_error": None}
    drowned = {**tables.data, **found}
    assert "0.5 rad none, noise is too large at any" in tables_text(drowned)
    labels = [
        [line.get_label() for panel in plots._microlenses(data).axes for line in panel.get_lines()]
        for data in (tables.data, drowned)
    ]
    assert ["largest period, 1 rad" in shown for shown in labels] == [True, False]


# The whole


def test_all_keys_are_there(tables):
    data = tables.data
    assert data.keys() >= {
        *FIGURES,
        *("ssim_by_defocus", "ssim_by_coherence", "by_noise", "baselines"),
        *("microlens_height_error", "largest_period_um", "phase_slope", "phase_slope_spread"),
        *("ahead_of_baselines", "outside", "profiles", "conditions", "seconds"),
        *("residual_auc", "detectable_dz_um", "detectable_dlambda_nm", "scale_coverage"),
    }
    assert data["ssim_by_defocus"].keys() == {"1", "4", "13"}
    assert data["ssim_by_coherence"].keys() == {"0.2"}
    assert data["by_noise"].keys() == {PAPER, NOISE_FREE}
    rows = [data, *data["by_defocus"].values(), *data["by_noise"].values()]
    for row in rows:
        assert row["baselines"].keys() == set(BASELINES)
        assert all(figures.keys() == set(FIGURES) for figures in row["baselines"].values())
        assert all(row["baselines"]["tie_dct"][name] is not None for name in FIGURES)
    assert data["conditions"]["sha256"]
    # Strict JSON: no NaN anywhere.
    json.loads(json.dumps(data, allow_nan=False))


def test_the_oracles_row_is_qualitys(tables):
    members = setting().headline_set
    fields = [setting().field(members, n, TINY.field_px, 4.0) for n in range(TINY.fields)]
    scores = [score(nyquist_oracle(f.truth, 4), f.truth, 4) for f in fields if f]
    row = tables.data["baselines"]["nyquist_oracle"]
    assert row["ssim"] == pytest.approx(np.mean([s["ssim"] for s in scores]), abs=1e-5)
    assert row["frc_cutoff"] == pytest.approx(np.mean([s["frc_cutoff"] for s in scores]))


def test_an_absent_srcnn_is_said(tables):
    if tables.data["srcnn_absent"]:
        assert set(tables.data["baselines"]["srcnn"].values()) == {None}
        assert "SRCNN's row is empty" in tables_text(tables.data)
    else:
        assert tables.data["baselines"]["srcnn"]["ssim"] is not None


def test_an_untrained_network_is_not_ahead(tables):
    ahead = tables.data["ahead_of_baselines"]
    assert not ahead["ok"]
    assert "Not ahead of a baseline in" in tables_text(tables.data)


def test_the_folder_has_tables_and_plots(tables, tmp_path):
    write_tables(tables, tmp_path)
    names = {p.name for p in tmp_path.iterdir()}
    pictures = {
        "by_defocus",
        "by_coherence",
        "by_noise",
        "frc",
        "profiles",
        "microlenses",
        "images",
    }
    assert names == {"tables.json", "tables.md", *(f"{name}.png" for name in pictures)}
    assert json.loads((tmp_path / "tables.json").read_text()) == tables.data
    page = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert all(f"({name}.png)" in page for name in pictures)


def test_a_folder_that_can_not_be_made_is_refused_first(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ExperimentError, match="can't be made"):
        evaluate("dl_srqpi", experiment(), weights=tmp_path / "absent", out=tmp_path / "file" / "x")


def test_weights_of_other_optics_are_refused_before_any_work(tmp_path):
    path = write(tmp_path / "other.safetensors", wavelength_um=0.63)
    lines = []
    with pytest.raises(MethodError, match=r"other\.safetensors don't fit.*wavelength") as refused:
        evaluate_dl_srqpi(experiment(), path, plan=TINY, processes=1, report=lines.append)
    assert "train" in refused.value.fix
    assert not lines


def test_methods_without_anything_to_evaluate_are_refused():
    with pytest.raises(ExperimentError, match="nothing to evaluate") as refused:
        evaluate("tie", experiment())
    assert "dl_srqpi" in refused.value.fix


def test_jobs_run_in_processes_of_their_own():
    ready = []
    with executor(2) as run:
        found = run([(os.getpid, ())], lambda: ready.append(1))
        assert found != [os.getpid()]
        assert len(ready) == 1
        # Ctrl+C ends it without a traceback; and it does not outlive this process.
        watching = "[t.name for t in __import__('threading').enumerate()]"
        handler, threads = run([(signal.getsignal, (signal.SIGINT,)), (eval, (watching,))], bool)
        assert handler in (signal.SIG_DFL, signal.SIG_IGN)
        assert "parent watch" in threads
        with pytest.raises(MethodError, match=r"process .* died"):
            run([(os._exit, (1,))], lambda: ready.append(1))
    assert len(ready) == 1
    with executor(1) as run:
        assert run([(os.getpid, ()), (divmod, (7, 2))], lambda: ready.append(1)) == [
            os.getpid(),
            (3, 1),
        ]
    assert len(ready) == 3
