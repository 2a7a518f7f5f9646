"""What one reconstruct worker still has to do: the raw ledger less the phase ledgers."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.experiment import Experiment
from pipeline.frames import SlotKey
from pipeline.store.layout import phase_owner
from pipeline.store.ledger import LedgerKind, LedgerReader, record_key
from pipeline.store.run_folder import RunFolder
from pipeline.store.slot_checksums import SlotChecksums


class Backlog:
    """Follows the raw ledger and hands out what is recorded but not reconstructed, newest first.

    Each slot has one owner, its number modulo the workers, so no two workers write the same shard.

    Parameters
    ----------
    is_done
        Whether an earlier session (or an earlier life of this worker) has reconstructed a
        recorded slot from the pixels that are recorded.
    """

    def __init__(
        self,
        folder: RunFolder,
        experiment: Experiment,
        worker: int,
        is_done: Callable[[SlotKey], bool],
    ) -> None:
        self._plan = experiment.plan()
        self._worker = worker
        self._workers = experiment.reconstruction.workers
        self._is_done = is_done
        self._recorded = SlotChecksums(self._plan)
        self._ledger = LedgerReader(
            folder.raw_ledger,
            LedgerKind.RAW,
            experiment.fingerprint(),
            self._plan.frames_per_slot,
        )
        self._stack: list[SlotKey] = []
        # Begun from the ring: forgotten when its raw record or its turn on the stack comes.
        self._begun: set[SlotKey] = set()

    @property
    def waiting(self) -> int:
        """Recorded slots of ours that nobody has begun."""
        return len(self._stack)

    def wants(self, key: SlotKey) -> bool:
        """Whether a slot out of the ring is ours and has not been begun."""
        ours = phase_owner(self._plan, key, self._workers) == self._worker
        return ours and key not in self._begun and not self._is_done(key)

    def begin(self, key: SlotKey) -> None:
        """The slot is taken out of the ring before its turn."""
        self._begun.add(key)

    def again(self, key: SlotKey) -> None:
        """The slot was begun and given up: it waits behind all others, or for its raw record."""
        if key in self._begun:
            # Its raw record, or its turn on the stack, is still to come.
            self._begun.discard(key)
        else:
            self._stack.insert(0, key)

    def is_recorded(self, key: SlotKey) -> bool:
        """Whether the slot's raw record was seen by the last `poll`."""
        return self._recorded.get(key) is not None

    def poll(self) -> None:
        """Take in what was recorded since the last call."""
        records = self._ledger.poll()
        self._recorded.add(records)
        for record in records:
            key = record_key(record)
            if key in self._begun:
                self._begun.discard(key)
            elif self.wants(key):
                self._stack.append(key)

    def next(self) -> SlotKey | None:
        """Take the newest recorded slot that nobody has begun."""
        while self._stack:
            key = self._stack.pop()
            if key not in self._begun:
                return key
            self._begun.discard(key)
        return None
