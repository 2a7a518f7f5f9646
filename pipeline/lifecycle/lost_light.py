"""Light that was spent on frames which a crash has taken, so that the dose of each position stays true."""

from __future__ import annotations

from pipeline.stages.dose import UnstoredLight, frame_light_s, stored_light_s
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunFolder
from pipeline.telemetry import Telemetry


def was_cut_off(telemetry: Telemetry) -> bool:
    """Whether acquisition died while it exposed a slot."""
    return bool(telemetry.value("exposing"))


def count_lost_light(folder: RunFolder, todo_slots: int, published: int, cut_off: bool) -> None:
    """Write down the light of slots that a session exposed and that are not stored.

    Slots are taken in the order of the plan, so they are the first of those that are left. What a dead process
    exposed of the one that it was at is not known: it counts as a whole.

    Parameters
    ----------
    todo_slots
        How many the session was to take.
    published, cut_off
        As `Outcome`'s.
    """
    if not published and not cut_off:
        return
    reader = RunReader(folder.path)
    plan, committed = reader.plan, reader.committed()
    left = [key for key in plan.slot_keys() if not committed[key]]
    stored = todo_slots - len(left)
    lost = left[: max(0, published - stored) + cut_off]
    UnstoredLight(folder.path).add(lost, float(frame_light_s(plan).sum()), "lost in a crash")


def light_dose_s(reader: RunReader) -> tuple[float, ...]:
    """What each position has had so far, in seconds of full brightness."""
    plan = reader.plan
    stored = stored_light_s(plan, reader.raw_records.last("frames"))
    unstored = UnstoredLight(reader.folder.path).by_position(len(plan.positions))
    return tuple((stored + unstored).tolist())
