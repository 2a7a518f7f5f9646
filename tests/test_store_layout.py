"""Layout and OME-NGFF metadata, read by the readers that others wrote."""

import dask.array
import numpy as np
import ome_zarr.io
import ome_zarr.reader
import pytest
import tensorstore
import yaozarrs
import zarr
from ome_zarr_models import open_ome_zarr
from ome_zarr_models.v05 import BioFormats2Raw, Image
from store_runs import (
    SlotKey,
    all_keys,
    begin,
    frames_of,
    make_experiment,
    reconstruct_slots,
    record_slots,
)

from pipeline.errors import RunFolderError, StoreError
from pipeline.store.frame_table import export_frame_table, trim_time_axis
from pipeline.store.image_writer import write_images
from pipeline.store.layout import (
    array_path,
    chunk_side,
    create_phase,
    create_raw,
    image_path,
    open_layout,
    phase_layout,
    phase_owner,
    set_timepoints,
    slot_period_s,
    timepoints_per_shard,
)
from pipeline.store.raw_writer import RawWriter
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunState

SHAPES = {
    "one position": {},
    "stack": {"foci": (0.0, 1.0, 3.0), "channels": ("left", "right")},
    "positions": {"positions": 2, "channels": ("left", "right")},
    "stacks at positions": {"positions": 2, "foci": (-1.0, 1.0)},
}


@pytest.fixture(params=SHAPES)
def run(request, tmp_path):
    """An experiment and its folder, half way: raw and phase of the first timepoints."""
    experiment = make_experiment(
        timepoints=6, shape=(280, 262), interval_s=2.5, **SHAPES[request.param]
    )
    folder = begin(tmp_path / "run", experiment)
    keys = [key for key in all_keys(experiment) if key.timepoint < 3]
    record_slots(folder, experiment, keys)
    reconstruct_slots(folder, experiment, keys, outputs=("phase", "absorption"))
    return experiment, folder


def stores(folder):
    return (folder.raw_store, folder.phase_store)


def test_validators_accept_both_stores(run):
    experiment, folder = run
    positions = len(experiment.plan().positions)
    for store in stores(folder):
        yaozarrs.validate_zarr_store(store)
        group = zarr.open_group(store, mode="r")
        if positions == 1:
            assert isinstance(open_ome_zarr(group), Image)
        else:
            # open_ome_zarr knows this class of 0.4 only.
            BioFormats2Raw.from_zarr(group)
            assert zarr.open_group(store / "OME", mode="r").attrs["ome"]["series"] == ["0", "1"]
        for p in range(positions):
            image = Image.from_zarr(
                zarr.open_group(image_path(store, experiment.plan(), p), mode="r")
            )
            assert image.ome_attributes.multiscales[0].name == f"well {p}"


def test_axes_units_and_scales_are_right(run):
    experiment, folder = run
    plan = experiment.plan()
    axes = "tczyx" if len(plan.foci_um) > 1 else "tcyx"
    pixel = 0.65
    for store, names, factor in ((folder.raw_store, axes, 1), (folder.phase_store, "tcyx", 2)):
        for p in range(len(plan.positions)):
            path = image_path(store, plan, p)
            node = next(iter(ome_zarr.reader.Reader(ome_zarr.io.parse_url(path))()))
            assert "".join(axis["name"] for axis in node.metadata["axes"]) == names
            units = {axis["name"]: axis.get("unit") for axis in node.metadata["axes"]}
            assert units["t"] == "second"
            assert units["y"] == units["x"] == "micrometer"
            assert units["c"] is None
            for level, transforms in enumerate(node.metadata["coordinateTransformations"]):
                scale = dict(zip(names, transforms[0]["scale"], strict=True))
                start = transforms[1]["translation"] if len(transforms) > 1 else [0.0] * len(names)
                assert scale["t"] == 2.5
                assert scale["y"] == scale["x"] == pytest.approx(pixel / factor * 2**level)
                if "z" in names:
                    assert units["z"] == "micrometer"
                    assert scale["z"] == pytest.approx(1.5 if len(plan.foci_um) == 3 else 2.0)
                    assert start[2] == plan.foci_um[0]
                if factor == 2:
                    # Each level begins at the first camera pixel's upper left corner.
                    corner = start[-1] - scale["x"] / 2
                    assert corner == pytest.approx(-pixel / 2)
            extra = zarr.open_group(path, mode="r").attrs["livephase"]
            assert extra["foci_um"] == list(plan.foci_um)
            assert extra["position"]["x_um"] == 10.0 * p
            omero = zarr.open_group(path, mode="r").attrs["ome"]["omero"]["channels"]
            labels = [c.name for c in plan.channels] if factor == 1 else ["phase", "absorption"]
            assert [channel["label"] for channel in omero] == labels
            assert all({"color", "window"} <= channel.keys() for channel in omero)
            for level in range(len(node.data)):
                array = zarr.open_array(path / str(level), mode="r")
                assert "".join(array.metadata.dimension_names) == names


