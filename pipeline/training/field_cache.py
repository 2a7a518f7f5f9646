"""Fields that were made once, for every training of the same data."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import astuple, fields
from pathlib import Path

import torch

from pipeline.errors import MethodError
from pipeline.methods.dl_srqpi.conditions import Conditions
from pipeline.training.checkpoint import load_checkpoint, save_checkpoint
from pipeline.training.data import Fields, Imaging, MakePhase
from pipeline.training.field_making import make_fields

# Raised where specimens, ranges or imaging change (a test notices): a field of another making must not be
# taken for one of this.
_VERSION = 4
# Fields made between two writes: a training that is stopped while they are made loses so many, a few minutes' work.
_BLOCK = 200


def cached_fields(
    folder: Path,
    make_phase: MakePhase,
    seeds: Sequence[int],
    imaging: Imaging,
    workers: int,
    report: Callable[[int], None],
) -> Fields:
    """`make_fields`, read from `folder` if they are there, else written to it.

    They are made block by block: a call that was stopped goes on with the next one.

    Raises
    ------
    MethodError
        If a file is damaged, the disk has no room for the fields, or a process that makes them dies.
    """
    cache = _Cache(folder, make_phase, imaging)
    there = cache.load(seeds)
    if there is not None:
        return there
    folder.mkdir(parents=True, exist_ok=True)
    parts = [seeds[first : first + _BLOCK] for first in range(0, len(seeds), _BLOCK)]
    # Blocks, and then all of them in one file before they are removed.
    _check_room(folder, 2 * imaging.field_bytes * len(seeds))
    blocks: list[Fields] = []

    def progress(made: int) -> None:
        report(made + sum(len(block) for block in blocks))

    for part in parts:
        block = cache.load(part)
        if block is None:
            block = make_fields(make_phase, part, imaging, workers, progress)
            cache.save(block, part)
        blocks.append(block)
    if len(blocks) == 1:
        return blocks[0]
    made = _joined(blocks)
    cache.save(made, seeds)
    for part in parts:
        cache.forget(part)
    return made


class _Cache:
    """A folder's files of fields that one function drew and one imaging took."""

    def __init__(self, folder: Path, make_phase: MakePhase, imaging: Imaging) -> None:
        self._folder, self._imaging = folder, imaging
        self._drawn = f"{make_phase.__module__}.{make_phase.__name__}"

    def load(self, seeds: Sequence[int]) -> Fields | None:
        state = load_checkpoint(self._path(seeds), self._identity(seeds))
        return None if state is None else _from_state(state)

    def save(self, made: Fields, seeds: Sequence[int]) -> None:
        state = {"identity": self._identity(seeds), **_to_state(made)}
        save_checkpoint(state, self._path(seeds))

    def forget(self, seeds: Sequence[int]) -> None:
        self._path(seeds).unlink(missing_ok=True)

    def _path(self, seeds: Sequence[int]) -> Path:
        return self._folder / f"fields-{self._identity(seeds)[:12]}.pt"

    def _identity(self, seeds: Sequence[int]) -> str:
        # The imaging's fields are all that decides a frame but for the code: optics, ranges, sizes.
        what = f"{_VERSION}|{self._drawn}|{list(seeds)}|{self._imaging!r}"
        return hashlib.sha256(what.encode()).hexdigest()


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise MethodError(
            f"the disk of {folder.resolve()} has {free / 1e9:.2g} GB left, the training's fields take "
            f"{needed / 1e9:.2g} GB",
            "make room there, or give an --out on another disk",
        )


def _joined(blocks: Sequence[Fields]) -> Fields:
    return Fields(
        torch.cat([block.phases for block in blocks]),
        torch.cat([block.frames for block in blocks]),
        tuple(row for block in blocks for row in block.conditions),
    )


def _to_state(made: Fields) -> dict[str, object]:
    numbers = [[astuple(c) for c in row] for row in made.conditions]
    return {
        "phases": made.phases,
        "frames": made.frames,
        "conditions": torch.tensor(numbers, dtype=torch.float64),
    }


def _from_state(state: dict[str, torch.Tensor]) -> Fields:
    names = [f.name for f in fields(Conditions)]
    rows = tuple(
        tuple(Conditions(**dict(zip(names, values, strict=True))) for values in row)
        for row in state["conditions"].tolist()
    )
    return Fields(state["phases"], state["frames"], rows)
