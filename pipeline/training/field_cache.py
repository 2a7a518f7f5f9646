"""Fields that were made once, for every training of the same data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import astuple, fields
from pathlib import Path

import torch

from pipeline.methods.dl_srqpi.conditions import Conditions
from pipeline.training.checkpoint import load_checkpoint, save_checkpoint
from pipeline.training.data import Fields, Imaging, MakePhase, make_fields

# Raised where specimens or imaging change: a field of another making must not be taken for one of this.
_VERSION = 2


def cached_fields(
    folder: Path,
    make_phase: MakePhase,
    seeds: Sequence[int],
    imaging: Imaging,
    workers: int,
    report: Callable[[int], None],
) -> Fields:
    """`make_fields`, read from `folder` if they are there, else written to it.

    Raises
    ------
    MethodError
        If the file is damaged.
    """
    what = f"{_VERSION}|{make_phase.__module__}.{make_phase.__name__}|{list(seeds)}|{imaging!r}"
    identity = hashlib.sha256(what.encode()).hexdigest()
    path = folder / f"fields-{identity[:12]}.pt"
    state = load_checkpoint(path, identity)
    if state is None:
        made = make_fields(make_phase, seeds, imaging, workers, report)
        folder.mkdir(parents=True, exist_ok=True)
        save_checkpoint({"identity": identity, **_to_state(made)}, path)
        return made
    return _from_state(state)


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
