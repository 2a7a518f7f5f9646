"""`Fields` out of recordings: what a training on a lab's own through-focus stacks takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.errors import ExperimentError
from pipeline.frames import SlotKey
from pipeline.methods.dl_srqpi.record import OpticsRecord
from pipeline.training.data import Fields
from pipeline.training.recordings.pairs import LeftOut, Pair, PairMaker, input_foci
from pipeline.training.recordings.settings import RecordingSettings
from pipeline.training.recordings.stack import Stack

# With fewer positions than this the last timepoints are kept back, not whole positions.
_POSITIONS = 4


@dataclass(frozen=True)
class RecordedFields:
    """Pairs to train on and pairs kept back, of different slots.

    Parameters
    ----------
    left_out
        Reason → slots that were left out for it.
    remarks
        What the user should know of the labels, one sentence each.
    """

    trained_on: Fields
    kept_back: Fields
    left_out: dict[str, int]
    remarks: tuple[str, ...]


def recorded_fields(
    recordings: Sequence[Path],
    optics: OpticsRecord,
    upsampling: int,
    settings: RecordingSettings | None = None,
    report: Callable[[int], None] = lambda _: None,
) -> RecordedFields:
    """Make training data of through-focus recordings.

    Every focus that the training is about gives a pair: the frame there, binned, and the TIE phase
    of all other foci.

    Parameters
    ----------
    recordings
        See `Stack`. All of one camera region.
    optics
        What is trained for; see `training_optics`.
    upsampling
        Phase pixels per camera pixel: so many pixels of the recording are binned along each axis.
    report
        Called with the number of slots done.

    Raises
    ------
    ExperimentError
        If a recording is of other optics, has no foci on both sides, or too little is left of them.
    DriverError, StoreError, RunFolderError
        If one can't be read.
    """
    settings = settings or RecordingSettings()
    trained_on: list[Pair] = []
    kept_back: list[Pair] = []
    reasons: Counter[str] = Counter()
    remarks: list[str] = []
    done = 0
    for path in recordings:
        with Stack(path) as stack:
            makers = [
                PairMaker(stack, upsampling, focus, settings)
                for focus in input_foci(stack, upsampling, optics)
            ]
            if any(maker.label.shares_noise for maker in makers):
                remarks.append(
                    f"{stack.path.name} has too few foci to leave the input's out of its label: their noise "
                    "is partly the same, and the network will learn some of it"
                )
            slots = list(stack.slots())
            held = held_back(slots, settings.validation_share)
            for slot in slots:
                outcomes = [maker(slot) for maker in makers]
                lost = [o.reason for o in outcomes if isinstance(o, LeftOut)]
                reasons.update(lost[:1])
                into = kept_back if slot in held else trained_on
                into += [o for o in outcomes if isinstance(o, Pair)]
                done += 1
                report(done)
    return RecordedFields(
        _fields(trained_on, "to train on", reasons),
        _fields(kept_back, "to validate with", reasons),
        dict(reasons),
        tuple(remarks),
    )


def held_back(slots: Sequence[SlotKey], share: float) -> set[SlotKey]:
    """Slots to validate with: whole positions, evenly spread; of few positions the last timepoints.

    Never a part of a slot, and no cell that the training sees at another time, where there are positions enough.
    """
    positions = sorted({slot.position for slot in slots})
    if len(positions) >= _POSITIONS:
        number = max(1, round(share * len(positions)))
        chosen = {positions[int((i + 0.5) * len(positions) / number)] for i in range(number)}
        return {slot for slot in slots if slot.position in chosen}
    times = sorted({slot.timepoint for slot in slots})
    late = set(times[-max(1, round(share * len(times))) :])
    return {slot for slot in slots if slot.timepoint in late}


def _fields(pairs: list[Pair], what: str, reasons: Counter[str]) -> Fields:
    if not pairs:
        why = "; ".join(f"{reason}: {n}" for reason, n in reasons.items())
        raise ExperimentError(
            f"the recordings leave no slot {what}" + (f" (slots left out: {why})" if why else ""),
            "record more positions or timepoints, with cells, in focus and below saturation",
        )
    shapes = {pair.frame.shape for pair in pairs}
    if len(shapes) > 1:
        raise ExperimentError(
            f"the recordings' fields have different sizes: {sorted(map(tuple, shapes))} pixels once binned",
            "train on recordings of one camera region",
        )
    return Fields(
        torch.stack([pair.phase for pair in pairs]).to(torch.float16),
        torch.stack([pair.frame for pair in pairs])[:, None],
        tuple((pair.conditions,) for pair in pairs),
        noisy=True,
    )
