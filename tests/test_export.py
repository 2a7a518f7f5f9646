"""Movies and OME-TIFFs hold what the run holds: each timepoint in its place, gaps as gaps, pixels as stored."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET

import av
import numpy as np
import pytest
import tifffile
from live_runs import livephase
from store_runs import (
    SlotKey,
    all_keys,
    begin,
    frames_of,
    image_of,
    make_experiment,
    reconstruct_slots,
    record_slots,
)

import pipeline
from pipeline.errors import ExperimentError, RunFolderError
from pipeline.export.lettering import palette
from pipeline.export.panels import Panel
from pipeline.export.selection import parse_range, parse_timepoints, select
from pipeline.store.layout import create_phase
from pipeline.store.phase_writer import PhaseWriter
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunState

LOST = SlotKey(2, 0)


def make_run(path, experiment, keys=None, missing=None, outputs=("phase",), state=RunState.DONE):
    folder = begin(path, experiment)
    keys = all_keys(experiment) if keys is None else keys
    record_slots(folder, experiment, keys, missing)
    whole = [key for key in keys if key not in (missing or {})]
    if outputs:
        reconstruct_slots(folder, experiment, whole, outputs=outputs)
    if state is not None:
        folder.update(state)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Five timepoints at two positions; of the third one at the first position a frame is missing."""
    experiment = make_experiment(
        timepoints=5, positions=2, channels=("left", "right"), interval_s=4.0
    )
    path = tmp_path_factory.mktemp("runs") / "run"
    return make_run(path, experiment, missing={LOST: [1]}, outputs=("phase", "absorption"))


def decoded(path):
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def luma(images):
    return images @ np.array([0.2126, 0.7152, 0.0722])


def stored_pixels(movie, shape, head):
    """``[t, y, x]`` brightness of the movie at the centre of every stored pixel."""
    zoom = movie.shape[2] // shape[1]
    at_y = head + np.arange(shape[0]) * zoom + zoom // 2
    at_x = np.arange(shape[1]) * zoom + zoom // 2
    return luma(movie[:, at_y][:, :, at_x])


