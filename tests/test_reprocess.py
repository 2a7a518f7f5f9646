"""Reconstruction of recordings: complete run folders, reruns that skip, failures with a name."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError, LivephaseError, RunFolderError
from pipeline.experiment import Experiment, dump_experiment, parse_experiment
from pipeline.frames import FrameKey, FrameStatus, MissingReason, SlotKey, empty_records
from pipeline.reprocess import reconstruct
from pipeline.reprocess.units import split_into_units, unit_timepoints
from pipeline.stages.reconstruction import SlotReconstructor
from pipeline.store.raw_writer import RawWriter
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunFolder, RunState
from pipeline.store.verify import verify

Y = X = 48
SIDES = {"right": 0, "down": 90, "left": 180, "up": 270}


def experiment(
    t=6, positions=1, name="test", shard_s=1.0, compression="lz4", **microscope
) -> Experiment:
    return parse_experiment(
        {
            "name": name,
            "microscope": {
                "driver": "replay",
                "source": "unused",
                "camera": {"shape_px": [Y, X], "pixel_um": 4.0, "bit_depth": 12},
                **microscope,
            },
            "optics": {"wavelength_um": 0.5, "numerical_aperture": 0.25, "magnification": 10},
            "illumination": {
                "source": "led_array",
                "array": {"rows": 9, "columns": 9, "pitch_mm": 4, "distance_mm": 60},
                "patterns": {
                    n: {"kind": "half_circle", "direction_deg": d} for n, d in SIDES.items()
                },
                "channels": {n: {"pattern": n} for n in SIDES},
            },
            "sequence": {
                "timepoints": t,
                "positions": [{"name": f"p{i}"} for i in range(positions)],
            },
            "reconstruction": {"method": "dpc", "device": "cpu"},
            "output": {"shard_s": shard_s, "compression": compression},
        }
    )


def frames(t: int) -> np.ndarray:
    """``[t, c, y, x]`` of a 12-bit camera: something drifts, all frames differ."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:Y, :X]
    cell = np.stack([np.exp(-((y - 24) ** 2 + (x - 15 - i) ** 2) / 40) for i in range(t)])
    tilt = np.array([1.0, 0.5, -1.0, -0.5])[:, None, None] * np.sin(x / 7)
    images = 1000 + 200 * cell[:, None] * (1 + tilt) + rng.normal(0, 5, (t, 4, Y, X))
    return np.rint(images).astype(np.uint16)


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "recording.npy"
    np.save(path, frames(6))
    return path


def record_run(path: Path, exp: Experiment, lost=(), without=(), calibration=None) -> np.ndarray:
    """A run as a live run leaves it, without phase, `lost` frames and the slots in `without`."""
    folder = RunFolder(path)
    plan = exp.plan()
    data = frames(plan.timepoints * len(plan.positions)).reshape(
        plan.timepoints, len(plan.positions), 4, Y, X
    )
    with folder.lock():
        folder.create(exp)
        (calibration or Calibration()).save(folder.calibration)
        with RawWriter(folder, exp) as writer:
            for key in plan.slot_keys():
                if key in without:
                    continue
                records = empty_records(4)
                records["status"] = FrameStatus.WRITTEN
                records["image_number"] = 10 * key.timepoint + np.arange(4)
                records["time_utc"] = 1.7e9 + key.timepoint
                for frame in plan.frame_keys(key):
                    if frame in lost:
                        records[frame.channel]["status"] = FrameStatus.MISSING
                        records[frame.channel]["reason"] = MissingReason.OVERFLOW
                writer.submit([(key, np.ascontiguousarray(data[key]), records)])
            writer.flush()
        folder.update(RunState.DONE)
    return data


def images(run: Path) -> dict[SlotKey, np.ndarray]:
    reader = RunReader(run)
    found = {
        SlotKey(t, p): reader.phase(SlotKey(t, p)) for t, p in np.argwhere(reader.reconstructed())
    }
    reader.close()
    return found


