"""Readers of recordings: the right frame under the right key, or a refusal with the fix."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.recordings import find_source, open_recording
from drivers.recordings.array_layout import axes_by_shape
from drivers.recordings.matlab_leds import MatlabLedRecording
from pipeline.errors import DriverError, ExperimentError, RunFolderError, StoreError
from pipeline.experiment import Experiment, parse_experiment
from pipeline.frames import (
    FrameKey,
    FrameStatus,
    MissingReason,
    Plan,
    PlannedChannel,
    Position,
    SlotKey,
    empty_records,
)
from pipeline.store.raw_writer import RawWriter
from pipeline.store.run_folder import RunFolder, RunState

Y, X = 6, 8


def experiment(
    source="unused",
    t=3,
    channels=("a", "b"),
    foci=(0.0,),
    positions=1,
    bits=16,
    shape=(Y, X),
    **replay,
) -> Experiment:
    return parse_experiment(
        {
            "microscope": {
                "driver": "replay",
                "source": str(source),
                "camera": {"shape_px": list(shape), "pixel_um": 6.5, "bit_depth": bits},
                **replay,
            },
            "optics": {"wavelength_um": 0.5, "numerical_aperture": 0.3, "magnification": 10},
            "illumination": {"source": "condenser", "channels": {c: {} for c in channels}},
            "sequence": {
                "timepoints": t,
                "foci_um": list(foci),
                "positions": [{"name": str(p)} for p in range(positions)],
            },
        }
    )


def counts(*shape: int, dtype=np.uint16) -> np.ndarray:
    """Frames that are all different, so that a mix-up shows."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 250, shape, dtype=dtype)


def every_frame(recording, plan: Plan) -> np.ndarray:
    """``[p, t, c, z, y, x]``."""
    return np.stack(
        [
            np.stack(
                [[recording.frame(key) for key in sorted(plan.frame_keys(slot))] for slot in slots]
            )
            for slots in (
                [s for s in sorted(plan.slot_keys()) if s.position == p]
                for p in range(len(plan.positions))
            )
        ]
    ).reshape(
        len(plan.positions),
        plan.timepoints,
        len(plan.channels),
        len(plan.foci_um),
        *plan.frame_shape,
    )


def check(source: Path, expected: np.ndarray, exp: Experiment) -> None:
    recording = open_recording(source, exp)
    found = every_frame(recording, exp.plan())
    recording.close()
    assert found.dtype == exp.plan().dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(3, 2, 2, Y, X), (4, 2, 2, Y, X)])
def test_npy_with_all_axes(tmp_path, shape):
    data = counts(*shape)
    np.save(tmp_path / "a.npy", data)
    check(tmp_path / "a.npy", data[None, :3], experiment(foci=(0.0, 1.0)))


def test_npy_without_the_axes_of_length_one(tmp_path):
    path = tmp_path / "a.npy"
    data = counts(3, 2, Y, X)
    np.save(path, data)
    check(path, data[None, :, :, None], experiment())
    check(path, data[None, :, None], experiment(channels=("a",), foci=(0.0, 1.0)))
    np.save(path, data[:, 0])
    check(path, data[None, :, :1, None], experiment(channels=("a",)))
    np.save(path, data[0])
    check(path, data[None, :1, :, None], experiment(t=1))


def test_npy_of_another_plan_is_refused_with_the_shape_that_fits(tmp_path):
    np.save(tmp_path / "a.npy", counts(3, 2, Y, X))
    with pytest.raises(ExperimentError, match=r"\[3, 3, 1, 6, 8\]"):
        open_recording(tmp_path / "a.npy", experiment(channels=("a", "b", "c")))
    # Two timepoints and three channels are not three timepoints and two channels.
    with pytest.raises(ExperimentError, match="don't explain"):
        open_recording(tmp_path / "a.npy", experiment(t=2, channels=("a", "b", "c")))


@given(
    t=st.integers(1, 3),
    c=st.integers(1, 3),
    z=st.integers(1, 3),
    leading=st.lists(st.integers(1, 3), max_size=3),
    loop=st.booleans(),
)
@settings(deadline=None, max_examples=200)
def test_a_shape_is_never_read_with_other_channels_or_foci(t, c, z, leading, loop):
    channels = tuple(PlannedChannel(str(i), 1.0, 1.0) for i in range(c))
    plan = Plan(t, (Position(""),), channels, tuple(float(i) for i in range(z)), (Y, X), 16)
    try:
        axes = axes_by_shape(Path("a.npy"), tuple(leading), plan, loop)
    except ExperimentError:
        return
    lengths = dict(zip(axes, leading, strict=True))
    assert lengths.get("c", 1) == c
    assert lengths.get("z", 1) == z
    assert loop or lengths.get("t", 1) >= t
    assert int(np.prod(leading, dtype=int)) == lengths.get("t", 1) * c * z


