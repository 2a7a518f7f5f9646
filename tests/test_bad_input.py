"""Mistakes: one clear sentence with the fix, a non-zero exit, and nothing half-written that looks like a run."""

import os
import shutil
import subprocess

import numpy as np
import pytest
import yaml
from conftest import merged
from live_runs import livephase, write_experiment

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def refused(tmp_path, demo_data, cli):
    """Run an experiment with changes; expect one sentence on stderr and no run."""

    def check(changes, *words, dry_run=True):
        path = tmp_path / "e.yaml"
        path.write_text(yaml.safe_dump(merged(demo_data, changes)), encoding="utf-8")
        out = tmp_path / "run"
        status, text, errors = cli("run", path, "--out", out, *(["--dry-run"] if dry_run else []))
        assert status not in (0, None)
        assert "run done" not in text
        assert errors.startswith("livephase: ")
        assert errors.count("\n") == 1
        assert "Traceback" not in errors
        for word in words:
            assert word in errors
        assert not (out / "run.json").exists()

    return check


SMALL = {"microscope": {"camera": {"shape_px": [64, 64]}}, "sequence": {"timepoints": 2}}


def test_a_misspelt_key(refused):
    refused({"optics": {"numericalaperture": 0.4}}, "numericalaperture", "numerical_aperture")


def test_impossible_optics(refused):
    refused({"optics": {"numerical_aperture": 1.4}}, "1.4", "refractive_index")


def test_a_method_that_does_not_exist(refused):
    refused({"reconstruction": {"method": "dpcc"}}, "dpcc", "dpc")


def test_a_method_whose_frames_the_sequence_does_not_deliver(refused):
    refused(
        merged(
            SMALL, {"reconstruction": {"method": "tie"}, "microscope": {"camera": {"binning": 1}}}
        ),
        "tie",
        "foci",
    )


def test_an_unknown_setting_of_a_method(refused):
    refused({"reconstruction": {"settings": {"presision": "fp32"}}}, "presision")


def test_a_camera_too_coarse_for_the_method(refused):
    refused(
        {"reconstruction": {"method": "tie"}, "sequence": {"foci_um": [-2.0, 2.0]}},
        "2.6",
        "coarser",
        "dl_srqpi",
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, ["not there", "no"]), (b"not safetensors at all", ["weights"]), (b"", ["weights"])],
)
def test_wrong_weights(tmp_path, refused, content, words):
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    refused(
        merged(SMALL, {"reconstruction": {"weights": str(path)}}),
        "w.safetensors",
        dry_run=False,
    )


def test_weights_of_other_optics(refused):
    refused(
        {"optics": {"wavelength_um": 0.65, "numerical_aperture": 0.3}},
        "livephase train",
        dry_run=False,
    )


def test_an_output_that_the_disk_can_not_hold(refused):
    refused({"sequence": {"timepoints": 10_000_000}}, "GB", "fewer timepoints")


def test_too_little_memory_for_the_ring(refused):
    refused({"output": {"ring_gb": 0.0001}}, "ring_gb")


def test_a_replay_source_that_is_not_there(refused):
    refused({"microscope": {"driver": "simulator", "source": "x.npy"}}, "source")


def test_odd_frames_and_every_bit_depth_work(tmp_path, make_experiment):
    for depth, shape in ((8, [61, 47]), (12, [64, 33])):
        path = write_experiment(
            tmp_path / f"{depth}.yaml",
            make_experiment(
                microscope={
                    "camera": {"shape_px": shape, "binning": 1, "bit_depth": depth},
                    "electrons": 400.0 if depth == 8 else 4000.0,
                },
                sequence={"timepoints": 3, "foci_um": [-3.0, 3.0]},
                reconstruction={"method": "tie"},
            ),
        )
        out = tmp_path / f"run{depth}"
        status, _, errors = livephase("run", path, "--out", out)
        assert status == 0, errors
        assert livephase("verify", out)[0] == 0


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX")
def test_a_read_only_folder(tmp_path, demo_data):
    # Root may write everywhere: the command runs as somebody else where this is root.
    parent = tmp_path / "parent"
    parent.mkdir()
    path = tmp_path / "e.yaml"
    path.write_text(yaml.safe_dump(demo_data), encoding="utf-8")
    if os.geteuid() == 0:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", parent], check=True)
    else:
        parent.chmod(0o500)
    try:
        status, _, errors = livephase("run", path, "--out", parent / "run")
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", parent], check=True)
        else:
            parent.chmod(0o700)
    assert status != 0
    assert "read-only" in errors
    assert "Traceback" not in errors


def test_a_folder_that_holds_something_else(tmp_path, demo_data, cli):
    path = tmp_path / "e.yaml"
    path.write_text(yaml.safe_dump(demo_data), encoding="utf-8")
    out = tmp_path / "holiday"
    out.mkdir()
    (out / "photo.jpg").write_bytes(b"x")
    status, _, errors = cli("run", path, "--out", out)
    assert status != 0
    assert "photo.jpg" in errors
    assert [p.name for p in out.iterdir()] == ["photo.jpg"]
    status, _, errors = cli("verify", out)
    assert status != 0
    assert "no run folder" in errors


def test_a_parent_that_is_not_there(tmp_path, demo_data, cli):
    path = tmp_path / "e.yaml"
    path.write_text(yaml.safe_dump(demo_data), encoding="utf-8")
    status, _, errors = cli("run", path, "--out", tmp_path / "a" / "b")
    assert status != 0
    assert "does not exist" in errors


def test_damage_is_found_and_named(tmp_path, make_experiment):
    path = write_experiment(
        tmp_path / "e.yaml",
        make_experiment(
            microscope={"camera": {"shape_px": [64, 64], "binning": 1, "frame_rate_hz": 2}},
            sequence={"timepoints": 3, "foci_um": [-3.0, 3.0]},
            reconstruction={"method": "tie"},
        ),
    )
    run = tmp_path / "run"
    status, _, errors = livephase("run", path, "--out", run)
    assert status == 0, errors
    shards = sorted(p for p in (run / "raw.ome.zarr" / "0").iterdir() if p.name != "zarr.json")
    for damage in ("truncated", "flipped", "gone"):
        copy = tmp_path / damage
        shutil.copytree(run, copy)
        shard = copy / shards[1].relative_to(run)
        content = bytearray(shard.read_bytes())
        if damage == "truncated":
            shard.write_bytes(content[: len(content) // 2])
        elif damage == "flipped":
            content[len(content) // 3] ^= 0x40
            shard.write_bytes(content)
        else:
            shard.unlink()
        status, text, errors = livephase("verify", copy)
        assert status != 0, damage
        assert "mismatch" in text
        assert "timepoint 1" in text
        assert "Traceback" not in errors


def test_nan_in_a_recording(tmp_path, demo_data, cli):
    data = np.ones((2, 1, 64, 64), np.float32)
    data[1, 0, 3, 3] = np.nan
    np.save(tmp_path / "r.npy", data)
    demo_data["microscope"] = {
        "driver": "replay",
        "source": str(tmp_path / "r.npy"),
        "camera": {"shape_px": [64, 64], "pixel_um": 6.5, "binning": 4},
    }
    demo_data["sequence"] = {"timepoints": 2, "foci_um": [4.0]}
    demo_data["calibration"] = {"source": "none"}
    path = tmp_path / "e.yaml"
    path.write_text(yaml.safe_dump(demo_data), encoding="utf-8")
    status, _, errors = livephase("run", path, "--out", tmp_path / "run")
    assert status != 0
    assert "NaN" in errors or "float" in errors
    assert "Traceback" not in errors
