"""What a training is trained on and validated with: simulated specimens, a lab's recordings, or both."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.methods.dl_srqpi.record import OpticsRecord
from pipeline.samples import training_field
from pipeline.training.batches import Batches
from pipeline.training.data import Fields, Imaging
from pipeline.training.field_cache import cached_fields
from pipeline.training.recordings import recorded_fields
from pipeline.training.settings import TrainingSettings

# Seeds of validation specimens lie far from those of the training's, whatever the user's seed.
_VALIDATION_SEEDS = 1_000_000_000

Note = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Sources:
    """Data sets, and how often each is drawn from.

    Parameters
    ----------
    words
        What they are, for the weights' record.
    """

    sets: list[Fields]
    shares: list[float]
    kept_back: Fields
    words: str

    @property
    def specimens(self) -> int:
        """Fields of all sets."""
        return sum(len(s) for s in self.sets)

    @property
    def frames(self) -> int:
        """Frames of all sets."""
        return sum(s.frames.shape[0] * s.frames.shape[1] for s in self.sets)

    def batches(self, settings: TrainingSettings) -> Batches:
        """Patches out of them; smaller ones where a recording's frames are small."""
        side = min(min(s.frames.shape[-2:]) for s in self.sets)
        patch = min(settings.patch_px, side)
        return Batches(self.sets, self.shares, settings.model_copy(update={"patch_px": patch}))


def make_sources(
    folder: Path,
    optics: OpticsRecord,
    settings: TrainingSettings,
    seed: int,
    recordings: Sequence[Path],
    note: Note,
) -> Sources:
    """Make the fields, or read those made before, and the recordings' pairs.

    Parameters
    ----------
    folder
        Where simulated fields are kept.
    recordings
        Through-focus recordings of one's own; see `recorded_fields`.
    note
        Takes lines of the training's log.
    """
    imaging = Imaging(
        optics,
        settings.network.upsampling,
        settings.field_px,
        settings.oversampling,
        settings.images,
    )
    begun = time.monotonic()

    def progress(made: int) -> None:
        note({"fields_made": made, "minutes": round((time.monotonic() - begun) / 60, 2)})

    def simulated(first: int, count: int) -> Fields:
        seeds = range(first, first + count)
        return cached_fields(folder, training_field, seeds, imaging, os.cpu_count() or 1, progress)

    own = simulated(seed * 100_000, settings.fields)
    if not recordings:
        kept_back = simulated(_VALIDATION_SEEDS, settings.validation_fields)
        return Sources([own], [1.0], kept_back, "simulated: training_field")
    recorded = recorded_fields(recordings, optics, settings.network.upsampling)
    note(
        {
            "recorded": len(recorded.trained_on),
            "kept_back": len(recorded.kept_back),
            "left_out": recorded.left_out,
            "remarks": list(recorded.remarks),
        }
    )
    share = settings.recorded_share
    names = ", ".join(path.name for path in recordings)
    return Sources(
        [recorded.trained_on, own],
        [share, 1 - share],
        recorded.kept_back,
        f"through-focus recordings ({names}) with TIE labels in {share:.0%} of the patches, the others "
        "simulated: training_field",
    )