def test_loop_repeats_and_no_loop_says_how_many_there_are(tmp_path):
    data = counts(2, 2, Y, X)
    np.save(tmp_path / "a.npy", data)
    check(tmp_path / "a.npy", data[[0, 1, 0, 1, 0]][None, :, :, None], experiment(t=5, loop=True))
    with pytest.raises(ExperimentError, match=r"\[2, 2\]"):
        open_recording(tmp_path / "a.npy", experiment(t=5))


def test_plain_tiff_stack_is_explained_by_the_sequence(tmp_path):
    path = tmp_path / "a.tif"
    data = counts(12, Y, X)
    with tifffile.TiffWriter(path) as file:
        for page in data:
            file.write(page, metadata=None, contiguous=False)
    check(path, data.reshape(1, 3, 2, 2, Y, X), experiment(foci=(0.0, 1.0)))
    with pytest.raises(ExperimentError, match="12 pages"):
        open_recording(path, experiment())


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_ome_tiff_by_its_own_axes_and_names(tmp_path, compression):
    path = tmp_path / "a.ome.tif"
    data = counts(3, 2, 2, Y, X)  # t, z, c
    tifffile.imwrite(
        path,
        data,
        compression=compression,
        metadata={"axes": "TZCYX", "Channel": {"Name": ["b", "a"]}, "PhysicalSizeX": 0.65},
    )
    # The file calls its first channel b: names decide, not the order.
    expected = data.transpose(0, 2, 1, 3, 4)[None, :, ::-1]
    check(path, expected, experiment(foci=(0.0, 1.0)))
    with pytest.raises(ExperimentError, match="no channel 'c': it has b, a"):
        open_recording(path, experiment(channels=("a", "c"), foci=(0.0, 1.0)))


def test_ome_tiff_times(tmp_path):
    path = tmp_path / "a.ome.tif"
    times = [0.0, 500.0, 2000.0]
    tifffile.imwrite(
        path,
        counts(3, Y, X),
        metadata={"axes": "TYX", "Plane": {"DeltaT": times, "DeltaTUnit": ["ms"] * 3}},
    )
    recording = open_recording(path, experiment(channels=("a",)))
    assert [recording.about(FrameKey(t, 0, 0, 0)).time_s for t in range(3)] == [0.0, 0.5, 2.0]
    recording.close()


def test_ome_tiff_of_several_images_has_positions(tmp_path):
    path = tmp_path / "a.ome.tif"
    data = counts(2, 3, 2, Y, X)  # p, t, c
    with tifffile.TiffWriter(path, ome=True) as file:
        for image in data:
            file.write(image, metadata={"axes": "TCYX"})
    check(path, data[:, :, :, None], experiment(positions=2))


def test_imagej_and_shaped_tiff(tmp_path):
    data = counts(3, 2, 2, Y, X)  # t, z, c is ImageJ's order
    tifffile.imwrite(tmp_path / "ij.tif", data, imagej=True, metadata={"axes": "TZCYX"})
    exp = experiment(foci=(0.0, 1.0))
    check(tmp_path / "ij.tif", data.transpose(0, 2, 1, 3, 4)[None], exp)
    tifffile.imwrite(tmp_path / "shaped.tif", data)
    check(tmp_path / "shaped.tif", data[None], exp)
    # The product of the axes alone would explain this plan.
    with pytest.raises(ExperimentError, match="don't explain"):
        open_recording(
            tmp_path / "shaped.tif", experiment(t=2, channels=("a", "b", "c"), foci=(0.0, 1.0))
        )


def test_truncated_tiff(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, counts(3, 2, Y, X))
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(DriverError, match=r"truncated|not a readable"):
        open_recording(path, experiment())
    path.write_bytes(b"no tiff at all")
    with pytest.raises(DriverError, match="not a readable TIFF"):
        open_recording(path, experiment())


