"""The raw frames of another run without a copy: its shards are linked, not read."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np

from pipeline.durable import sync_directory
from pipeline.experiment import Experiment
from pipeline.frames import Plan, SlotKey
from pipeline.store.layout import array_path, create_raw, open_layout
from pipeline.store.ledger import LedgerKind, LedgerWriter
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunFolder

log = logging.getLogger("livephase")


def link_raw(source: Path, folder: RunFolder, experiment: Experiment, pixel_um: float) -> None:
    """Link every whole shard of another run's raw store into this one, with its ledger records.

    Both runs share the files until one of them is deleted; no writer ever changes a shard in place.
    Shards that lack a slot, and all of them where the file system can't link or the frames are laid
    out otherwise, are left to `ingest`.
    """
    reader = RunReader(source)
    theirs = open_layout(reader.folder.raw_store, reader.experiment)
    plan = experiment.plan()
    same = _frames(reader.plan) == _frames(plan)
    if not same or theirs.compression != experiment.output.compression:
        return
    per_shard = theirs.timepoints_per_shard
    layout = create_raw(folder.raw_store, experiment, pixel_um, per_shard)
    if layout.timepoints_per_shard != per_shard:
        return
    committed = reader.committed()
    ledger = LedgerWriter(
        folder.raw_ledger, LedgerKind.RAW, experiment.fingerprint(), plan.frames_per_slot
    )
    with ledger:
        have = np.zeros((plan.timepoints, len(plan.positions)), bool)
        have[ledger.records["timepoint"], ledger.records["position"]] = True
        for position in range(len(plan.positions)):
            keys: list[SlotKey] = []
            for begin in range(0, plan.timepoints, per_shard):
                slots = slice(begin, min(begin + per_shard, plan.timepoints))
                there = committed[slots, position]
                whole = len(there) == slots.stop - slots.start and there.all()
                if have[slots, position].any() or not whole:
                    continue
                name = theirs.shard_name(begin // per_shard)
                old = array_path(reader.folder.raw_store, reader.plan, position) / name
                new = array_path(folder.raw_store, plan, position) / name
                try:
                    # Left by a process that was killed before its record.
                    new.unlink(missing_ok=True)
                    os.link(old, new)
                except OSError as error:
                    log.info("shards are copied, not linked (%s)", error)
                    return
                keys += [SlotKey(t, position) for t in range(slots.start, slots.stop)]
            # The files' names are on the disk before the ledger speaks of them.
            sync_directory(array_path(folder.raw_store, plan, position))
            records = [reader.raw_records.get(key) for key in keys]
            ledger.append(np.array(records, ledger.dtype))


def _frames(plan: Plan) -> tuple[object, ...]:
    """What decides where a frame lies in a raw store."""
    names = tuple(channel.name for channel in plan.channels)
    return len(plan.positions), names, plan.foci_um, plan.frame_shape, plan.bit_depth