def test_other_readers_see_the_same_pixels(run):
    experiment, folder = run
    plan = experiment.plan()
    for p in range(len(plan.positions)):
        path = array_path(folder.raw_store, plan, p)
        expected = np.stack([frames_of(plan, SlotKey(t, p)) for t in range(3)])
        by_zarr = zarr.open_array(path, mode="r")[:3]
        by_dask = dask.array.from_zarr(str(path))[:3].compute()
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
        by_tensorstore = tensorstore.open(spec, open=True).result()[:3].read().result()
        for pixels in (by_zarr, by_dask, by_tensorstore):
            np.testing.assert_array_equal(pixels.reshape(expected.shape), expected)
        phase = zarr.open_array(array_path(folder.phase_store, plan, p), mode="r")
        reader = RunReader(folder.path)
        np.testing.assert_array_equal(phase[2], reader.phase(SlotKey(2, p)))
        assert np.isnan(phase[5]).all()
        coarse = zarr.open_array(array_path(folder.phase_store, plan, p, 1), mode="r")
        fine = phase[2].reshape(2, 280, 2, 262, 2)
        np.testing.assert_allclose(coarse[2], fine.mean((2, 4)), rtol=1e-4, atol=1e-6)


def test_the_time_axis_is_trimmed_and_grows_again(run):
    experiment, folder = run
    plan = experiment.plan()
    path = array_path(folder.raw_store, plan, 0)
    assert zarr.open_array(path, mode="r").shape[0] == 6
    assert trim_time_axis(folder) == 3
    for store in stores(folder):
        for level in range(len(open_layout(store, experiment).level_shapes)):
            array = zarr.open_array(array_path(store, plan, 0, level), mode="r")
            assert array.shape[0] == 3
    assert open_layout(folder.raw_store, experiment).shape[0] == 6
    RunReader(folder.path).raw(SlotKey(2, 0))
    record_slots(folder, experiment, [SlotKey(4, 0)])
    assert zarr.open_array(path, mode="r").shape[0] == 6
    RunReader(folder.path).raw(SlotKey(4, 0))


def test_per_frame_arrays_say_what_the_hardware_said(run):
    experiment, folder = run
    folder.update(RunState.STOPPED)
    for _ in range(2):  # the second time over the first
        export_frame_table(folder)
    group = zarr.open_group(folder.frames, mode="r")
    plan = experiment.plan()
    shape = (6, len(plan.positions), len(plan.channels), len(plan.foci_um))
    for _, array in group.arrays():
        assert array.shape == shape
        assert array.metadata.dimension_names == ("t", "p", "c", "z")
    assert group["image_number"][2].ravel()[0] == 2000
    assert np.isnan(group["time_utc"][4]).all()
    assert (group["status"][:3] == 1).all()
    assert (group["reason"][3:] == 6).all()
    assert not list(folder.path.glob(".frames*"))


