"""The shared-memory ring: slots on their way from acquire to record and reconstruct.

One writer (acquire), one recorder, any number of readers. A slot is the
contiguous pixels ``[K, Y, X]`` of one `SlotKey` and its `FRAME_RECORD` rows. The
driver writes frames in place, the recorder reads them in place; only the
recorder's `Ring.free` gives slots back to the writer. Readers copy and then look
whether the writer overtook them meanwhile: a torn slot is never delivered.

There is no lock: every word has one process that writes it, so a killed process
holds nothing and its successor goes on where the words say.

    sequence   0, 1, 2, …: the slots in the order of publication; slot `sequence % slots`
    head       how many are published; written by the writer
    tail       how many are freed; written by the recorder
    stamp      one a slot: 2·sequence + 1 while it is written, 2·sequence + 2 once it is complete

A `fence` stands between the words and the pixels, in the writer and in the readers.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from pipeline import shared_memory
from pipeline.errors import ExperimentError
from pipeline.fence import fence
from pipeline.frames import FRAME_RECORD, FrameStatus, Plan, SlotKey, empty_records
from pipeline.shared_memory import PAGE, Block
from pipeline.waiting import wait_for

_KIND: Final = "ring"
# Header words (int64). Head and tail have different writers: a cache line each.
_SLOTS, _K, _Y, _X, _ITEMSIZE = range(1, 6)
_HEAD, _TAIL = 64, 128


class CopiedSlot(NamedTuple):
    """What `Ring.copy` tells of the slot whose pixels it copied."""

    key: SlotKey
    records: NDArray[np.void]  # [K]


class HeldSlot(NamedTuple):
    """A published slot as the recorder sees it: valid until it is freed."""

    sequence: int
    key: SlotKey
    frames: NDArray[np.unsignedinteger]  # [K, Y, X], shared memory, read-only
    records: NDArray[np.void]  # [K], a copy


class WritableSlot:
    """The slot that the writer is filling. Write all of it, then `publish` or `discard`."""

    def __init__(self, ring: Ring, key: SlotKey, sequence: int) -> None:
        self._ring = ring
        self.key = key
        self.sequence = sequence
        self.frames: NDArray[np.unsignedinteger] = ring._frames(sequence)
        """[K, Y, X] in shared memory. Holds old pixels until they are overwritten."""
        self.records: NDArray[np.void] = ring._records[sequence % ring.slots]
        """[K] in shared memory; begins as `empty_records`."""

    def publish(self) -> int:
        """Hand the slot over; its sequence number. Frames that are missing are blanked.

        Raises
        ------
        ValueError
            If a frame is neither written nor missing.
        """
        self._check_open()
        status = self.records["status"]
        pending = np.flatnonzero(status == FrameStatus.PENDING)
        if pending.size:
            raise ValueError(f"frame {pending[0]} of {self.key} is neither written nor missing")
        # An older slot's pixels must not pass for a measurement.
        for index in np.flatnonzero(status != FrameStatus.WRITTEN):
            self.frames[index] = 0
        self._ring._publish(self.sequence)
        self._end()
        return self.sequence

    def discard(self) -> None:
        """Drop the slot: nobody ever sees it, the next one takes its place."""
        self._check_open()
        self._end()

    def _check_open(self) -> None:
        if self._ring._open is not self:
            raise RuntimeError(f"the slot of {self.key} was published or discarded before")

    def _end(self) -> None:
        self._ring._open = None
        # A late write through this slot would land in another one's pixels.
        self.frames.flags.writeable = False
        self.records.flags.writeable = False


class Ring:
    """One ring, as one process sees it. Made by `create` or `attach`.

    Attributes
    ----------
    name
        Of the shared memory.
    slots
        How many slots it holds.
    slot_shape, dtype
        ``(K, Y, X)`` and type of a slot's pixels.
    """

    def __init__(self, block: Block) -> None:
        words = block.view(0, (PAGE // 8,), np.int64)
        self.name = block.name
        self.slots = int(words[_SLOTS])
        self.slot_shape = (int(words[_K]), int(words[_Y]), int(words[_X]))
        self.dtype: np.dtype[np.unsignedinteger] = np.dtype(f"u{words[_ITEMSIZE]}")
        self._block = block
        self._words = words
        layout = _Layout.of(self.slots, self.slot_shape, self.dtype)
        self._stamps = block.view(layout.stamps, (self.slots,), np.int64)
        self._keys = block.view(layout.keys, (self.slots, 2), np.int64)
        self._records = block.view(layout.records, (self.slots, self.slot_shape[0]), FRAME_RECORD)
        self.pixel_memory: NDArray[np.uint8] = block.view(
            layout.pixels, (self.slots, layout.stride), np.uint8
        )
        """[slots, bytes] all pixels, page aligned: for `cudaHostRegister`."""
        self._open: WritableSlot | None = None

    @classmethod
    def create(cls, name: str, plan: Plan, slots: int) -> Self:
        """A new, empty ring for the frames of `plan`.

        Raises
        ------
        StoreError
            If the name is in use, or there is too little shared memory.
        """
        if slots < 1:
            raise ValueError(f"a ring of {slots} slots")
        block = shared_memory.create(
            name, _Layout.of(slots, plan.slot_shape, np.dtype(plan.dtype)).size
        )
        header = block.view(0, (PAGE // 8,), np.int64)
        header[_SLOTS : _ITEMSIZE + 1] = (slots, *plan.slot_shape, plan.dtype.itemsize)
        fence()
        block.sign(_KIND)
        return cls(block)

    @classmethod
    def attach(cls, name: str) -> Self:
        """The ring that another process created.

        Raises
        ------
        StoreError
            If there is none, or the block is something else.
        """
        return cls(shared_memory.attach(name, _KIND))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the memory go. Views that were handed out stay valid."""
        self._open = None
        # Our own views go first, so that the memory can.
        for name in ("_words", "_stamps", "_keys", "_records", "pixel_memory"):
            self.__dict__.pop(name, None)
        self._block.close()

    def unlink(self) -> None:
        """Remove the ring's name; whoever has it attached keeps it."""
        shared_memory.unlink(self.name)

    @property
    def head(self) -> int:
        """How many slots were published; the newest has sequence ``head - 1``."""
        return int(self._words[_HEAD])

    @property
    def tail(self) -> int:
        """How many slots were freed; where a recorder goes on."""
        return int(self._words[_TAIL])

    @property
    def fill(self) -> float:
        """Share of the slots that the recorder has not freed, 0 … 1."""
        return (self.head - self.tail) / self.slots

    def prefault(self) -> None:
        """Touch every page, so that the first lap is as fast as the next. The writer's alone.

        A page costs microseconds when it is written for the first time: more, over a slot, than
        copying it. Call it while nobody waits for frames yet; about a second for each GB.
        """
        pages = self.pixel_memory[:, ::PAGE]
        np.bitwise_or(pages, 0, out=pages)

    def begin(self, key: SlotKey, timeout_s: float) -> WritableSlot | None:
        """Open the next slot for writing; None if the ring is still full after `timeout_s`.

        Only the writer calls this. A slot that a killed writer left unpublished is opened anew.
        """
        if self._open is not None:
            raise RuntimeError(f"the slot of {self._open.key} is still open")
        sequence = self.head
        if not wait_for(lambda: sequence - self.tail < self.slots, timeout_s):
            return None
        fence()
        index = sequence % self.slots
        # Readers in the middle of a copy notice by this.
        self._stamps[index] = 2 * sequence + 1
        fence()
        self._keys[index] = key
        self._records[index] = empty_records(self.slot_shape[0])
        self._open = WritableSlot(self, key, sequence)
        return self._open

    def take(self, sequence: int) -> HeldSlot | None:
        """A slot to be recorded, in place; None if it isn't published yet.

        Only the recorder calls this, for slots that it has not freed.
        """
        if sequence < self.tail:
            raise ValueError(f"slot {sequence} was freed: the ring's tail is {self.tail}")
        if sequence >= self.head:
            return None
        fence()
        index = sequence % self.slots
        frames = self._frames(sequence)
        frames.flags.writeable = False
        return HeldSlot(sequence, self._key(index), frames, self._records[index].copy())

    def free(self, up_to_sequence: int) -> None:
        """Give every slot before `up_to_sequence` back to the writer. The recorder's alone."""
        if not self.tail <= up_to_sequence <= self.head:
            raise ValueError(
                f"can't free up to {up_to_sequence}: slots {self.tail} to {self.head} are in use"
            )
        # The recorder's reads are over before the writer may overwrite.
        fence()
        self._words[_TAIL] = up_to_sequence

    def key_of(self, sequence: int) -> SlotKey | None:
        """Whose slot it is; None if it isn't published, or the writer has overtaken."""
        if not self._complete(sequence):
            return None
        fence()
        key = self._key(sequence % self.slots)
        fence()
        return key if self._complete(sequence) else None

    def copy(self, sequence: int, out: NDArray[np.unsignedinteger]) -> CopiedSlot | None:
        """Copy a slot's pixels out, for readers other than the recorder.

        Parameters
        ----------
        sequence
            Which slot.
        out
            ``[K, Y, X]`` of the ring's type. Its content means nothing if None comes back.

        Returns
        -------
        CopiedSlot or None
            None if the slot isn't published, or the writer has overtaken: read the store.
        """
        if out.shape != self.slot_shape or out.dtype != self.dtype:
            raise ValueError(
                f"a slot of {self.slot_shape} {self.dtype} does not go into {out.shape} {out.dtype}"
            )
        if not self._complete(sequence):
            return None
        fence()
        index = sequence % self.slots
        source = self._frames(sequence)
        for target, frame in zip(out, source, strict=True):
            _copy_frame(target, frame)
            if not self._complete(sequence):
                return None
        copied = CopiedSlot(self._key(index), self._records[index].copy())
        fence()
        return copied if self._complete(sequence) else None

    def copy_frame(self, sequence: int, index: int) -> NDArray[np.unsignedinteger] | None:
        """One frame ``[Y, X]`` of a slot, for who only looks; None as of `copy`."""
        if not self._complete(sequence):
            return None
        fence()
        frame = self._frames(sequence)[index].copy()
        fence()
        return frame if self._complete(sequence) else None

    def find(self, key: SlotKey) -> int | None:
        """Sequence of the newest slot of this key that is still in the ring."""
        matches = np.flatnonzero((self._keys == key).all(axis=1))
        best = None
        for index in matches:
            stamp = int(self._stamps[index])
            if stamp == 0 or stamp % 2:
                continue
            sequence = stamp // 2 - 1
            fence()
            # The key again, after the stamp: it may have been another slot's a moment ago.
            still = self._key(int(index)) == key
            fence()
            if still and self._complete(sequence) and (best is None or sequence > best):
                best = sequence
        return best

    def _frames(self, sequence: int) -> NDArray[Any]:
        k, y, x = self.slot_shape
        memory = self.pixel_memory[sequence % self.slots, : k * y * x * self.dtype.itemsize]
        return memory.view(self.dtype).reshape(self.slot_shape)

    def _key(self, index: int) -> SlotKey:
        return SlotKey(int(self._keys[index, 0]), int(self._keys[index, 1]))

    def _complete(self, sequence: int) -> bool:
        if not 0 <= sequence < self.head:
            return False
        return bool(self._stamps[sequence % self.slots] == 2 * sequence + 2)

    def _publish(self, sequence: int) -> None:
        fence()
        self._stamps[sequence % self.slots] = 2 * sequence + 2
        fence()
        self._words[_HEAD] = sequence + 1