def check_whole(run: Path, exp: Experiment, missing=0, reconstructed=None) -> None:
    report = verify(run)
    assert report.ok, report.mismatches
    assert report.planned == exp.plan().frames == report.written + report.missing
    assert report.missing == missing
    assert len(images(run)) == (exp.plan().slots if reconstructed is None else reconstructed)


def test_a_recording_becomes_a_complete_run_of_what_the_method_makes_of_it(source, tmp_path):
    exp = experiment()
    seen = []
    report = reconstruct(
        source, exp, tmp_path / "run", workers=2, on_progress=lambda *step: seen.append(step)
    )
    assert report["this_time"] == {"read": 6, "reconstructed": 6}
    assert report["written"] == 24
    assert report["missing"] == 0
    assert report["reconstructed"] == 6
    assert report["state"] == "done"
    assert seen[-1] == ("reconstructed", 6, 6)
    check_whole(tmp_path / "run", exp)
    data = np.load(source)
    reader = RunReader(tmp_path / "run")
    core = SlotReconstructor(exp, Calibration())
    for t in range(6):
        pixels, records = reader.raw(SlotKey(t, 0))
        np.testing.assert_array_equal(pixels, data[t])
        expected = core.reconstruct(data[t], records)
        np.testing.assert_allclose(reader.phase(SlotKey(t, 0)), expected.images, atol=1e-6)
        assert reader.phase_records.get(SlotKey(t, 0))["residual"] == pytest.approx(
            expected.quality["residual"], rel=1e-4
        )
    reader.close()


@pytest.fixture
def dask_address():
    """A dask scheduler known by its address only; its workers are threads of this process."""
    from distributed import LocalCluster

    threads = torch.get_num_threads()
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
    )
    with cluster:
        yield cluster.scheduler_address
    torch.set_num_threads(threads)


def test_dask_gives_the_same_and_a_rerun_does_only_what_is_left(source, tmp_path, dask_address):
    exp = experiment(shard_s=0.01)
    run = tmp_path / "run"
    first = reconstruct(source, exp, run, executor="dask", scheduler=dask_address)
    assert first["this_time"] == {"read": 6, "reconstructed": 6}
    check_whole(run, exp)
    before = images(run)
    again = reconstruct(source, exp, run, executor="dask", scheduler=dask_address)
    assert again["this_time"] == {"read": 0, "reconstructed": 0}

    # Two units lose their done-markers.
    for number in (0, 3):
        RunFolder(run).phase_ledger(number).unlink()
    source.unlink()  # what is stored is not read again
    source.touch()
    rest = reconstruct(source, exp, run, executor="dask", scheduler=dask_address)
    assert 0 < rest["this_time"]["reconstructed"] < 6
    assert rest["this_time"]["read"] == 0
    check_whole(run, exp)
    after = images(run)
    assert before.keys() == after.keys()
    assert all((before[key] == after[key]).all() for key in before)


def test_a_run_as_the_source_is_linked_and_its_gaps_stay_gaps(tmp_path, dask_address):
    exp = experiment(t=6, positions=2, name="live")
    lost = {FrameKey(1, 0, 2, 0), FrameKey(4, 1, 0, 0), FrameKey(4, 1, 1, 0)}
    pixel = Calibration(pixel_um=0.41, source="bench")
    data = record_run(tmp_path / "live", exp, lost, calibration=pixel)
    out = tmp_path / "again"
    # The experiment may be another one, as long as it is of these frames.
    other = experiment(t=6, positions=2, name="reprocessed")
    report = reconstruct(tmp_path / "live", other, out, executor="dask", scheduler=dask_address)
    assert report["missing"] == 3
    assert report["missing_by_reason"] == {"overflow": 3}
    check_whole(out, other, missing=3, reconstructed=10)
    assert SlotKey(1, 0) not in images(out)
    assert SlotKey(4, 1) not in images(out)
    reader = RunReader(out)
    pixels, records = reader.raw(SlotKey(3, 1))
    np.testing.assert_array_equal(pixels, data[3, 1])
    assert records["image_number"].tolist() == [30, 31, 32, 33]
    reader.close()
    assert Calibration.load(RunFolder(out).calibration).pixel_um == 0.41
    shards = list((out / "raw.ome.zarr").rglob("c.*"))
    assert shards
    assert all(s.stat().st_nlink == 2 for s in shards)
    # The first timepoints of it alone, of a shard that holds more.
    fewer = experiment(t=2, positions=2)
    reconstruct(tmp_path / "live", fewer, tmp_path / "few", executor="dask", scheduler=dask_address)
    check_whole(tmp_path / "few", fewer, missing=1, reconstructed=3)
    assert next((tmp_path / "few" / "raw.ome.zarr").rglob("c.*")).stat().st_nlink == 3
    # Nothing of the source changed.
    assert verify(tmp_path / "live").ok
    again = reconstruct(tmp_path / "live", other, out, executor="dask", scheduler=dask_address)
    assert again["this_time"] == {"read": 0, "reconstructed": 0}


