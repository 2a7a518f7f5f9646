"""Writes raw slots: whole shards, out of the caller's memory, durable before they are recorded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StoreError
from pipeline.experiment import Experiment
from pipeline.frames import FRAME_RECORD, FrameStatus, MissingReason, SlotKey
from pipeline.store.arrays import begin_write, make_context, open_array, read_array
from pipeline.store.checksum import crc32c, slot_crc
from pipeline.store.failures import write_failure
from pipeline.store.layout import (
    array_path,
    create_raw,
    remove_stale_locks,
    set_timepoints,
    slot_period_s,
    timepoints_per_shard,
)
from pipeline.store.ledger import LedgerKind, LedgerWriter
from pipeline.store.run_folder import RunFolder
from pipeline.store.slot_checksums import SlotChecksums

# One slot: its key, its frames ``[K, Y, X]`` and their records ``[K]`` of `FRAME_RECORD`.
RawSlot = tuple[SlotKey, NDArray[np.unsignedinteger], NDArray[np.void]]


class ShardKey(NamedTuple):
    """One raw file: the `number`-th of a position along its time axis."""

    position: int
    number: int


@dataclass(frozen=True)
class _Write:
    """What tensorstore is doing, and the memory that it reads meanwhile."""

    future: Any
    source: NDArray[np.unsignedinteger]


class Pending:
    """A shard on its way to the disk. Its memory must stay as it is until `done`."""

    def __init__(
        self, writer: RawWriter, shard: ShardKey, records: NDArray[np.void], write: _Write | None
    ) -> None:
        self.shard = shard
        self.records = records  # for the ledger
        self.write = write  # None once it is over
        self._writer = writer
        self._error: StoreError | None = None

    def done(self) -> bool:
        """Whether the slots are committed: shard and ledger records durable. Doesn't wait.

        Raises
        ------
        StoreError
            The write failed (a full disk): nothing of it is committed.
        """
        if self.write is not None:
            self._writer.poll()
        if self._error is not None:
            raise self._error
        return self.write is None

    def wait(self) -> None:
        """Wait until `done`. Raises like it."""
        while not self.done():
            self.wait_for_write()

    def wait_for_write(self) -> None:
        """Wait until the shard is on the disk, or failed; `RawWriter.poll` then commits it."""
        if self.write is not None:
            self.write.future.exception()

    def close(self, error: StoreError | None) -> None:
        """The write is over. Lets go of the memory: shared memory can't be closed before."""
        self.write = None
        self._error = error


