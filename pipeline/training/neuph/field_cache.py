"""Fields on disk: made once for all trainings of the same light and seed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.methods.neuph.record import LightRecord
from pipeline.training.checkpoint import load_checkpoint, save_checkpoint
from pipeline.training.field_making import processors
from pipeline.training.neuph.fields import (
    NeuPhFields,
    PatternImaging,
    StainedImaging,
    make_pattern_fields,
)
from pipeline.training.neuph.settings import NeuPhTraining

# Raised where specimens or imaging change: fields of another making must not be taken for these.
FIELDS_VERSION = 2
_SEEDS_EACH = 100_000
_VALIDATION_SEEDS = 1_000_000_000


def cached_pattern_fields(
    folder: Path,
    light: LightRecord,
    settings: NeuPhTraining,
    seed: int,
    note: Callable[[dict[str, Any]], None],
) -> tuple[NeuPhFields, NeuPhFields]:
    """Those to train on, and those kept back.

    Raises
    ------
    MethodError
        If a file is damaged, the disk is full, or a process that makes them dies.
    """
    s = settings
    stained = s.specimens == "stained"
    kind = StainedImaging if stained else PatternImaging
    imaging = kind(light, s.upsampling, s.field_px, s.leaves_share, s.fine_share)
    drawn = "stained" if stained else "neuph"
    begun = time.monotonic()

    def progress(made: int) -> None:
        note({"fields_made": made, "minutes": round((time.monotonic() - begun) / 60, 2)})

    def made(first: int, count: int) -> NeuPhFields:
        identity = f"neuph fields {FIELDS_VERSION}|{imaging!r}|{first}|{count}"
        name = f"fields-{drawn}-{light.synthetic_na:.3f}-{first}-{count}.pt"
        there = load_checkpoint(folder / name, identity)
        if there is None:
            done = make_pattern_fields(imaging, range(first, first + count), processors(), progress)
            there = {"identity": identity, "phases": done.phases, "frames": done.frames}
            save_checkpoint(there, folder / name)
        return NeuPhFields(there["phases"], there["frames"])

    return made(seed * _SEEDS_EACH, s.fields), made(_VALIDATION_SEEDS, s.validation_fields)