def test_a_run_that_can_not_be_linked_is_copied_by_key(tmp_path, dask_address):
    exp = experiment(t=6, name="live")
    without = {SlotKey(2, 0)}
    data = record_run(tmp_path / "live", exp, {FrameKey(4, 0, 3, 0)}, without)
    # Other timepoints, other channel order, other compression: by key, not by place.
    other = experiment(t=5, compression="none")
    other = other.model_copy(
        update={
            "sequence": other.sequence.model_copy(
                update={"channels": ("up", "left", "down", "right")}
            )
        }
    )
    out = tmp_path / "again"
    report = reconstruct(tmp_path / "live", other, out, executor="dask", scheduler=dask_address)
    assert report["missing_by_reason"] == {"overflow": 1, "source": 4}
    check_whole(out, other, missing=5, reconstructed=3)
    reader = RunReader(out)
    for t in (0, 1, 3):
        np.testing.assert_array_equal(reader.raw(SlotKey(t, 0))[0], data[t, 0][::-1])
    pixels, records = reader.raw(SlotKey(4, 0))
    assert records["status"].tolist() == [FrameStatus.MISSING] + 3 * [FrameStatus.WRITTEN]
    np.testing.assert_array_equal(pixels[1:], data[4, 0][2::-1])
    assert not pixels[0].any()
    assert records["image_number"][1:].tolist() == [42, 41, 40]
    reader.close()


def test_damage_in_the_source_run_is_not_laundered(tmp_path, dask_address):
    exp = experiment(t=3, compression="none", shard_s=0.01)
    record_run(tmp_path / "live", exp)
    shards = sorted((tmp_path / "live" / "raw.ome.zarr").rglob("c.*"))
    content = bytearray(shards[1].read_bytes())
    content[100] ^= 1
    shards[1].write_bytes(content)
    call = {"executor": "dask", "scheduler": dask_address}
    # Linked: the reconstruction finds it, names it, and does the others.
    with pytest.raises(LivephaseError, match="units failed, the first at position 0") as error:
        reconstruct(tmp_path / "live", exp, tmp_path / "linked", **call)
    assert "timepoint 1, position 0" in str(error.value) or "other pixels" in str(error.value)
    assert {key.timepoint for key in images(tmp_path / "linked")} == {0, 2}
    assert RunFolder(tmp_path / "linked").state() is RunState.FAILED
    # Copied: the copy refuses it.
    other = experiment(t=3, compression="lz4")
    with pytest.raises(LivephaseError, match=r"timepoint 1, position 0 .* is damaged"):
        reconstruct(tmp_path / "live", other, tmp_path / "copied", **call)
    # With the damage repaired, the same command does the rest.
    content[100] ^= 1
    shards[1].write_bytes(content)
    linked = tmp_path / "linked" / shards[1].relative_to(tmp_path / "live")
    assert linked.samefile(shards[1])
    report = reconstruct(tmp_path / "live", exp, tmp_path / "linked", **call)
    assert report["this_time"] == {"read": 0, "reconstructed": 1}
    check_whole(tmp_path / "linked", exp)