def test_truncated_compressed_tiff_names_the_frame(tmp_path):
    path = tmp_path / "a.ome.tif"
    rng = np.random.default_rng(1)
    data = rng.integers(0, 65535, (3, 2, 64, 64), dtype=np.uint16)
    tifffile.imwrite(
        path, data, compression="zlib", metadata={"axes": "TCYX"}, photometric="minisblack"
    )
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        offset = file.series[0].pages[3].dataoffsets[0]
    path.write_bytes(whole[:offset] + b"\0" * 600 + whole[offset + 600 :])
    recording = open_recording(path, experiment(shape=(64, 64)))
    np.testing.assert_array_equal(recording.frame(FrameKey(1, 0, 0, 0)), data[1, 0])
    with pytest.raises(DriverError, match="timepoint 1, position 0, channel 1"):
        recording.frame(FrameKey(1, 0, 1, 0))
    recording.close()


def write_ome_zarr(
    path: Path, data: np.ndarray, axes: str, version: str, labels=(), sharded=False
) -> None:
    fmt = 2 if version == "0.4" else 3
    group = zarr.create_group(path, zarr_format=fmt, overwrite=True)
    chunks = (*(1 for _ in data.shape[:-2]), Y, X // 2)
    shards = (*data.shape[:-2], Y, X) if sharded else None
    array = group.create_array(
        "0", shape=data.shape, dtype=data.dtype, chunks=chunks, shards=shards
    )
    array[:] = data
    kinds = {"t": ("time", "second"), "c": ("channel", None)}
    named = []
    for a in axes:
        kind, unit = kinds.get(a, ("space", "micrometer"))
        named.append({"name": a, "type": kind} | ({"unit": unit} if unit else {}))
    scale = [{"t": 2.0, "c": 1.0}.get(a, 0.65) for a in axes]
    meta = {
        "multiscales": [
            {
                "version": version,
                "axes": named,
                "datasets": [
                    {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
                ],
            }
        ]
    }
    if labels:
        meta["omero"] = {"channels": [{"label": name} for name in labels]}
    group.attrs.update(meta if version == "0.4" else {"ome": {"version": "0.5", **meta}})


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path, version):
    path = tmp_path / "a.ome.zarr"
    data = counts(3, 2, 2, Y, X)
    write_ome_zarr(path, data, "tczyx", version, labels=("b", "a"))
    exp = experiment(foci=(0.0, 1.0))
    check(path, data[None, :, ::-1], exp)
    recording = open_recording(path, exp)
    assert recording.about(FrameKey(2, 0, 0, 0)).time_s == 4.0
    assert recording.recording.pixel_um == 0.65
    assert recording.remarks == []
    recording.close()
    write_ome_zarr(path, data[:, 0, 0], "tyx", version)
    check(path, data[None, :, :1, :1], experiment(channels=("a",)))
    write_ome_zarr(path, data[:, 0], "tzyx", version)
    check(path, data[None, :, :1], experiment(channels=("a",), foci=(0.0, 1.0)))


def test_ome_zarr_collection_has_positions(tmp_path):
    path = tmp_path / "a.ome.zarr"
    data = counts(2, 3, 2, Y, X)
    zarr.create_group(path, zarr_format=3).attrs["ome"] = {
        "version": "0.5",
        "bioformats2raw.layout": 3,
    }
    for p in range(2):
        write_ome_zarr(path / str(p), data[p], "tcyx", "0.5", sharded=True)
    check(path, data[:, :, :, None], experiment(positions=2))
    with pytest.raises(ExperimentError, match="has 2 positions, the experiment asks for 3"):
        open_recording(path, experiment(positions=3))


@pytest.mark.parametrize("sharded", [True, False])
def test_chunks_that_were_never_written_are_missing_frames_not_black_ones(tmp_path, sharded):
    path = tmp_path / "a.ome.zarr"
    data = counts(3, 2, Y, X) + np.uint16(1)
    data[1, 1] = 0
    data[2, 0, :, X // 2 :] = 0  # half a frame: its chunk is not written
    write_ome_zarr(path, data, "tcyx", "0.5", sharded=sharded)
    recording = open_recording(path, experiment())
    found = {(t, c): recording.frame(FrameKey(t, 0, c, 0)) for t in range(3) for c in range(2)}
    assert {k for k, v in found.items() if v is None} == {(1, 1), (2, 0)}
    np.testing.assert_array_equal(found[2, 1], data[2, 1])
    recording.close()


def test_truncated_zarr(tmp_path):
    path = tmp_path / "a.ome.zarr"
    write_ome_zarr(path, counts(3, 2, Y, X), "tcyx", "0.5")
    chunk = path / "0" / "c" / "1" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-7])
    recording = open_recording(path, experiment())
    assert recording.frame(FrameKey(0, 0, 0, 0)) is not None
    with pytest.raises(DriverError, match="timepoint 1, position 0, channel 0"):
        recording.frame(FrameKey(1, 0, 0, 0))
    recording.close()
    (path / "0" / "zarr.json").write_text('{"zarr_format": 3, "node')
    with pytest.raises(DriverError, match="can't be opened"):
        open_recording(path, experiment())
    (path / "zarr.json").write_text('{"zarr_format": 3, "node')
    with pytest.raises(DriverError, match="can't be read"):
        open_recording(path, experiment())