@pytest.mark.parametrize(
    ("side", "expected"),
    [(2160, 720), (2560, 640), (2048, 1024), (647, 647), (490, 490), (2053, 2053), (2062, 2062)],
)
def test_chunks_divide_the_frame(side, expected):
    assert chunk_side(side) == expected
    assert side % expected == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rate": 8.0}, 8),
        ({"rate": 8.0, "channels": ("a", "b")}, 4),
        ({"rate": 8.0, "positions": 4}, 2),
        ({"rate": 8.0, "positions": 4, "slot_order": "pt"}, 8),
        ({"rate": 8.0, "interval_s": 1.0}, 1),
        ({"rate": 8.0, "interval_s": 0.25}, 4),
        ({"rate": 0.3}, 1),
        ({"rate": 900.0, "timepoints": 30}, 30),
        ({"rate": 100.0, "shape": (2160, 2560), "timepoints": 900}, 24),
    ],
)
def test_shards_hold_a_second(changes, expected):
    experiment = make_experiment(**{"timepoints": 50, **changes})
    period = slot_period_s(experiment)
    assert timepoints_per_shard(experiment.plan(), 1.0, period) == expected


def test_phase_pyramid_and_owners():
    plan = make_experiment(shape=(600, 500), positions=3).plan()
    layout = phase_layout(plan, ("phase",), 2)
    assert layout.level_shapes == ((1200, 1000), (600, 500), (300, 250))
    assert phase_layout(make_experiment(shape=(255, 900)).plan(), ("phase",), 1).level_shapes == (
        (255, 900),
    )
    owners = [phase_owner(plan, key, 2) for key in plan.slot_keys()]
    assert set(owners) == {0, 1}
    assert all(phase_owner(plan, key, 1) == 0 for key in plan.slot_keys())


@pytest.mark.parametrize("pixel_um", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_pixel_sizes_are_refused(tmp_path, pixel_um):
    experiment = make_experiment()
    with pytest.raises(StoreError, match="pixel size"):
        create_raw(tmp_path / "raw.ome.zarr", experiment, pixel_um, 1)
    with pytest.raises(StoreError, match="pixel size"):
        create_phase(tmp_path / "phase.ome.zarr", experiment, ("phase",), 1, pixel_um)
    assert not list(tmp_path.iterdir())


def test_stores_of_another_shape_or_without_metadata_are_refused(tmp_path):
    store = tmp_path / "raw.ome.zarr"
    experiment = make_experiment()
    create_raw(store, experiment, 0.5, 1)
    with pytest.raises(RunFolderError, match=r"holds uint16 \[10, 1, 24, 20\], this experiment"):
        create_raw(store, make_experiment(channels=("a", "b")), 0.5, 1)
    with pytest.raises(RunFolderError, match="holds uint16"):
        create_raw(store, make_experiment(bit_depth=8), 0.5, 1)
    (store / "0" / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match="no readable image"):
        create_raw(store, experiment, 0.5, 1)
    set_timepoints(tmp_path / "absent.ome.zarr", experiment, 3)


def test_a_creation_that_was_cut_short_is_made_again(tmp_path):
    store = tmp_path / "raw.ome.zarr"
    experiment = make_experiment(positions=2)
    create_raw(store, experiment, 0.5, 2)
    (store / "zarr.json").unlink()
    (store / "1" / "zarr.json").unlink()
    assert create_raw(store, experiment, 0.5, 4).timepoints_per_shard == 4
    yaozarrs.validate_zarr_store(store)


def test_truth_images_are_ome_zarr_too(tmp_path):
    experiment = make_experiment(timepoints=2, shape=(140, 150), positions=2)
    rng = np.random.default_rng(0)
    keys = all_keys(experiment)
    images = {key: rng.normal(size=(2, 280, 300)).astype(np.float32) for key in keys}
    store = tmp_path / "truth.ome.zarr"
    write_images(store, experiment, ("phase", "absorption"), 2, images.items())
    yaozarrs.validate_zarr_store(store)
    for key, image in images.items():
        array = zarr.open_array(array_path(store, experiment.plan(), key.position), mode="r")
        np.testing.assert_array_equal(array[key.timepoint], image)


def test_a_run_going_on_opens_in_other_readers(tmp_path):
    experiment = make_experiment(timepoints=4, rate=2.0)
    folder = begin(tmp_path / "run", experiment)
    with folder.lock(), RawWriter(folder, experiment):
        yaozarrs.validate_zarr_store(folder.raw_store)
        assert not zarr.open_array(folder.raw_store / "0", mode="r")[:].any()
        record_keys = all_keys(experiment)[:2]
    record_slots(folder, experiment, record_keys)
    assert zarr.open_array(folder.raw_store / "0", mode="r")[:2].any()
