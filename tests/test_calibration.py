"""The calibration object: kept whole on disk, checked against the camera, honest about its gaps."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.calibration import Calibration, LedOrientation
from pipeline.errors import ExperimentError, RunFolderError


def full():
    rng = np.random.default_rng(1)
    return Calibration(
        dark={"a": rng.random((4, 6), np.float32), "b": np.float32(100) * np.ones((), np.float32)},
        flat={"a": 1 + rng.random((4, 6), np.float32)},
        exposure_ms={"a": 10.0},
        gain_e_per_count=2.1,
        read_noise_e=1.8,
        saturation_counts=4095,
        bad_pixels=rng.random((4, 6)) < 0.2,
        pixel_um=0.65,
        led_orientation=LedOrientation(flip_x=True, rotation_deg=91.0),
        z_scale=1.02,
        z_scale_sigma=0.01,
        source="a test",
    )


def test_saved_and_loaded_it_is_the_same(tmp_path):
    saved = full()
    saved.save(tmp_path / "calibration")
    loaded = Calibration.load(tmp_path / "calibration")
    for name in ("dark", "flat"):
        assert getattr(loaded, name).keys() == getattr(saved, name).keys()
        for channel, array in getattr(saved, name).items():
            np.testing.assert_array_equal(getattr(loaded, name)[channel], array)
    np.testing.assert_array_equal(loaded.bad_pixels, saved.bad_pixels)
    for name in (
        "gain_e_per_count",
        "pixel_um",
        "led_orientation",
        "z_scale",
        "z_scale_sigma",
        "source",
    ):
        assert getattr(loaded, name) == getattr(saved, name)


def test_it_says_what_is_not_calibrated():
    assert full().missing() == []
    assert set(Calibration(gain_e_per_count=2.0).missing()) == {
        "dark",
        "flat",
        "pixel size",
        "LED orientation",
        "z scale",
    }


@pytest.mark.parametrize(
    ("calibration", "words"),
    [
        (Calibration(dark={"a": np.zeros((3, 6), np.float32)}), r"dark of a.*\(3, 6\).*\(4, 6\)"),
        (Calibration(flat={"a": np.full((4, 6), np.nan, np.float32)}), "flat of a.*NaN"),
        (Calibration(pixel_um=0.0), "pixel size"),
        (Calibration(gain_e_per_count=-1.0), "gain"),
    ],
)
def test_what_does_not_fit_the_camera_is_refused(calibration, words):
    with pytest.raises(ExperimentError, match=words):
        calibration.check(["a"], (4, 6))


def test_a_folder_without_a_calibration(tmp_path):
    with pytest.raises(ExperimentError, match="no readable calibration"):
        Calibration.load(tmp_path)


def test_the_eight_orientations_differ_and_keep_lengths():
    seen = set()
    for flip in (False, True):
        for turn in (0, 90, 180, 270):
            m = LedOrientation(flip_x=flip, rotation_deg=turn).matrix()
            np.testing.assert_allclose(m @ m.T, np.eye(2), atol=1e-12)
            seen.add(tuple(m.round().astype(int).ravel()))
    assert len(seen) == 8


def test_a_folder_that_can_not_be_written_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunFolderError, match=r"calibration can't be written to .*file") as caught:
        full().save(tmp_path / "file")
    assert "may write to" in caught.value.fix


def test_saving_is_durable_and_a_failure_leaves_the_old_one(tmp_path, monkeypatch):
    folder = tmp_path / "calibration"
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(fd), fsync(fd)))
    full().save(folder)
    assert len(synced) >= 2  # both files; directories too where the system can

    def full_disk(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full_disk)
        with pytest.raises(RunFolderError, match="No space left"):
            replace(full(), z_scale=2.0).save(folder)
    assert Calibration.load(folder).z_scale == full().z_scale
    assert sorted(p.name for p in folder.iterdir()) == ["calibration.json", "calibration.npz"]