def test_what_is_no_recording(tmp_path, monkeypatch):
    monkeypatch.delenv("LIVEPHASE_DATA", raising=False)
    with pytest.raises(DriverError, match=r"no recording .*absent\.npy: .*LIVEPHASE_DATA"):
        open_recording("absent.npy", experiment())
    monkeypatch.setenv("LIVEPHASE_DATA", str(tmp_path))
    with pytest.raises(DriverError, match=rf"absent\.npy or {tmp_path}"):
        open_recording("absent.npy", experiment())
    np.save(tmp_path / "here.npy", counts(3, 2, Y, X))
    assert find_source("here.npy") == (tmp_path / "here.npy").resolve()
    (tmp_path / "folder").mkdir()
    with pytest.raises(DriverError, match="neither a run nor an OME-Zarr"):
        open_recording(tmp_path / "folder", experiment())
    (tmp_path / "a.czi").touch()
    with pytest.raises(DriverError, match=r"unknown format '\.czi'"):
        open_recording(tmp_path / "a.czi", experiment())
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY\x01\x00garbage")
    with pytest.raises(DriverError, match=r"not a readable \.npy"):
        open_recording(tmp_path / "broken.npy", experiment())
    (tmp_path / "broken.mat").write_bytes(b"not matlab")
    with pytest.raises((DriverError, ExperimentError)):
        open_recording(tmp_path / "broken.mat", led_experiment(tmp_path / "broken.mat"))


def test_another_camera_is_refused_with_the_fix(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, counts(3, 2, 5, 7))
    with pytest.raises(ExperimentError, match=r"set microscope.camera.shape_px: \[5, 7\]"):
        open_recording(path, experiment())
    np.save(path, counts(3, 2, Y, X, dtype=np.uint8))
    with pytest.raises(ExperimentError, match=r"set microscope.camera.bit_depth: 8"):
        open_recording(path, experiment(bits=12))
    check(path, np.load(path)[None, :, :, None], experiment(bits=8))
    np.save(path, np.zeros((3, 2, Y, X), bool))
    with pytest.raises(ExperimentError, match="pixels of type bool"):
        open_recording(path, experiment())


@pytest.mark.parametrize(
    ("dtype", "value", "bits", "problem"),
    [
        (np.uint16, 4096, 12, "4096 counts, a 12-bit camera gives 0 to 4095"),
        (np.int16, -3, 16, "-3 counts"),
        (np.uint32, 70000, 16, "70000 counts"),
        (np.float32, np.nan, 16, "NaN or infinite"),
        (np.float32, np.inf, 16, "NaN or infinite"),
        (np.float64, 0.5, 16, "fractions of counts"),
    ],
)
def test_a_frame_that_no_such_camera_gave_is_named(tmp_path, dtype, value, bits, problem):
    data = counts(3, 2, Y, X).astype(dtype)
    data[1, 1, 2, 3] = value
    np.save(tmp_path / "a.npy", data)
    recording = open_recording(tmp_path / "a.npy", experiment(bits=bits))
    np.testing.assert_array_equal(recording.frame(FrameKey(1, 0, 0, 0)), data[1, 0])
    with pytest.raises(DriverError, match="timepoint 1, position 0, channel 1, focus 0") as error:
        recording.frame(FrameKey(1, 0, 1, 0))
    assert problem in str(error.value)


def test_whole_floats_and_big_endian_counts_come_as_the_plan_has_them(tmp_path):
    data = counts(3, 2, Y, X)
    for dtype in ("<f4", ">u2", "<i4"):
        np.save(tmp_path / "a.npy", data.astype(dtype))
        check(tmp_path / "a.npy", data[None, :, :, None], experiment())