def head_of(made, picture_height):
    """Rows of the heading: what the pictures and the legend leave."""
    height, width = made["shape"]
    px = int(np.clip(width // 42, 11, 22))
    foot = (2 * round(px * 1.5) + px // 4 + 1) // 2 * 2
    return height - picture_height - foot


def expected_phase(folder, key, low, high):
    share = (RunReader(folder.path).phase(key)[0] - low) / (high - low)
    return luma(palette("magma")[np.round(np.clip(share, 0, 1) * 255).astype(np.uint8)])


def alike(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


@pytest.mark.parametrize("ending", ["mp4", "webm", "gif"])
def test_each_frame_of_a_movie_shows_its_own_timepoint(run, tmp_path, ending):
    out = tmp_path / f"phase.{ending}"
    made = pipeline.export_movie(run.path, out, what="phase", fps=5)
    movie = decoded(out)
    shape = (48, 40)
    assert len(movie) == made["frames"] == 5
    assert list(movie.shape[1:3]) == made["shape"]
    assert all(side % 2 == 0 for side in made["shape"])
    zoom = movie.shape[2] // shape[1]
    seen = stored_pixels(movie, shape, head_of(made, shape[0] * zoom))
    low, high = made["ranges"]["phase"]
    for t in range(5):
        likeness = [alike(seen[t], image) for image in _phases(run, low, high)]
        if t == LOST.timepoint:
            assert max(likeness) < 0.3, "a missing timepoint must not be filled in"
        else:
            there = [k for k in range(5) if k != LOST.timepoint]
            assert there[int(np.argmax(likeness))] == t
            assert max(likeness) > (0.95 if ending == "gif" else 0.97)
            error = np.abs(seen[t] - expected_phase(run, SlotKey(t, 0), low, high))
            assert np.median(error) < 8
    assert made["missing"] == [
        {
            "kind": "phase",
            "why": "1 of its frames missing: dropped by the camera, whose own numbers have a gap here",
            "timepoints": [[2, 2]],
        }
    ]


def _phases(folder, low, high):
    return [expected_phase(folder, SlotKey(t, 0), low, high) for t in (0, 1, 3, 4)]


def test_camera_frames_side_by_side_with_phase(run, tmp_path):
    out = tmp_path / "both.mp4"
    made = pipeline.export_movie(run.path, out, what="both", position="well 1", channel="right")
    movie = decoded(out)
    assert made["channels"] == ["right", "phase"]
    assert made["missing"] == []
    plan = run.experiment().plan()
    zoom = (movie.shape[2] - 4) // 2 // 40  # of a phase pixel
    head = head_of(made, 48 * zoom)
    low, high = made["ranges"]["raw"]
    for t in range(5):
        frame = frames_of(plan, SlotKey(t, 1))[1].astype(float)
        grey = np.clip((frame - low) / (high - low), 0, 1) * 255
        at_y = head + np.arange(24) * 2 * zoom + zoom
        at_x = np.arange(20) * 2 * zoom + zoom
        seen = luma(movie[t][at_y][:, at_x])
        assert np.median(np.abs(seen - grey)) < 6


def test_a_missing_camera_frame_is_no_black_one(run, tmp_path):
    made = pipeline.export_movie(run.path, tmp_path / "raw.mp4", what="raw", channel=1)
    assert [m["timepoints"] for m in made["missing"]] == [[[2, 2]]]
    movie = decoded(tmp_path / "raw.mp4")
    # Words on it.
    assert luma(movie[2][60:-60]).max() > 150
    assert (
        pipeline.export_movie(run.path, tmp_path / "l.mp4", what="raw", channel=0)["missing"] == []
    )


def test_part_of_a_movie_at_a_given_scale(run, tmp_path):
    made = pipeline.export_movie(
        run.path, tmp_path / "part.mp4", timepoints=(1, 4), value_range=(-1.0, 1.0), fps=2.5
    )
    assert made["timepoints"] == [1, 4]
    assert made["ranges"] == {"phase": [-1.0, 1.0]}
    with av.open(str(tmp_path / "part.mp4")) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == 2.5
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert sum(1 for _ in container.decode(video=0)) == 3


def test_large_fields_come_from_the_pyramid(tmp_path):
    experiment = make_experiment(timepoints=1, shape=(300, 260))
    folder = make_run(tmp_path / "large", experiment)
    chosen = select(folder.path, "phase", None, None)
    panel = Panel(chosen, "phase", 0, "phase", "rad", 320)
    assert panel.shape == (300, 260)
    key = SlotKey(0, 0)
    np.testing.assert_array_equal(panel.values(key), chosen.reader.phase(key, level=1)[0])
    assert panel.field_um == pytest.approx(260 * experiment.pixel_um)
    # Frames have no pyramid: means of whole blocks.
    raw = Panel(chosen, "raw", 0, "a", "counts", 150)
    blocks = frames_of(experiment.plan(), key)[0].reshape(150, 2, 130, 2).mean((1, 3))
    np.testing.assert_allclose(raw.values(key), blocks)
    made = pipeline.export_movie(folder.path, tmp_path / "l.mp4", max_px=320)
    assert made["shape"][1] == 520  # enlarged, as 260 is too narrow for words


def test_raw_frames_are_bit_for_bit_in_the_ome_tiff(run, tmp_path):
    out = tmp_path / "raw.ome.tif"
    made = pipeline.export_ome_tiff(run.path, out, what="raw")
    plan = run.experiment().plan()
    with tifffile.TiffFile(out) as file:
        assert file.is_bigtiff
        assert file.is_ome
        assert [s.name for s in file.series] == ["well 0", "well 1"]
        page = file.pages[0]
        assert page.is_tiled
        assert page.compression.name == "ADOBE_DEFLATE"
        for p, series in enumerate(file.series):
            assert series.axes == "TCYX"
            pixels = series.asarray()
            assert pixels.dtype == np.uint16
            for t in range(5):
                expected = frames_of(plan, SlotKey(t, p)).copy()
                if (t, p) == LOST:
                    expected[1] = 0
                np.testing.assert_array_equal(pixels[t], expected)
    assert made["missing"] == {
        "well 0": [
            {
                "why": "dropped by the camera, whose own numbers have a gap here",
                "c": 1,
                "z": 0,
                "t": [[2, 2]],
            }
        ]
    }


def test_what_the_ome_tiff_says(run, tmp_path):
    out = tmp_path / "both.ome.tif"
    pipeline.export_ome_tiff(run.path, out, what="both")
    with tifffile.TiffFile(out) as file:
        text = file.ome_metadata
        series = {s.name: s.asarray() for s in file.series}
    reader = RunReader(run.path)
    for p in range(2):
        for t in range(5):
            phase = series[f"well {p} phase"][t]
            if (t, p) == LOST:
                assert np.isnan(phase).all()
            else:
                np.testing.assert_array_equal(phase, reader.phase(SlotKey(t, p)))
    ns = {"o": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}
    root = ET.fromstring(text)
    images = {i.get("Name"): i for i in root.findall("o:Image", ns)}
    raw = images["well 1 raw"].find("o:Pixels", ns)
    assert float(raw.get("PhysicalSizeX")) == pytest.approx(0.65)
    assert raw.get("PhysicalSizeXUnit") == "µm"
    assert raw.get("SignificantBits") == "12"
    assert float(raw.get("TimeIncrement")) == 4.0
    assert [c.get("Name") for c in raw.findall("o:Channel", ns)] == ["left", "right"]
    assert float(raw.find("o:Channel", ns).get("EmissionWavelength")) == 550
    planes = raw.findall("o:Plane", ns)
    assert [float(p.get("DeltaT")) for p in planes[:4]] == pytest.approx([0, 0.01, 1, 1.01])
    assert float(planes[0].get("PositionX")) == 10.0
    assert float(planes[0].get("ExposureTime")) == 0.001  # seconds
    assert images["well 1 raw"].find("o:AcquisitionDate", ns).text == "2023-11-14T22:13:20.000Z"
    phase = images["well 0 phase"].find("o:Pixels", ns)
    assert [c.get("Name") for c in phase.findall("o:Channel", ns)] == ["phase / rad", "absorption"]
    assert float(phase.get("PhysicalSizeX")) == pytest.approx(0.325)
    times = {p.get("TheT"): p.get("DeltaT") for p in phase.findall("o:Plane", ns)}
    assert {t: time and float(time) for t, time in times.items()} == pytest.approx(
        {"0": 0, "1": 1, "2": None, "3": 3, "4": 4}
    )
    notes = [
        {m.get("K"): m.text for m in a.findall("o:Value/o:M", ns)}
        for a in root.findall("o:StructuredAnnotations/o:MapAnnotation", ns)
    ]
    by_place = {(n["position"], "method" in n): n for n in notes}
    assert json.loads(by_place["well 0", False]["missing"])[0]["t"] == [[2, 2]]
    assert by_place["well 1", True]["missing"] == "[]"
    assert notes[0]["fingerprint"] == run.experiment().fingerprint()


def test_other_readers_take_the_ome_tiff(run, tmp_path):
    ome_types = pytest.importorskip("ome_types")
    skimage_io = pytest.importorskip("skimage.io")
    out = tmp_path / "raw.ome.tif"
    pipeline.export_ome_tiff(run.path, out, what="raw", positions=["well 0"], timepoints=(1, 3))
    ome = ome_types.from_tiff(out)  # strict: every name and every unit is the schema's
    pixels = ome.images[0].pixels
    assert (pixels.size_t, pixels.size_c) == (2, 2)
    times = [plane.delta_t for plane in pixels.planes]
    assert times[:3] == pytest.approx([0, 0.01, 1])
    assert times[3] is None
    expected = np.stack([frames_of(run.experiment().plan(), SlotKey(t, 0)) for t in (1, 2)])
    expected[1, 1] = 0
    np.testing.assert_array_equal(skimage_io.imread(out), expected)


def test_foci_and_eight_bits(tmp_path):
    experiment = make_experiment(
        timepoints=2, foci=(-2.0, 0.0, 2.0), channels=("a", "b"), bit_depth=8, shape=(530, 20)
    )
    folder = make_run(tmp_path / "run", experiment, missing={SlotKey(1, 0): [4]}, outputs=())
    out = tmp_path / "stack.ome.tif"
    made = pipeline.export_ome_tiff(folder.path, out, channels=["b"])
    pixels = tifffile.imread(out)
    assert pixels.dtype == np.uint8
    plan = experiment.plan()
    np.testing.assert_array_equal(pixels[0], frames_of(plan, SlotKey(0, 0))[3:])
    assert not pixels[1, 1].any()
    assert made["missing"]["well 0"][0]["z"] == 1
    with tifffile.TiffFile(out) as file:
        assert 'PhysicalSizeZ="2.0"' in file.ome_metadata
        assert file.series[0].axes == "TZYX"
    # In a movie the frame in focus.
    movie = pipeline.export_movie(folder.path, tmp_path / "m.mp4")
    assert movie["channels"] == ["a, +0 µm"]
    assert movie["missing"] == []


def test_a_run_that_goes_on_is_exported_as_far_as_it_is(tmp_path):
    experiment = make_experiment(timepoints=6)
    keys = all_keys(experiment)
    folder = make_run(tmp_path / "run", experiment, keys[:4], state=None)
    with folder.lock():
        assert folder.state() is RunState.RUNNING
        made = pipeline.export_movie(folder.path, tmp_path / "m.mp4")
        assert made["timepoints"] == [0, 4]
        tiff = pipeline.export_ome_tiff(folder.path, tmp_path / "t.ome.tif")
        assert tiff["images"][0]["shape"][0] == 4
        asked = pipeline.export_movie(folder.path, tmp_path / "all.mp4", timepoints=(0, None))
        assert asked["frames"] == 4
        ahead = pipeline.export_movie(folder.path, tmp_path / "ahead.mp4", timepoints=(0, 6))
        assert ahead["missing"] == [
            {"kind": "phase", "why": "not recorded as yet", "timepoints": [[4, 5]]}
        ]


def test_a_phase_with_holes_is_exported_with_its_holes(tmp_path):
    experiment = make_experiment(timepoints=1)
    folder = begin(tmp_path / "run", experiment)
    record_slots(folder, experiment, all_keys(experiment))
    create_phase(folder.phase_store, experiment, ("phase",), 2, experiment.pixel_um)
    key = SlotKey(0, 0)
    with PhaseWriter(folder, 0, experiment) as writer:
        image = image_of(writer, key)
        image[0, :10] = np.nan
        crc = RunReader(folder.path).raw_records.get(key)["pixels_crc"]
        writer.write(key, image, int(crc), {"residual": 1.0})
    made = pipeline.export_movie(folder.path, tmp_path / "m.mp4")
    seen = decoded(tmp_path / "m.mp4")[0]
    top = head_of(made, 48 * (seen.shape[1] // 40))
    # Neither the darkest nor the brightest colour: a grey-blue that the palette does not have.
    np.testing.assert_allclose(seen[top + 20, 100], (96, 110, 128), atol=12)


def message(raised):
    return str(raised.value)


def test_refusals_say_what_to_do(run, tmp_path):
    with pytest.raises(ExperimentError, match=r"end it with \.mp4 or \.webm or \.gif"):
        pipeline.export_movie(run.path, tmp_path / "m.avi")
    with pytest.raises(ExperimentError, match=r"\.ome\.tif"):
        pipeline.export_ome_tiff(run.path, tmp_path / "m.tif")
    with pytest.raises(RunFolderError, match="does not exist"):
        pipeline.export_movie(run.path, tmp_path / "absent" / "m.mp4")
    with pytest.raises(RunFolderError, match="is no run folder"):
        pipeline.export_movie(tmp_path, tmp_path / "m.mp4")
    with pytest.raises(ExperimentError, match="no position 'well 7': did you mean 'well 1'"):
        pipeline.export_movie(run.path, tmp_path / "m.mp4", position="well 7")
    with pytest.raises(ExperimentError, match="no channel 'lift': did you mean 'left'"):
        pipeline.export_movie(run.path, tmp_path / "m.mp4", what="raw", channel="lift")
    with pytest.raises(ExperimentError, match=r"no timepoints 3:9.*0:5"):
        pipeline.export_movie(run.path, tmp_path / "m.mp4", timepoints=(3, 9))
    there = tmp_path / "there.mp4"
    there.write_text("mine")
    with pytest.raises(RunFolderError, match="--force"):
        pipeline.export_movie(run.path, there)
    assert there.read_text() == "mine"
    pipeline.export_movie(run.path, there, force=True)
    assert len(decoded(there)) == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["there.mp4"]


def test_a_run_without_phase(tmp_path):
    folder = make_run(tmp_path / "run", make_experiment(timepoints=2), outputs=())
    with pytest.raises(RunFolderError, match=r"no phase.*--what raw"):
        pipeline.export_movie(folder.path, tmp_path / "m.mp4", what="phase")
    assert pipeline.export_movie(folder.path, tmp_path / "m.mp4")["what"] == ["raw"]
    empty = begin(tmp_path / "empty", make_experiment())
    with pytest.raises(RunFolderError, match="no stored frame"):
        pipeline.export_ome_tiff(empty.path, tmp_path / "t.ome.tif")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2:5", (2, 5)), (":5", (None, 5)), ("2:", (2, None)), ("3", (3, 4)), (None, None)],
)
def test_timepoints_as_written(text, expected):
    assert parse_timepoints(text) == expected


def test_ranges_as_written():
    assert parse_range("-0.5,2") == (-0.5, 2.0)
    for wrong in ("2,1", "1", "a,b", "1,2,3", "nan,1", "0,inf"):
        with pytest.raises(ExperimentError, match="LOW,HIGH"):
            parse_range(wrong)
    with pytest.raises(ExperimentError, match="A:B"):
        parse_timepoints("x:3")


def test_the_command_names_the_gaps(run, tmp_path):
    code, out, err = livephase(
        "export",
        run.path,
        "--movie",
        tmp_path / "m.mp4",
        "--ome-tiff",
        tmp_path / "t.ome.tif",
        "--json",
    )
    assert code == 0, err
    made = json.loads(out)
    assert made["movie"]["frames"] == 5
    assert made["ome_tiff"]["planes"] == 20
    assert "missing: phase: timepoint 3: 1 of its frames missing: dropped" in err
    assert "missing: well 0: phase, absorption: timepoint 3: 1 of its frames missing" in err
    code, _, err = livephase("export", run.path)
    assert code != 0
    assert "--movie" in err
    assert "Traceback" not in err


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="mounting needs root on Linux"
)
def test_a_full_disk_leaves_nothing(tmp_path):
    experiment = make_experiment(timepoints=60, shape=(96, 96))
    folder = make_run(tmp_path / "run", experiment)
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        with pytest.raises(RunFolderError, match=r"disk is full.*MB are free"):
            pipeline.export_ome_tiff(folder.path, disk / "t.ome.tif")
        with pytest.raises(RunFolderError, match="disk is full"):
            pipeline.export_movie(folder.path, disk / "m.mp4")
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
