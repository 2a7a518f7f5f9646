"""Reconstructions to the disk: every level, then the record, after the raw record."""

import math

import numpy as np
import pytest
from store_runs import (
    QUALITY,
    SlotKey,
    all_keys,
    begin,
    frames_of,
    image_of,
    make_experiment,
    reconstruct_slots,
    record_slots,
    records_of,
    slot_of,
)

from pipeline.errors import RunFolderError, StoreError
from pipeline.store.checksum import slot_crc
from pipeline.store.layout import create_phase, phase_owner
from pipeline.store.phase_writer import PhaseWriter
from pipeline.store.pyramid import pyramid
from pipeline.store.raw_writer import RawWriter
from pipeline.store.reader import RunReader, slots_where
from pipeline.store.verify import verify


@pytest.fixture
def experiment():
    return make_experiment(timepoints=4, shape=(150, 131), positions=2, interval_s=1.0)


@pytest.fixture
def folder(tmp_path, experiment):
    folder = begin(tmp_path / "run", experiment)
    create_phase(folder.phase_store, experiment, ("phase", "absorption"), 2, experiment.pixel_um)
    return folder


def raw_crc(experiment, key):
    plan = experiment.plan()
    return slot_crc(frames_of(plan, key), records_of(plan, key))


def test_images_levels_and_quality_come_back(experiment, folder):
    keys = all_keys(experiment)
    record_slots(folder, experiment, keys)
    reconstruct_slots(folder, experiment, keys, outputs=("phase", "absorption"))
    reader = RunReader(folder.path)
    assert reader.phase_levels() == 2
    assert reader.reconstructed().all()
    with PhaseWriter(folder, 0, experiment) as writer:
        for key in keys:
            image = image_of(writer, key)
            for level, pixels in enumerate(pyramid(image, 2)):
                np.testing.assert_array_equal(reader.phase(key, level), pixels)
    record = reader.phase_records.get(SlotKey(3, 1))
    for name, value in QUALITY.items():
        assert record[name] == value
    assert record["raw_crc"] == raw_crc(experiment, SlotKey(3, 1))
    assert verify(folder.path).reconstructed == 8


def test_the_record_follows_the_raw_record(experiment, folder):
    key, other = SlotKey(0, 0), SlotKey(1, 0)
    with PhaseWriter(folder, 0, experiment) as phase, RawWriter(folder, experiment) as raw:
        pending = phase.write_levels(key, image_of(phase, key))
        with pytest.raises(StoreError, match="no raw record as yet"):
            phase.commit(pending, raw_crc(experiment, key), QUALITY)
        assert not RunReader(folder.path).phase_records.present.any()
        raw.submit([slot_of(raw.plan, key)]).wait()
        raw.submit([slot_of(raw.plan, other)]).wait()
        with pytest.raises(StoreError, match="made from other pixels"):
            phase.commit(pending, raw_crc(experiment, other), QUALITY)
        phase.commit(pending, raw_crc(experiment, key), {"residual": 2.0, "new": 5.0})
        assert pending.done()
    reader = RunReader(folder.path)
    assert slots_where(reader.reconstructed()) == [key]
    record = reader.phase_records.get(key)
    assert record["residual"] == 2.0
    assert math.isnan(record["latency_s"])


def test_a_result_may_be_made_again(experiment, folder):
    key = SlotKey(0, 1)
    record_slots(folder, experiment, [key])
    with PhaseWriter(folder, 0, experiment) as writer:
        writer.write(key, image_of(writer, key), raw_crc(experiment, key), QUALITY)
        writer.write(key, image_of(writer, key) * 2, raw_crc(experiment, key), QUALITY)
        np.testing.assert_array_equal(RunReader(folder.path).phase(key), image_of(writer, key) * 2)
    report = verify(folder.path)
    assert (report.reconstructed, report.mismatches) == (1, [])


def test_workers_write_side_by_side(experiment, folder):
    keys = all_keys(experiment)
    record_slots(folder, experiment, keys)
    with PhaseWriter(folder, 0, experiment) as zero, PhaseWriter(folder, 1, experiment) as one:
        for key in keys:
            writer = (zero, one)[phase_owner(zero.plan, key, 2)]
            writer.write(key, image_of(writer, key), raw_crc(experiment, key), QUALITY)
    report = verify(folder.path)
    assert (report.reconstructed, report.mismatches) == (8, [])
    assert len(folder.phase_ledgers()) == 2


def test_a_lock_file_left_by_a_killed_worker_does_no_harm(experiment, folder):
    key = SlotKey(2, 0)
    record_slots(folder, experiment, [key])
    with PhaseWriter(folder, 0, experiment) as writer:
        for level in range(2):
            array = folder.phase_store / "0" / str(level)
            (array / f"{writer.layout.shard_name(2)}.__lock").write_bytes(bytes(10**6))
        writer.write(key, image_of(writer, key), raw_crc(experiment, key), QUALITY)
    assert verify(folder.path).mismatches == []


def test_wrong_images_and_absent_stores_are_refused(tmp_path, experiment, folder):
    with PhaseWriter(folder, 0, experiment) as writer:
        image = image_of(writer, SlotKey(0, 0))
        for key, wrong in (
            (SlotKey(0, 0), image[:1]),
            (SlotKey(0, 0), image.astype(np.float64)),
            (SlotKey(4, 0), image),
        ):
            with pytest.raises(ValueError, match="SlotKey"):
                writer.write_levels(key, wrong)
    bare = begin(tmp_path / "bare", experiment)
    with pytest.raises(StoreError, match="no readable image"):
        PhaseWriter(bare, 0, experiment)
    with pytest.raises(RunFolderError, match="another experiment"):
        PhaseWriter(folder, 0, make_experiment(timepoints=4, shape=(150, 131), positions=2))


def test_pyramid_means_leave_an_odd_line_out():
    image = np.arange(2 * 5 * 7, dtype=np.float32).reshape(2, 5, 7)
    levels = pyramid(image, 3)
    assert [level.shape for level in levels] == [(2, 5, 7), (2, 2, 3), (2, 1, 1)]
    np.testing.assert_allclose(levels[1][0, 0, 0], image[0, :2, :2].mean())
    np.testing.assert_allclose(levels[1][1, 1, 2], image[1, 2:4, 4:6].mean())
    image[0, 0, 0] = np.nan
    assert np.isnan(pyramid(image, 2)[1]).sum() == 1