def led_experiment(
    source, bits=16, wavelength_um=0.475, exposures=(10, 10), leds=15, **sequence
) -> Experiment:
    halves = {"right": 0, "left": 180}
    return parse_experiment(
        {
            "microscope": {
                "driver": "replay",
                "source": str(source),
                "loop": True,
                "camera": {"shape_px": [128, 128], "pixel_um": 1.845, "bit_depth": bits},
            },
            "optics": {
                "wavelength_um": wavelength_um,
                "numerical_aperture": 0.1,
                "magnification": 1,
            },
            "illumination": {
                "source": "led_array",
                "array": {
                    "rows": leds,
                    "columns": leds,
                    "pitch_mm": 4,
                    "distance_mm": 90.88,
                    "order": "spiral",
                },
                "patterns": {
                    n: {"kind": "half_circle", "direction_deg": d} for n, d in halves.items()
                },
                "channels": {
                    n: {"pattern": n, "exposure_ms": e}
                    for n, e in zip(halves, exposures, strict=True)
                },
            },
            "sequence": {"timepoints": 3, **sequence},
        }
    )


@pytest.fixture
def blue() -> Path:
    folder = os.environ.get("LIVEPHASE_DATA")
    path = Path(folder or "") / "bloodsmear_blue.mat"
    if not folder or not path.is_file():
        pytest.skip("LIVEPHASE_DATA names no folder with bloodsmear_blue.mat")
    return path


def test_real_leds_are_summed_by_pattern_and_the_scale_is_reversible(blue, monkeypatch):
    from scipy.io import loadmat

    exp = led_experiment("bloodsmear_blue.mat", exposures=(10, 5))
    recording = open_recording("bloodsmear_blue.mat", exp)
    images = loadmat(blue)["imlow_HDR"].astype(np.float64)
    assert isinstance(recording.recording, MatlabLedRecording)
    scale = recording.recording.counts_per_unit
    brightest = 0
    for c, (name, weight) in enumerate((("right", 1.0), ("left", 0.5))):
        leds = exp.illumination.leds(name, 0.1)
        assert len(leds) > 1
        frame = recording.frame(FrameKey(0, 0, c, 0))
        intensity = (frame.astype(np.float64) - 100) / (scale * weight)
        np.testing.assert_allclose(
            intensity, images[..., leds].sum(-1), atol=0.51 / (scale * weight)
        )
        # A static set is the same at every timepoint.
        np.testing.assert_array_equal(recording.frame(FrameKey(2, 0, c, 0)), frame)
        brightest = max(brightest, int(frame.max()))
    assert brightest == round(0.9 * 65535)
    with pytest.raises(ExperimentError, match=r"set optics.wavelength_um: 0.475"):
        open_recording(blue, led_experiment(blue, wavelength_um=0.63))
    with pytest.raises(ExperimentError, match=r"imlow_HDR \[128, 128, 225\]"):
        open_recording(blue, led_experiment(blue, leds=9))
    with pytest.raises(ExperimentError, match="led_array"):
        open_recording(blue, experiment(shape=(128, 128)))


def write_led_set(path: Path, images: np.ndarray) -> None:
    from scipy.io import savemat

    savemat(path, {"imlow": images, "wlength": 0.475e-6})


def test_a_set_of_led_images_with_nan_names_the_led(tmp_path):
    path = tmp_path / "set.mat"
    images = np.ones((128, 128, 225), np.float32)
    images[3, 4, 17] = np.nan
    write_led_set(path, images)
    with pytest.raises(DriverError, match="image of LED 17 has NaN"):
        open_recording(path, led_experiment(path))


def test_a_static_set_without_loop_has_one_timepoint(tmp_path):
    path = tmp_path / "set.mat"
    write_led_set(path, np.ones((128, 128, 225), np.float32))
    exp = led_experiment(path)
    exp = exp.model_copy(update={"microscope": exp.microscope.model_copy(update={"loop": False})})
    with pytest.raises(ExperimentError, match="has only 1 timepoint, the experiment asks for 3"):
        open_recording(path, exp)


def test_zarr_writers_agree(tmp_path):
    """A set written by tensorstore rather than zarr-python reads the same."""
    path = tmp_path / "a.ome.zarr"
    data = counts(3, 2, Y, X)
    write_ome_zarr(path, np.zeros_like(data), "tcyx", "0.5")
    store = ts.open(
        {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path / "0")}}
    ).result()
    store.write(data).result()
    check(path, data[None, :, :, None], experiment())


