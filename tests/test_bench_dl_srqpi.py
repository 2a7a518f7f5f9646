"""`livephase bench dl_srqpi` on tiny untrained networks: what it measures, never how fast it was."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dl_srqpi_weights import write

from pipeline.bench import bench_text, dl_srqpi_gpu
from pipeline.bench.dl_srqpi import DlSrqpiBench, bench_dl_srqpi
from pipeline.bench.dl_srqpi_gpu import GpuBench
from pipeline.errors import MethodError
from pipeline.methods.dl_srqpi import DlSrqpi
from pipeline.methods.dl_srqpi.record import NetworkRecord
from pipeline.methods.weights_file import sha256

PAPER = NetworkRecord(form="paper", width=4, levels=2)
SMALL = DlSrqpiBench(
    field_px=48, fields=1, repeats=3, reference_runs=2, threads=1, baseline=PAPER, forms=(PAPER,)
)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "dl_srqpi_base.safetensors", name="base")
    write(tmp_path / "dl_srqpi_fast.safetensors", name="fast")
    return tmp_path


def test_all_packaged_networks_beside_the_papers(folder, tmp_path):
    threads = torch.get_num_threads()
    result = bench_dl_srqpi(tmp_path, SMALL, folder)
    assert torch.get_num_threads() == threads
    assert json.loads(json.dumps(result)) == result
    assert list(result["networks"]) == ["base", "fast"]
    reference = result["reference"]
    assert reference["name"] == "paper, width 4, 2 levels, plain float32"
    for row in result["networks"].values():
        assert 0 < row["seconds_range"][0] <= row["seconds"] <= row["seconds_range"][1]
        assert row["speedup"] == pytest.approx(reference["seconds"] / row["seconds"], abs=0.006)
        assert row["sha256"] == sha256(folder / row["weights"])
    base, fast = result["networks"].values()
    # The same weights under two names, and the same specimens.
    figures = ("ssim", "ssim_foreground", "frc_cutoff", "psnr_db", "rmse_rad")
    assert all(base[name] == fast[name] for name in figures)
    assert -1 < base["ssim"] < 1
    assert base["rmse_rad"] > 0
    assert set(result["forms"]) == {"paper, width 4, 2 levels"}
    assert result["conditions"]["threads"] == 1
    assert result["conditions"]["precision"] in ("bfloat16", "float32")
    text = bench_text("dl_srqpi", result)
    assert f"| base | residual, width 4 with 1 1 2 blocks | {base['parameters_million']} M" in text
    assert text.count(" | untrained") + text.count("\n| untrained") == 2


def test_a_network_that_is_not_there_is_an_error_with_the_fix(folder, tmp_path):
    (folder / "dl_srqpi_fast.safetensors").unlink()
    with pytest.raises(MethodError, match="none are installed"):
        bench_dl_srqpi(tmp_path, SMALL, folder)


def test_a_disk_that_is_not_there_is_found_before_anything_is_measured(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(DlSrqpiBench, "_times", lambda *_: pytest.fail("measured"))
    with pytest.raises(FileNotFoundError):
        bench_dl_srqpi(tmp_path / "mistyped", SMALL, folder)


def test_without_a_gpu_the_bench_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert GpuBench().measure(None, None, PAPER, tmp_path) == {
        "skipped": "torch finds no CUDA device"
    }


def test_the_rate_of_a_run_is_without_its_start(monkeypatch, tmp_path):
    """Clock and run are stand-ins: five seconds of start, a hundredth of a second a frame."""
    now = 0.0

    def run(experiment, out):
        nonlocal now
        now += 5 + 0.01 * experiment.sequence.timepoints
        out.mkdir()

    monkeypatch.setattr(dl_srqpi_gpu, "run_quietly", run)
    monkeypatch.setattr(dl_srqpi_gpu, "time", SimpleNamespace(perf_counter=lambda: now))
    weights = write(tmp_path / "w.safetensors")
    bench = GpuBench(field_px=32, run_frames=(10, 30))
    assert bench.run_rate(weights, tmp_path / "runs") == {"run_fps": 100.0}
    assert np.load(tmp_path / "runs" / "frames.npy", mmap_mode="r").shape[1:] == (32, 32)
    # What a run wrote, gigabytes, is gone before the next begins.
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["frames.npy"]


def test_a_runs_experiment_fits_the_weights(tmp_path):
    weights = write(tmp_path / "w.safetensors", z_um=6.0)
    asked = GpuBench(field_px=32).experiment(tmp_path / "frames.npy", weights, 5, "cpu")
    assert DlSrqpi().measurement(asked).frames == (0,)
    assert (asked.reconstruction.device, asked.sequence.foci_um) == ("cpu", (6.0,))


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
            ],
        ),
    ],
)
def test_rates_of_the_network_and_of_a_slot(tmp_path, device):
    weights = write(tmp_path / "w.safetensors")
    bench = GpuBench(field_px=32, frames=2)
    experiment = bench.experiment(tmp_path / "frames.npy", weights, 5, device)
    rates = bench.compute_rate(experiment, weights, device) | bench.slot_rate(weights, device)
    assert list(rates) == ["compute_fps", "slot_fps"]
    assert all(rate > 0 for rate in rates.values())
