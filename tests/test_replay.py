"""The replay driver: every recorded frame under its key, at its pace; what is missing is said."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from drivers.driver import Arrived, Lost
from drivers.replay import ReplayDriver
from pipeline.errors import DriverError, ExperimentError
from pipeline.experiment import Experiment, parse_experiment
from pipeline.frames import FrameKey, MissingReason, SlotKey

Y, X = 6, 8


def experiment(
    source: Path, pace="fast", t=3, c=2, foci=(0.0,), loop=False, shape=(Y, X), **more
) -> Experiment:
    sequence = {"timepoints": t, "foci_um": list(foci), **more}
    return parse_experiment(
        {
            "microscope": {
                "driver": "replay",
                "source": str(source),
                "pace": pace,
                "loop": loop,
                "camera": {"shape_px": list(shape), "pixel_um": 6.5, "bit_depth": 16},
            },
            "optics": {"wavelength_um": 0.5, "numerical_aperture": 0.3, "magnification": 10},
            "illumination": {
                "source": "condenser",
                "channels": {f"c{i}": {"exposure_ms": 10} for i in range(c)},
            },
            "sequence": sequence,
        }
    )


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "a.npy"
    np.save(path, np.random.default_rng(0).integers(0, 60000, (3, 2, Y, X), dtype=np.uint16))
    return path


class Slots:
    """Where a caller keeps frames: the destination of `next_frame`."""

    def __init__(self, exp: Experiment) -> None:
        self.plan = exp.plan()
        self.memory = {
            s: np.zeros(self.plan.slot_shape, self.plan.dtype) for s in self.plan.slot_keys()
        }

    def __call__(self, key: FrameKey) -> np.ndarray:
        return self.memory[key.slot][self.plan.index(key)]


def replay(driver: ReplayDriver, destination, slots) -> list[Arrived | Lost]:
    driver.arm(slots)
    out = []
    while (event := driver.next_frame(destination)) is not None:
        out.append(event)
    return out


def test_every_frame_in_place_under_its_key_in_the_order_of_exposure(source):
    exp = experiment(source)
    slots = Slots(exp)
    driver = ReplayDriver(exp)
    info = driver.open()
    assert info.frame_shape == (Y, X)
    assert info.bit_depth == 16
    keys = list(exp.plan().slot_keys())
    events = replay(driver, slots, keys[:2]) + replay(driver, slots, keys[2:])
    driver.close()
    assert [e.key for e in events] == [k for s in keys for k in exp.plan().frame_keys(s)]
    data = np.load(source)
    for t in range(3):
        np.testing.assert_array_equal(slots.memory[SlotKey(t, 0)], data[t])
    assert all(e.image_number == -1 and e.focus_um == 0.0 for e in events)
    assert all(abs(e.time_utc - time.time()) < 60 for e in events)


def test_frame_order_zc_and_position_order_pt(tmp_path):
    import zarr

    path = tmp_path / "a.ome.zarr"
    data = np.random.default_rng(0).integers(0, 60000, (2, 2, 2, 2, Y, X), dtype=np.uint16)
    collection = {"version": "0.5", "bioformats2raw.layout": 3}
    zarr.create_group(path, zarr_format=3).attrs["ome"] = collection
    for p in range(2):
        group = zarr.create_group(path / str(p), zarr_format=3)
        group.create_array("0", data=data[p], chunks=(1, 1, 1, Y, X))
        axes = [{"name": a} for a in "tczyx"]
        group.attrs["ome"] = {
            "version": "0.5",
            "multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}],
        }
    exp = experiment(
        path,
        t=2,
        foci=(0.0, 2.0),
        positions=[{"name": "0"}, {"name": "1"}],
        slot_order="pt",
        frame_order="zc",
    )
    slots = Slots(exp)
    driver = ReplayDriver(exp)
    driver.open()
    keys = list(exp.plan().slot_keys())
    events = replay(driver, slots, keys)
    driver.close()
    assert [e.key for e in events] == [k for s in keys for k in exp.plan().frame_keys(s)]
    assert [(e.key.channel, e.focus_um) for e in events[:4]] == [
        (0, 0.0),
        (1, 0.0),
        (0, 2.0),
        (1, 2.0),
    ]
    for t in range(2):
        for p in range(2):
            np.testing.assert_array_equal(slots.memory[SlotKey(t, p)], data[p, t].reshape(4, Y, X))


def test_frames_that_the_source_lacks_are_lost_with_the_reason(tmp_path):
    import zarr

    path = tmp_path / "a.ome.zarr"
    data = np.full((3, 2, Y, X), 7, np.uint16)
    data[1] = 0  # never written: zarr leaves chunks of zeros out
    data[2, 0] = 0
    group = zarr.create_group(path, zarr_format=3)
    group.create_array("0", data=data, chunks=(1, 1, Y, X))
    axes = [{"name": a} for a in "tcyx"]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}],
    }
    exp = experiment(path)
    driver = ReplayDriver(exp)
    driver.open()
    events = replay(driver, Slots(exp), list(exp.plan().slot_keys()))
    driver.close()
    lost = [k for e in events if isinstance(e, Lost) for k in e.keys]
    assert lost == [FrameKey(1, 0, 0, 0), FrameKey(1, 0, 1, 0), FrameKey(2, 0, 0, 0)]
    assert {e.reason for e in events if isinstance(e, Lost)} == {MissingReason.SOURCE}
    assert [e.key for e in events if isinstance(e, Arrived)] == [
        FrameKey(0, 0, 0, 0),
        FrameKey(0, 0, 1, 0),
        FrameKey(2, 0, 1, 0),
    ]


def timed(driver: ReplayDriver, exp: Experiment) -> np.ndarray:
    """Seconds of each frame after the first."""
    driver.open()
    events = replay(driver, Slots(exp), list(exp.plan().slot_keys()))
    driver.close()
    times = np.array([e.time_monotonic for e in events])
    return times - times[0]


def test_a_rate_is_kept(source):
    exp = experiment(source, pace=100.0, t=20, loop=True)
    times = timed(ReplayDriver(exp), exp)
    expected = np.arange(40) / 100
    # Never early; late by no more than a busy machine makes it.
    assert (times > expected - 0.01).all()
    assert times[-1] < 0.39 + 0.3


def test_recorded_pace_without_times_follows_interval_and_exposures(source):
    exp = experiment(source, pace="recorded", interval_s=0.15)
    times = timed(ReplayDriver(exp), exp)
    expected = np.array([0, 0.01, 0.15, 0.16, 0.30, 0.31])
    assert (times > expected - 0.008).all()
    assert times[-1] < 0.31 + 0.3


def test_recorded_pace_keeps_the_recordings_own_times(tmp_path):
    import tifffile

    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path,
        np.ones((4, Y, X), np.uint16),
        metadata={"axes": "TYX", "Plane": {"DeltaT": [5.0, 5.1, 5.4, 5.45]}},
    )
    exp = experiment(path, pace="recorded", t=4, c=1, interval_s=30.0)
    times = timed(ReplayDriver(exp), exp)
    expected = np.array([0, 0.1, 0.4, 0.45])
    assert (times > expected - 0.01).all()
    assert times[-1] < 0.45 + 0.3


def test_frames_of_a_timepoint_follow_one_another_where_only_its_time_is_known(tmp_path):
    import zarr

    path = tmp_path / "a.ome.zarr"
    group = zarr.create_group(path, zarr_format=3)
    group.create_array("0", data=np.ones((2, 3, Y, X), np.uint16), chunks=(1, 1, Y, X))
    axes = [{"name": "t", "unit": "second"}, {"name": "c"}, {"name": "y"}, {"name": "x"}]
    scale = [{"type": "scale", "scale": [0.2, 1, 1, 1]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    exp = experiment(path, pace="recorded", t=2, c=3, interval_s=9.0)
    times = timed(ReplayDriver(exp), exp)
    expected = np.array([0, 0.01, 0.02, 0.2, 0.21, 0.22])
    assert (times > expected - 0.008).all()
    assert times[-1] < 0.22 + 0.3


def test_a_slow_caller_delays_frames_and_hears_of_it(source):
    exp = experiment(source, pace=1000.0)
    slots = Slots(exp)

    def slow(key):
        time.sleep(0.2)
        return slots(key)

    driver = ReplayDriver(exp)
    driver.open()
    events = replay(driver, slow, list(exp.plan().slot_keys()))
    assert len(events) == 6
    said = driver.messages()
    assert len(said) == 1
    assert "behind its pace" in said[0]
    assert driver.messages() == []
    driver.close()


def test_stop_finishes_the_slot_and_no_more(source):
    exp = experiment(source)
    driver = ReplayDriver(exp)
    driver.open()
    driver.arm(list(exp.plan().slot_keys()))
    slots = Slots(exp)
    first = driver.next_frame(slots)
    driver.stop_burst()
    second = driver.next_frame(slots)
    assert [first.key, second.key] == [FrameKey(0, 0, 0, 0), FrameKey(0, 0, 1, 0)]
    assert driver.next_frame(slots) is None
    # The caller arms again where it stopped.
    events = replay(driver, slots, list(exp.plan().slot_keys())[1:])
    assert [e.key.timepoint for e in events] == [1, 1, 2, 2]
    driver.light_off()
    driver.close()
    driver.close()


def test_stop_ends_the_wait_for_a_slot_that_is_not_due(source):
    exp = experiment(source, pace="recorded", interval_s=60.0)
    driver = ReplayDriver(exp)
    driver.open()
    driver.arm(list(exp.plan().slot_keys()))
    slots = Slots(exp)
    assert driver.next_frame(slots).key.slot == SlotKey(0, 0)
    assert driver.next_frame(slots).key.slot == SlotKey(0, 0)
    threading.Timer(0.2, driver.stop_burst).start()
    began = time.monotonic()
    assert driver.next_frame(slots) is None
    assert time.monotonic() - began < 5
    driver.close()


def test_no_thread_outlives_the_driver(source):
    before = threading.active_count()
    exp = experiment(source, t=1000, loop=True)
    driver = ReplayDriver(exp)
    driver.open()
    driver.arm(list(exp.plan().slot_keys()))
    driver.next_frame(Slots(exp))
    driver.arm(list(exp.plan().slot_keys()))
    driver.close()
    assert threading.active_count() == before
    assert driver.next_frame(Slots(exp)) is None


def test_a_broken_frame_ends_the_burst_with_its_name(tmp_path):
    path = tmp_path / "a.npy"
    data = np.ones((3, 2, Y, X), np.float32)
    data[1, 1, 0, 0] = np.nan
    np.save(path, data)
    exp = experiment(path)
    driver = ReplayDriver(exp)
    driver.open()
    driver.arm(list(exp.plan().slot_keys()))
    slots = Slots(exp)
    seen = [driver.next_frame(slots).key for _ in range(2)]
    assert {k.timepoint for k in seen} == {0}
    with pytest.raises(DriverError, match="timepoint 1, position 0, channel 1"):
        driver.next_frame(slots)
    driver.close()


def test_refusals(source, tmp_path):
    driver = ReplayDriver(experiment(tmp_path / "absent.npy"))
    with pytest.raises(DriverError, match="no recording"):
        driver.open()
    with pytest.raises(ExperimentError, match=r"\[9, 2, 1, 6, 8\]"):
        ReplayDriver(experiment(source, t=9)).open()
    with pytest.raises(DriverError, match="not open"):
        ReplayDriver(experiment(source)).arm([SlotKey(0, 0)])


def test_small_frames_from_memory_at_a_high_rate(tmp_path):
    """What `bench stream` replays: 512² at 200 frames/s, of which the driver takes a small part."""
    path = tmp_path / "a.npy"
    np.save(path, np.random.default_rng(0).integers(0, 4000, (16, 512, 512), dtype=np.uint16))
    exp = experiment(path, t=400, c=1, loop=True, shape=(512, 512))
    buffer = np.zeros((512, 512), np.uint16)
    driver = ReplayDriver(exp)
    driver.open()
    driver.arm(list(exp.plan().slot_keys()))
    began = time.perf_counter()
    arrived = 0
    while driver.next_frame(lambda key: buffer) is not None:
        arrived += 1
    rate = arrived / (time.perf_counter() - began)
    driver.close()
    assert arrived == 400
    assert rate > 400