def write_run(path: Path, exp: Experiment, lost: FrameKey, close: bool = True) -> np.ndarray:
    """A run folder as a live run leaves it; its last planned timepoint was never taken."""
    folder, plan = RunFolder(path), exp.plan()
    data = counts(plan.timepoints - 1, *plan.slot_shape)
    with folder.lock():
        folder.create(exp)
        with RawWriter(folder, exp) as writer:
            for t, frames in enumerate(data):
                records = empty_records(plan.frames_per_slot)
                records["status"] = FrameStatus.WRITTEN
                records["image_number"] = 100 * t + np.arange(plan.frames_per_slot)
                records["time_utc"] = 1.7e9 + 2 * t
                records["led"] = np.arange(plan.frames_per_slot) // len(plan.foci_um)
                if t == lost.timepoint:
                    records[plan.index(lost)]["status"] = FrameStatus.MISSING
                    records[plan.index(lost)]["reason"] = MissingReason.DROPPED
                writer.submit([(SlotKey(t, 0), frames, records)])
            writer.flush()
        if close:
            folder.update(RunState.STOPPED)
        else:
            with pytest.raises(RunFolderError, match="still going on"):
                open_recording(path, exp)
    return data


def test_run_folder_by_key_with_its_gaps_and_labels(tmp_path):
    exp = experiment(t=4, foci=(0.0, 2.0, 4.0))
    lost = FrameKey(1, 0, 1, 2)
    data = write_run(tmp_path / "run", exp, lost)
    # Two of the foci, the channels the other way round; the raw store's own path is understood.
    asked = experiment(t=3, foci=(4.0, 0.0), channels=("b", "a"))
    for path in (tmp_path / "run", tmp_path / "run" / "raw.ome.zarr"):
        recording = open_recording(path, asked)
        for key in (
            key for slot in asked.plan().slot_keys() for key in asked.plan().frame_keys(slot)
        ):
            channel, focus = 1 - key.channel, (2, 0)[key.focus]
            pixels, about = recording.frame(key), recording.about(key)
            if (key.timepoint, channel, focus) == (1, 1, 2):
                assert pixels is None
                assert about.reason == MissingReason.DROPPED
                continue
            k = 3 * channel + focus
            np.testing.assert_array_equal(pixels, data[key.timepoint, k])
            assert about.image_number == 100 * key.timepoint + k
            assert about.time_utc == about.time_s == 1.7e9 + 2 * key.timepoint
            assert about.led == key.channel
        recording.close()
    with pytest.raises(ExperimentError, match="has 3 timepoints, the experiment asks for 4"):
        open_recording(tmp_path / "run", exp)
    with pytest.raises(ExperimentError, match="no focus 3 µm: it has 0, 2, 4"):
        open_recording(tmp_path / "run", experiment(foci=(3.0,)))
    with pytest.raises(ExperimentError, match="no channel 'c'"):
        open_recording(tmp_path / "run", experiment(channels=("c", "a"), foci=(0.0,)))


def test_a_run_that_is_going_on_is_not_a_recording_yet(tmp_path):
    exp = experiment()
    write_run(tmp_path / "run", exp, FrameKey(0, 0, 0, 0), close=False)
    # Its process is gone: what it has is what there is.
    recording = open_recording(tmp_path / "run", experiment(t=2))
    assert recording.frame(FrameKey(0, 0, 0, 0)) is None
    assert recording.frame(FrameKey(0, 0, 1, 0)) is not None
    recording.close()


def test_damage_in_a_run_is_named(tmp_path):
    exp = experiment()
    exp = exp.model_copy(
        update={"output": exp.output.model_copy(update={"compression": "none", "shard_s": 0.01})}
    )
    write_run(tmp_path / "run", exp, FrameKey(0, 0, 0, 0))
    shard = sorted((tmp_path / "run" / "raw.ome.zarr").rglob("c.*"))[1]
    content = bytearray(shard.read_bytes())
    content[5] ^= 1
    shard.write_bytes(content)
    recording = open_recording(tmp_path / "run", experiment(t=2))
    assert recording.frame(FrameKey(0, 0, 1, 0)) is not None
    with pytest.raises(StoreError, match=r"timepoint 1, position 0 .* is damaged"):
        recording.frame(FrameKey(1, 0, 0, 0))
    recording.close()
