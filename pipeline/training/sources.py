"""What a training is trained on and validated with: simulated specimens, a lab's recordings, or both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ExperimentError
from pipeline.methods.dl_srqpi.record import OpticsRecord
from pipeline.samples import training_field
from pipeline.training.batches import Batches
from pipeline.training.data import Fields, Imaging
from pipeline.training.field_cache import cached_fields
from pipeline.training.field_making import processors
from pipeline.training.recordings import recorded_fields
from pipeline.training.settings import TrainingSettings

# A training's specimens have seeds of their own from here times its seed on; validation's are the same for
# all trainings, and lie beyond.
_SEEDS_EACH = 100_000
_VALIDATION_SEEDS = 1_000_000_000

Note = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Sources:
    """Data sets, and how often each is drawn from.

    Parameters
    ----------
    words
        What they are, for the weights' record.
    kept_back, kept_back_words
        What the training is validated with, never trained on.
    """

    sets: list[Fields]
    shares: list[float]
    kept_back: Fields
    words: str
    kept_back_words: str

    @property
    def specimens(self) -> int:
        """Fields of all sets."""
        return sum(len(s) for s in self.sets)

    @property
    def frames(self) -> int:
        """Frames of all sets."""
        return sum(s.frames.shape[0] * s.frames.shape[1] for s in self.sets)

    def fingerprint(self) -> str:
        """Of all that is trained on and validated with: a training goes on with nothing else."""
        return ",".join(s.fingerprint() for s in (*self.sets, self.kept_back))

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

    Raises
    ------
    ExperimentError
        If the seed is too large; and as `recorded_fields`.
    MethodError
        As `cached_fields`.
    """
    first = seed * _SEEDS_EACH
    if not 0 <= first <= first + settings.fields <= _VALIDATION_SEEDS:
        raise ExperimentError(
            f"the specimens of seed {seed} are among those that trainings are validated with",
            f"give a seed of 0 to {_VALIDATION_SEEDS // _SEEDS_EACH - 1}",
        )
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

    def simulated(begin: int, count: int) -> Fields:
        seeds = range(begin, begin + count)
        return cached_fields(folder, training_field, seeds, imaging, processors(), progress)

    if not recordings:
        own = simulated(first, settings.fields)
        kept_back = simulated(_VALIDATION_SEEDS, settings.validation_fields)
        return Sources(
            [own],
            [1.0],
            kept_back,
            "simulated: training_field",
            "simulated specimens of the same kinds, a good camera's noise, against the truth",
        )
    recorded = recorded_fields(recordings, optics, settings.network.upsampling)
    note(
        {
            "recorded": len(recorded.trained_on),
            "kept_back": len(recorded.kept_back),
            "left_out": recorded.left_out,
            "remarks": list(recorded.remarks),
        }
    )
    # A mistake in the recordings shows before these take their minutes.
    own = simulated(first, settings.fields)
    share = settings.recorded_share
    names = ", ".join(path.name for path in recordings)
    return Sources(
        [recorded.trained_on, own],
        [share, 1 - share],
        recorded.kept_back,
        f"through-focus recordings ({names}) with TIE labels in {share:.0%} of the patches, the others "
        "simulated: training_field",
        "recorded frames, against their TIE labels",
    )
