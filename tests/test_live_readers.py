"""Other people's readers open a run's images, also while it is going on."""

import warnings

import dask.array
import numpy as np
import ome_zarr_models
import pytest
import tensorstore as ts
import yaozarrs
import zarr
from live_runs import LiveRun, write_experiment
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from pipeline.store.reader import RunReader, slots_where

pytestmark = pytest.mark.timeout(300)


def test_raw_and_phase_open_everywhere_while_the_run_goes_on(tmp_path, make_experiment):
    experiment = make_experiment(
        microscope={
            "camera": {"shape_px": [96, 64], "binning": 1, "frame_rate_hz": 40},
            "specimen": {"kind": "target", "shape": "beads"},
        },
        sequence={"timepoints": 600, "foci_um": [-3.0, 3.0]},
        reconstruction={"method": "tie"},
    )
    out = tmp_path / "run"
    with LiveRun(write_experiment(tmp_path / "e.yaml", experiment), out) as run:
        run.wait_for(lambda: run.committed() > 5 and RunReader(out).reconstructed().any())
        reader = RunReader(out)
        key = slots_where(reader.reconstructed())[-1]
        raw = reader.raw(key)[0].reshape(1, 2, 96, 64)
        phase = reader.phase(key)
        for name, axes, pixels in (("raw", "tczyx", raw), ("phase", "tcyx", phase)):
            store = out / f"{name}.ome.zarr"
            check_with_validators(store)
            check_pixels(store, axes, key.timepoint, pixels)
            check_with_ome_zarr_py(store, axes, key.timepoint, pixels)
        assert not run.over
        run.signal()
        assert run.wait() == 0


def check_with_validators(store):
    ome_zarr_models.open_ome_zarr(zarr.open_group(store, mode="r"))
    yaozarrs.validate_zarr_store(str(store))


def check_pixels(store, axes, timepoint, pixels):
    array = zarr.open_group(store, mode="r")["0"]
    assert array.metadata.dimension_names == tuple(axes)
    np.testing.assert_array_equal(array[timepoint], pixels)
    lazy = dask.array.from_zarr(array)
    np.testing.assert_array_equal(lazy[timepoint].compute(), pixels)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(store / "0")}}
    np.testing.assert_array_equal(ts.open(spec).result()[timepoint].read().result(), pixels)


def check_with_ome_zarr_py(store, axes, timepoint, pixels):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own and its dependencies' deprecations are not ours
        node = next(iter(Reader(parse_url(str(store)))()))
    assert [axis["name"] for axis in node.metadata["axes"]] == list(axes)
    assert {a["unit"] for a in node.metadata["axes"] if a["type"] == "space"} == {"micrometer"}
    scale = node.metadata["coordinateTransformations"][0][0]["scale"]
    assert scale[-2:] == [0.65, 0.65]
    if "z" in axes:
        assert scale[2] == 6.0
    np.testing.assert_array_equal(np.asarray(node.data[0][timepoint]), pixels)