class RawWriter:
    """The recorder's way to the disk.

    Parameters
    ----------
    folder
        Its lock is held by the run.
    experiment
        Of this run; a store or ledger of another one is refused.
    pixel_um
        Camera pixel at the sample, as calibrated; the nominal one if None. Only used to make a new
        store.
    in_flight
        Shards on their way at the same time; `submit` waits when there are more.

    Attributes
    ----------
    plan, layout
        Of the run, of the raw store.
    timepoints_per_shard
        T of this store; one that is there keeps what it has.

    Not thread-safe: one thread calls it.
    """

    def __init__(
        self,
        folder: RunFolder,
        experiment: Experiment,
        *,
        pixel_um: float | None = None,
        in_flight: int = 4,
    ) -> None:
        self.folder = folder
        self.plan = experiment.plan()
        self._store = folder.raw_store
        self._limit = in_flight
        self._in_flight: list[Pending] = []
        self._failure: StoreError | None = None
        self._context = make_context()
        self._arrays: dict[int, Any] = {}
        # The ledger's lock first: a recorder that is still dying must not write any more.
        self._ledger = LedgerWriter(
            folder.raw_ledger, LedgerKind.RAW, experiment.fingerprint(), self.plan.frames_per_slot
        )
        try:
            wanted = timepoints_per_shard(
                self.plan, experiment.output.shard_s, slot_period_s(experiment)
            )
            self.layout = create_raw(
                self._store,
                experiment,
                experiment.pixel_um if pixel_um is None else pixel_um,
                wanted,
            )
            set_timepoints(self._store, experiment, self.plan.timepoints)
            remove_stale_locks(self._store)
        except BaseException:
            self._ledger.close()
            raise
        self.timepoints_per_shard = self.layout.timepoints_per_shard
        self._recorded = SlotChecksums(self.plan)
        self._recorded.add(self._ledger.records)

    def is_committed(self, key: SlotKey) -> bool:
        """Whether the slot is in the ledger (durably)."""
        return bool(self._recorded.present[key])

    def committed(self) -> NDArray[np.bool_]:
        """``[timepoints, positions]``, True where the slot is in the ledger; don't write to it."""
        return self._recorded.present

    def shard_of(self, key: SlotKey) -> ShardKey:
        """The shard that a slot belongs to."""
        return ShardKey(key.position, key.timepoint // self.timepoints_per_shard)

    def shard_slots(self, shard: ShardKey) -> list[SlotKey]:
        """Every planned slot of a shard, in time; the last shard may have fewer."""
        begin = shard.number * self.timepoints_per_shard
        end = min(begin + self.timepoints_per_shard, self.plan.timepoints)
        return [SlotKey(t, shard.position) for t in range(begin, end)]

    def submit(self, group: Sequence[RawSlot]) -> Pending:
        """Begin to write slots of ONE shard; waits while `in_flight` others are on their way.

        A full shard whose slots lie in memory at equal distances (one slot; slices of one ring) is
        handed over without a copy. A part of a shard (pause, stop) is completed with what was
        committed before, read back and checked, and with zeros. Missing frames are stored as zeros
        whatever lies in their place. A slot that is committed already is accepted if its pixels are
        the same, and not recorded twice.

        Parameters
        ----------
        group
            In any order. The frames must not change until the result is `done`.

        Raises
        ------
        StoreError
            This or an earlier write failed, or a slot was committed before with other pixels.
        ValueError
            A group that is empty, not of one shard or outside the plan; wrong shape or type; a
            record that is neither written nor missing with a reason.
        """
        if self._failure is not None:
            raise self._failure
        shard = self._check(group)
        while self._busy(shard) or len(self._in_flight) >= self._limit:
            (self._busy(shard) or self._in_flight[0]).wait_for_write()
            self.poll()
            if self._failure is not None:
                raise self._failure
        slots = {
            key: (frames, records, slot_crc(frames, records)) for key, frames, records in group
        }
        for key, (_, _, crc) in slots.items():
            if self._recorded.get(key) not in (None, crc):
                raise StoreError(
                    f"timepoint {key.timepoint}, position {key.position} is committed already, "
                    "with other pixels",
                    "resume the run with the recorder's own list of what is committed",
                )
        records = self._make_records({k: v for k, v in slots.items() if not self.is_committed(k)})
        if len(records) == 0:
            return Pending(self, shard, records, None)
        source = self._whole_shard(shard, {key: (f, r) for key, (f, r, _) in slots.items()})
        begin = shard.number * self.timepoints_per_shard
        folder = array_path(self._store, self.plan, shard.position)
        future = begin_write(
            self._array(shard.position),
            slice(begin, begin + len(source)),
            source,
            folder / self.layout.shard_name(shard.number),
        )
        pending = Pending(self, shard, records, _Write(future, source))
        self._in_flight.append(pending)
        return pending

    def poll(self) -> None:
        """Commit what has become durable.

        Cheap. Errors are kept for `Pending.done` and the next `submit`.
        """
        durable: list[Pending] = []
        waiting: list[Pending] = []
        for pending in self._in_flight:
            if pending.write is None or not pending.write.future.done():
                waiting.append(pending)
                continue
            error = pending.write.future.exception()
            if error is None:
                durable.append(pending)
            else:
                self._failure = write_failure(self._store, error)
                pending.close(self._failure)
        self._in_flight = waiting
        if not durable:
            return
        records = np.concatenate([pending.records for pending in durable])
        try:
            self._ledger.append(records)
        except StoreError as error:
            self._failure = error
            for pending in durable:
                pending.close(error)
            return
        self._recorded.add(records)
        for pending in durable:
            pending.close(None)

    def flush(self) -> None:
        """Wait until everything submitted is committed. Raises like `Pending.done`."""
        while self._in_flight:
            self._in_flight[0].wait_for_write()
            self.poll()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Wait for writes in flight and let go of store and ledger; safe to call again.

        Doesn't raise: call `flush` before, or leave a ``with`` block, which does.
        """
        for pending in self._in_flight:
            pending.wait_for_write()
        self.poll()
        self._arrays.clear()
        self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A write that failed unseen must not pass for a run that went well.
        try:
            if error is None:
                self.flush()
        finally:
            self.close()

    def _check(self, group: Sequence[RawSlot]) -> ShardKey:
        if not group:
            raise ValueError("a group needs at least one slot")
        shards = set()
        for key, frames, records in group:
            if not self.plan.has(key):
                raise ValueError(f"{key} is outside the plan")
            if frames.shape != self.plan.slot_shape or frames.dtype != self.plan.dtype:
                raise ValueError(
                    f"{key} is {frames.dtype} {frames.shape}, "
                    f"the plan says {self.plan.dtype} {self.plan.slot_shape}"
                )
            if not frames.flags.c_contiguous:
                raise ValueError(f"the frames of {key} are not C-contiguous")
            if records.dtype != FRAME_RECORD or records.shape != (self.plan.frames_per_slot,):
                raise ValueError(
                    f"the records of {key} are not [{self.plan.frames_per_slot}] of FRAME_RECORD"
                )
            missing = records["status"] == FrameStatus.MISSING
            if not (missing | (records["status"] == FrameStatus.WRITTEN)).all():
                raise ValueError(f"a frame of {key} is neither written nor missing")
            if ((records["reason"] == MissingReason.NONE) == missing).any():
                raise ValueError(
                    f"a frame of {key} is missing without a reason, or written with one"
                )
            shards.add(self.shard_of(key))
        if len(shards) != 1:
            raise ValueError("a group must be of one shard")
        if len({key for key, _, _ in group}) != len(group):
            raise ValueError("a group names a slot twice")
        return shards.pop()

    def _busy(self, shard: ShardKey) -> Pending | None:
        return next((p for p in self._in_flight if p.shard == shard), None)

    def _make_records(
        self, slots: dict[SlotKey, tuple[NDArray[np.unsignedinteger], NDArray[np.void], int]]
    ) -> NDArray[np.void]:
        out = np.zeros(len(slots), self._ledger.dtype)
        now = time.time()
        for row, (key, (_, records, crc)) in zip(out, slots.items(), strict=True):
            row["timepoint"], row["position"] = key
            row["pixels_crc"] = crc
            row["time_utc"] = now
            row["frames"] = records
        return out

    def _whole_shard(
        self,
        shard: ShardKey,
        slots: dict[SlotKey, tuple[NDArray[np.unsignedinteger], NDArray[np.void]]],
    ) -> NDArray[np.unsignedinteger]:
        """All pixels of a shard, ``[T, K, Y, X]``: the slots' own memory where that is possible."""
        keys = self.shard_slots(shard)
        complete = all((r["status"] == FrameStatus.WRITTEN).all() for _, r in slots.values())
        if complete and len(slots) == len(keys):
            view = _as_one_array([slots[key][0] for key in keys])
            if view is not None:
                return view
        whole = np.zeros((len(keys), *self.plan.slot_shape), self.plan.dtype)
        before = [i for i, key in enumerate(keys) if key not in slots and self.is_committed(key)]
        if before:
            begin = keys[0].timepoint
            stored = read_array(
                self._array(shard.position),
                slice(begin, begin + len(keys)),
                f"shard {shard.number} of {self._store}",
            ).reshape(whole.shape)
            for i in before:
                if crc32c(stored[i]) != self._recorded.get(keys[i]):
                    raise StoreError(
                        f"timepoint {keys[i].timepoint}, position {keys[i].position} in "
                        f"{self._store} is damaged: its pixels don't fit their checksum",
                        "restore the file from a copy; `livephase verify` lists the damage",
                    )
                whole[i] = stored[i]
        for i, key in enumerate(keys):
            if key in slots:
                frames, records = slots[key]
                written = records["status"] == FrameStatus.WRITTEN
                whole[i][written] = frames[written]
        return whole

    def _array(self, position: int) -> Any:
        if position not in self._arrays:
            self._arrays[position] = open_array(
                array_path(self._store, self.plan, position), self._context
            )
        return self._arrays[position]


def _as_one_array(slots: list[NDArray[np.unsignedinteger]]) -> NDArray[np.unsignedinteger] | None:
    """The slots as one array ``[T, K, Y, X]`` on their own memory; None if they lie unevenly.

    They must be parts of one block of memory: two blocks can lie at the right distance by chance,
    and then nothing keeps the second alive.
    """
    if len(slots) == 1:
        return slots[0][None]
    addresses = [slot.__array_interface__["data"][0] for slot in slots]
    steps = {b - a for a, b in pairwise(addresses)}
    if len(steps) > 1 or len({id(_owner(slot)) for slot in slots}) > 1:
        return None
    first = slots[0]
    return np.lib.stride_tricks.as_strided(
        first, (len(slots), *first.shape), (steps.pop(), *first.strides), writeable=False
    )


def _owner(array: NDArray[Any]) -> Any:
    """What the memory of an array belongs to, at the end of the chain of views."""
    owner: Any = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    # Each `SharedMemory.buf` slice is a memoryview of its own, all on the same mapping.
    return owner.obj if isinstance(owner, memoryview) else owner