SCRIPT = """
import sys
from pathlib import Path
from pipeline.reprocess import reconstruct

if __name__ == "__main__":
    reconstruct(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), workers=int(sys.argv[4]))
"""


def begin(
    tmp_path: Path, source: Path, exp: Experiment, run: Path, workers=2
) -> subprocess.Popen[bytes]:
    script, file = tmp_path / "job.py", tmp_path / "job.yaml"
    script.write_text(SCRIPT)
    file.write_text(dump_experiment(exp), encoding="utf-8")
    return subprocess.Popen([sys.executable, script, source, file, run, str(workers)])


def reconstructed_so_far(run: Path) -> int:
    try:
        with RunReader(run) as reader:
            return int(reader.reconstructed().sum())
    except LivephaseError:
        return 0


def test_killed_half_way_and_run_again_equals_undisturbed(tmp_path, dask_address):
    exp = experiment(t=60)
    source = tmp_path / "recording.npy"
    np.save(source, frames(60))
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    job = begin(tmp_path, source, exp, killed)
    until = time.monotonic() + 60
    while reconstructed_so_far(killed) < 10:
        assert job.poll() is None, "the job ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.005)
    workers = psutil.Process(job.pid).children(recursive=True)
    assert workers
    job.kill()
    job.wait()
    # They end by themselves, without anybody to tell them.
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []
    half = reconstructed_so_far(killed)
    assert 10 <= half < 60
    torch.set_num_threads(1)  # as the killed job's workers, two on however many cores, may have had
    call = {"executor": "dask", "scheduler": dask_address}
    rest = reconstruct(source, exp, killed, **call)
    assert rest["this_time"] == {"read": 0, "reconstructed": 60 - half}
    reconstruct(source, exp, undisturbed, **call)
    check_whole(killed, exp)
    a, b = images(undisturbed), images(killed)
    assert a.keys() == b.keys()
    assert all((a[key] == b[key]).all() for key in a)


def test_killed_while_reading_the_recording(tmp_path, dask_address):
    exp = experiment(t=150, shard_s=0.01)
    source = tmp_path / "recording.npy"
    np.save(source, frames(150))
    run = tmp_path / "run"
    job = begin(tmp_path, source, exp, run)
    until = time.monotonic() + 60
    raw = 0
    while raw < 5:
        assert job.poll() is None
        assert time.monotonic() < until
        time.sleep(0.002)
        try:
            with RunReader(run) as reader:
                raw = int(reader.committed().sum())
        except LivephaseError:
            continue
    job.kill()
    job.wait()
    with RunReader(run) as reader:
        raw = int(reader.committed().sum())
    assert 5 <= raw < 150
    rest = reconstruct(source, exp, run, executor="dask", scheduler=dask_address)
    assert rest["this_time"] == {"read": 150 - raw, "reconstructed": 150}
    check_whole(run, exp)
    data = np.load(source)
    with RunReader(run) as reader:
        for t in range(150):
            np.testing.assert_array_equal(reader.raw(SlotKey(t, 0))[0], data[t])


def test_units_of_a_dead_worker_are_tried_again(tmp_path, monkeypatch):
    from dying_unit import dies_once

    from pipeline.reprocess import executors

    monkeypatch.setattr(executors, "reconstruct_unit", dies_once)
    # Stand-ins for `Unit`: whoever unpickles the real one imports torch.
    units = [SimpleNamespace(number=i, begin=10 * i, end=10 * i + 10) for i in range(4)]
    outcomes = {o.unit.number: o for o in executors.LocalExecutor(2).run(tmp_path, units)}
    assert (tmp_path / "1").exists()
    assert {n: o.slots for n, o in outcomes.items()} == {0: 10, 1: 10, 2: 0, 3: 10}
    assert str(outcomes[2].error) == "no good"
    assert [n for n, o in outcomes.items() if o.error is None] == [n for n in outcomes if n != 2]


