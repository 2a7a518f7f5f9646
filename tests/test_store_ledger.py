"""The ledger as a set of durable records: torn tails, damage, other experiments, live readers."""

import os

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_runs import make_experiment, records_of

from pipeline.errors import RunFolderError, StoreError
from pipeline.frames import FrameStatus, SlotKey
from pipeline.store.checksum import crc32c, slot_crc
from pipeline.store.ledger import LedgerKind, LedgerReader, LedgerWriter, raw_record
from pipeline.store.record_table import RecordTable

FINGERPRINT = "ab" * 32
K = 2
SIZE = raw_record(K).itemsize
HEADER = 64


def rows(*keys, crc=1):
    out = np.zeros(len(keys), raw_record(K))
    for row, (t, p) in zip(out, keys, strict=True):
        row["timepoint"], row["position"], row["pixels_crc"] = t, p, crc
    return out


def open_writer(path, fingerprint=FINGERPRINT):
    return LedgerWriter(path, LedgerKind.RAW, fingerprint, K)


def keys_in(records):
    return [(int(r["timepoint"]), int(r["position"])) for r in records]


def read(path):
    return LedgerReader(path, LedgerKind.RAW, FINGERPRINT, K).poll()


def test_records_come_back_in_order(tmp_path):
    path = tmp_path / "raw.ledger"
    with open_writer(path) as writer:
        writer.append(rows((0, 0), (1, 0)))
        writer.append(rows((0, 1)))
    assert keys_in(read(path)) == [(0, 0), (1, 0), (0, 1)]
    assert path.stat().st_size == HEADER + 3 * SIZE


def test_a_tail_torn_at_any_byte_is_cut_and_nothing_before_it(tmp_path):
    path = tmp_path / "raw.ledger"
    with open_writer(path) as writer:
        writer.append(rows((0, 0)))
        writer.append(rows((1, 0), (2, 0)))
    whole = path.read_bytes()
    for size in range(HEADER, len(whole)):
        path.write_bytes(whole[:size])
        kept = [(0, 0), (1, 0), (2, 0)][: (size - HEADER) // SIZE]
        assert keys_in(read(path)) == kept
        with open_writer(path) as writer:
            assert keys_in(writer.records) == kept
            writer.append(rows((9, 9)))
        assert keys_in(read(path)) == [*kept, (9, 9)]


def test_a_torn_last_write_may_have_kept_its_end(tmp_path):
    """Pages of one write reach the disk in any order: the second record may be whole, the first not."""
    path = tmp_path / "raw.ledger"
    with open_writer(path) as writer:
        writer.append(rows((0, 0)))
        writer.append(rows((1, 0), (2, 0)))
    content = bytearray(path.read_bytes())
    content[HEADER + SIZE : HEADER + 2 * SIZE] = bytes(SIZE)
    path.write_bytes(content)
    with open_writer(path) as writer:
        assert keys_in(writer.records) == [(0, 0)]


def test_damage_before_later_writes_is_refused_loudly(tmp_path):
    path = tmp_path / "raw.ledger"
    with open_writer(path) as writer:
        for t in range(3):
            writer.append(rows((t, 0)))
    content = bytearray(path.read_bytes())
    content[HEADER + SIZE + 10] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"record 1 of the ledger .* is damaged"):
        open_writer(path)
    with pytest.raises(StoreError, match="record 1"):
        read(path)
    assert path.read_bytes() == bytes(content)


@pytest.mark.parametrize("size", [0, 1, 63])
def test_a_header_cut_short_is_refused(tmp_path, size):
    path = tmp_path / "raw.ledger"
    open_writer(path).close()
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(StoreError, match="ends within its header"):
        open_writer(path)


def test_another_experiment_kind_or_file_is_refused(tmp_path):
    path = tmp_path / "raw.ledger"
    open_writer(path).close()
    with pytest.raises(RunFolderError, match="another experiment"):
        open_writer(path, "cd" * 32)
    with pytest.raises(RunFolderError, match="another experiment"):
        LedgerReader(path, LedgerKind.RAW, "cd" * 32, K).poll()
    with pytest.raises(RunFolderError, match="another experiment"):
        LedgerWriter(path, LedgerKind.PHASE, FINGERPRINT, K)
    path.write_bytes(b"x" * 100)
    with pytest.raises(StoreError, match="is no ledger"):
        open_writer(path)


