"""The report's figures where the easy case does not hold: odd grids, empty fields, recorded times."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from store_runs import all_keys, begin, make_experiment, reconstruct_slots, record_slots

from pipeline.calibration import Calibration
from pipeline.lifecycle import truth
from pipeline.lifecycle.report import report_text, write_report
from pipeline.lifecycle.sessions import Session
from pipeline.lifecycle.truth import area_means, quality_against_truth
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunState


@pytest.fixture
def folder(tmp_path):
    experiment = make_experiment(timepoints=2)
    folder = begin(tmp_path / "run", experiment)
    with folder.lock():
        Calibration().save(folder.calibration)
    record_slots(folder, experiment, all_keys(experiment))
    reconstruct_slots(folder, experiment, all_keys(experiment))
    folder.update(RunState.DONE)
    return folder


def with_truth(monkeypatch, image):
    instrument = SimpleNamespace(truth=lambda *key: (image, image))
    monkeypatch.setattr(truth, "SimulatedInstrument", lambda experiment, course=None: instrument)


@pytest.mark.parametrize("shape", [(40, 30), (60, 45), (20, 90), (120, 90), (1, 1), (7, 13)])
def test_area_means_keep_a_ramp_and_the_mean_at_any_ratio(shape):
    y, x = (np.arange(60) + 0.5) / 60, (np.arange(45) + 0.5) / 45
    image = (3 * y[:, None] + 2 * x).astype(np.float32)
    out = area_means(image, shape)
    assert out.shape == shape
    assert out.mean() == pytest.approx(image.mean(), rel=1e-6)
    y, x = (np.arange(shape[0]) + 0.5) / shape[0], (np.arange(shape[1]) + 0.5) / shape[1]
    # Half a pixel of the coarser grid at most, where a pixel of the finer one has no slope of its own.
    np.testing.assert_allclose(out, 3 * y[:, None] + 2 * x, atol=3 / 120 + 2 / 90)


def test_area_means_of_whole_blocks_are_block_means():
    image = np.random.default_rng(0).normal(size=(12, 18)).astype(np.float32)
    blocks = image.reshape(4, 3, 6, 3).mean((1, 3))
    np.testing.assert_allclose(area_means(image, (4, 6)), blocks, atol=1e-6)


@pytest.mark.parametrize("shape", [(36, 30), (72, 60), (96, 80), (48, 40)])
def test_any_two_grids_are_compared(folder, monkeypatch, shape):
    experiment = folder.experiment()
    image = RunReader(folder.path).phase(all_keys(experiment)[0])[0]  # (48, 40)
    with_truth(monkeypatch, 0.9 * area_means(image, shape))
    quality = quality_against_truth(experiment, RunReader(folder.path))
    assert quality["images"] == 2
    assert 0 < quality["ssim"] < 1
    assert quality["psnr_db"] > 0
    assert 0 < quality["rmse_rad"] < 2


@pytest.mark.parametrize(
    ("image", "undefined"),
    [
        (np.zeros((48, 40), np.float32), {"ssim", "psnr_db"}),
        (np.eye(6, dtype=np.float32), {"ssim"}),
    ],
)
def test_a_figure_that_is_not_defined_is_left_out(folder, monkeypatch, image, undefined):
    with_truth(monkeypatch, image)
    report = write_report(folder, folder.experiment())
    stored = json.loads(folder.report_json.read_text())["quality"]
    assert {name for name, value in stored.items() if value is None} == undefined
    assert stored["rmse_rad"] > 0
    assert "SSIM -  " in report_text(folder.path, RunState.DONE, report)
    assert ">-</td>" in folder.report_html.read_text()


@pytest.mark.parametrize(("began", "expected"), [(1.7e9 - 5, 5.3), (None, 2.0)])
def test_the_first_result_is_never_before_the_start(folder, monkeypatch, began, expected):
    """Of frames that bear a recording's times (1.7e9 s) the commit counts."""
    with_truth(monkeypatch, np.zeros((48, 40), np.float32))
    committed = RunReader(folder.path).phase_records.last("time_utc").min()
    session = Session(
        process_start_utc=began or committed - 2.0,
        began_utc=0.0,
        shared_memory={},
        todo_slots=2,
    )
    monkeypatch.setattr("pipeline.lifecycle.report.figures.read_sessions", lambda _: [session])
    found = write_report(folder, folder.experiment())["first_result_s"]
    assert found == pytest.approx(expected, abs=1e-3)
    session.process_start_utc = committed + 60  # the clock was set back
    assert write_report(folder, folder.experiment())["first_result_s"] == 0.0