def test_refusals_leave_no_folder_behind(source, tmp_path):
    out = tmp_path / "run"
    exp = experiment()
    with pytest.raises(ExperimentError, match=r"\[9, 4, 1, 48, 48\]"):
        reconstruct(source, experiment(t=9), out)
    no_method = exp.reconstruction.model_copy(update={"method": "none"})
    with pytest.raises(ExperimentError, match="no reconstruction method"):
        reconstruct(source, exp.model_copy(update={"reconstruction": no_method}), out)
    with pytest.raises(ExperimentError, match="no reconstruction method 'dcp'"):
        reconstruct(source, exp, out, method="dcp")
    with pytest.raises(ExperimentError, match="two or more"):
        reconstruct(source, exp, out, method="tie")
    assert not RunFolder(out).is_run()


def test_another_run_in_the_folder_is_not_touched(source, tmp_path, dask_address):
    out = tmp_path / "run"
    call = {"executor": "dask", "scheduler": dask_address}
    reconstruct(source, experiment(), out, **call)
    with pytest.raises(RunFolderError, match="holds another run"):
        reconstruct(source, experiment(name="other"), out, **call)
    other = tmp_path / "other.npy"
    np.save(other, frames(6)[::-1])
    with pytest.raises(RunFolderError, match="holds another run"):
        reconstruct(other, experiment(), out, **call)
    with pytest.raises(RunFolderError, match="is the recording itself"):
        reconstruct(out, experiment(), out, **call)
    check_whole(out, experiment())


def test_no_scheduler_is_said(source, tmp_path):
    with pytest.raises(LivephaseError, match="needs the address of a scheduler"):
        reconstruct(source, experiment(), tmp_path / "a", executor="dask")


@pytest.mark.parametrize(
    ("positions", "t", "per_shard", "workers"), [(1, 6, 1, 1), (3, 100, 7, 2), (2, 5, 30, 8)]
)
def test_units_hold_every_slot_once_along_shards(positions, t, per_shard, workers):
    plan = experiment(t=t, positions=positions).plan()
    size = unit_timepoints(plan, per_shard, workers)
    units = split_into_units(plan, size)
    slots = [slot for unit in units for slot in unit.slots()]
    assert sorted(slots) == sorted(plan.slot_keys())
    assert len({unit.number for unit in units}) == len(units)
    assert size < per_shard or all(unit.begin % per_shard == 0 for unit in units)


def test_real_light(tmp_path, dask_address):
    folder = os.environ.get("LIVEPHASE_DATA")
    if not folder or not (Path(folder) / "bloodsmear_blue.mat").is_file():
        pytest.skip("LIVEPHASE_DATA names no folder with bloodsmear_blue.mat")
    exp = experiment(t=2, loop=True)
    exp = parse_experiment(
        exp.model_dump(mode="json")
        | {
            "microscope": {
                "driver": "replay",
                "source": "unused",
                "loop": True,
                "camera": {"shape_px": [128, 128], "pixel_um": 1.845, "bit_depth": 16},
            },
            "optics": {"wavelength_um": 0.475, "numerical_aperture": 0.1, "magnification": 1},
            "illumination": {
                "source": "led_array",
                "array": {
                    "rows": 15,
                    "columns": 15,
                    "pitch_mm": 4,
                    "distance_mm": 90.88,
                    "order": "spiral",
                },
                "patterns": {
                    n: {"kind": "half_circle", "direction_deg": d} for n, d in SIDES.items()
                },
                "channels": {n: {"pattern": n} for n in SIDES},
            },
            "sequence": {"timepoints": 2, "foci_um": [-15.0]},
        }
    )
    run = tmp_path / "run"
    reconstruct("bloodsmear_blue.mat", exp, run, executor="dask", scheduler=dask_address)
    check_whole(run, exp)
    found = images(run)
    first, second = found[SlotKey(0, 0)], found[SlotKey(1, 0)]
    np.testing.assert_array_equal(first, second)
    # Red cells of a stained smear: tenths of a radian around a background at zero.
    assert abs(np.median(first[0])) < 0.05
    assert 0.3 < np.ptp(np.percentile(first[0], [1, 99])) < 2