def test_two_writers_at_once_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.store.ledger._LOCK_PATIENCE_S", 0.1)
    path = tmp_path / "raw.ledger"
    with open_writer(path), pytest.raises(RunFolderError, match="another process is writing"):
        open_writer(path)
    open_writer(path).close()


def test_a_reader_follows_a_live_ledger(tmp_path):
    path = tmp_path / "raw.ledger"
    reader = LedgerReader(path, LedgerKind.RAW, FINGERPRINT, K)
    assert len(reader.poll()) == 0  # not there yet
    with open_writer(path) as writer:
        assert len(reader.poll()) == 0
        writer.append(rows((0, 0)))
        assert keys_in(reader.poll()) == [(0, 0)]
        assert len(reader.poll()) == 0
        # Half of a record, as a reader may catch it: not delivered, and delivered once it is whole.
        before = path.read_bytes()
        writer.append(rows((1, 0), (2, 0)))
        whole = path.read_bytes()
        path.write_bytes(whole[: len(before) + SIZE + 7])
        assert keys_in(reader.poll()) == [(1, 0)]
        path.write_bytes(whole)
        assert keys_in(reader.poll()) == [(2, 0)]


def test_a_write_that_does_not_fit_leaves_the_ledger_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "raw.ledger"
    with open_writer(path) as writer:
        writer.append(rows((0, 0)))
        real = os.write

        def half(fd, content):
            real(fd, content[: len(content) // 2])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(StoreError, match=r"disk is full.*MB are free.*make space"):
            writer.append(rows((1, 0), (2, 0)))
        monkeypatch.undo()
        writer.append(rows((3, 0)))
    assert keys_in(read(path)) == [(0, 0), (3, 0)]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_ledger_is_the_set_of_what_was_acknowledged(tmp_path_factory, data):
    """Appends, crashes that cut anywhere in the last write, reopenings: against a plain dict."""
    path = tmp_path_factory.mktemp("ledger") / "raw.ledger"
    plan = make_experiment(timepoints=4, positions=2, channels=("a", "b")).plan()
    expected = {}
    acknowledged = 0
    crc = 0
    for _ in range(data.draw(st.integers(1, 6))):
        with open_writer(path) as writer:
            assert len(writer.records) == acknowledged
            for _ in range(data.draw(st.integers(0, 3))):
                keys = data.draw(
                    st.lists(
                        st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=3
                    )
                )
                crc += 1
                writer.append(rows(*keys, crc=crc))
                expected |= {SlotKey(*key): crc for key in keys}
                acknowledged += len(keys)
            unacknowledged = data.draw(st.integers(0, 2))
            end = path.stat().st_size
            if unacknowledged:
                writer.append(rows(*[(0, 0)] * unacknowledged, crc=10_000 + crc))
        if unacknowledged:
            cut = data.draw(st.integers(0, SIZE - 1))  # never a whole record of it
            with path.open("r+b") as file:
                file.truncate(end + cut)
    table = RecordTable(plan, raw_record(K))
    table.add(read(path))
    assert {key: int(table.get(key)["pixels_crc"]) for key in expected} == expected
    assert int(table.present.sum()) == len(expected)


def test_crc_reads_memory_in_place():
    pixels = np.arange(6000, dtype=np.uint16).reshape(2, 50, 60)
    assert crc32c(pixels) == google_crc32c.value(pixels.tobytes())
    assert crc32c(pixels[1], crc32c(pixels[0])) == crc32c(pixels)
    with pytest.raises(ValueError, match="C-contiguous"):
        crc32c(pixels[:, ::2])


def test_slot_crc_takes_missing_frames_as_zeros():
    plan = make_experiment(channels=("a", "b")).plan()
    records = records_of(plan, SlotKey(0, 0), missing=(1,))
    frames = np.ones(plan.slot_shape, plan.dtype)
    stored = frames.copy()
    stored[1] = 0
    assert slot_crc(frames, records) == crc32c(stored)
    records["status"] = FrameStatus.WRITTEN
    assert slot_crc(frames, records) == crc32c(frames) != crc32c(stored)