def slots_for(
    plan: Plan,
    slot_s: float,
    budget_bytes: float,
    *,
    seconds: float = 10.0,
    at_least: int = 2,
    multiple_of: int = 1,
) -> int:
    """How many slots a ring should have.

    Parameters
    ----------
    plan
        What is acquired.
    slot_s
        Seconds from one slot to the next.
    budget_bytes
        Most memory for the ring.
    seconds
        How long the recorder may be away. Where the budget allows less, so does the result.
    at_least
        What the recorder holds at once (its shard in the making), plus one to write in.
    multiple_of
        Slots that are written to the disk together: a whole number of such groups lies in the ring side by
        side, where a group around its end would have to be copied. Where the budget allows.

    Raises
    ------
    ExperimentError
        If not even `at_least` slots fit into the budget.
    """
    wanted = max(at_least, min(plan.slots, math.ceil(seconds / max(slot_s, 1e-6))))
    wanted += -wanted % multiple_of
    one = _Layout.of(1, plan.slot_shape, np.dtype(plan.dtype))
    fit = int((budget_bytes - PAGE) // (one.size - PAGE))
    if fit < at_least:
        need = _Layout.of(at_least, plan.slot_shape, np.dtype(plan.dtype)).size
        raise ExperimentError(
            f"`output.ring_gb` is {budget_bytes / 1e9:.2f}, but {at_least} timepoints of "
            f"{plan.slot_bytes / 1e6:.1f} MB in flight need {need / 1e9:.2f}",
            f"set output.ring_gb to {need / 1e9 + 0.01:.2f} or more",
        )
    whole = fit - fit % multiple_of
    return min(wanted, whole if whole >= at_least else fit)


class _Layout(NamedTuple):
    """Where things lie in the block, in bytes."""

    stamps: int
    keys: int
    records: int
    pixels: int
    stride: int
    size: int

    @classmethod
    def of(cls, slots: int, slot_shape: tuple[int, int, int], dtype: np.dtype[Any]) -> _Layout:
        stamps = PAGE
        keys = stamps + 8 * slots
        records = keys + 16 * slots
        pixels = _whole_pages(records + FRAME_RECORD.itemsize * slot_shape[0] * slots)
        stride = _whole_pages(math.prod(slot_shape) * dtype.itemsize)
        return cls(stamps, keys, records, pixels, stride, pixels + stride * slots)


def _whole_pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


def _copy_frame(target: NDArray[Any], source: NDArray[Any]) -> None:
    np.copyto(target, source)
