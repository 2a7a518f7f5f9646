"""Light that was spent on frames which a crash has taken, so that the dose of each position stays true."""

from __future__ import annotations

from pipeline.frames import MissingReason, Plan
from pipeline.stages.dose import UnstoredLight, frame_light_s, stored_light_s
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunFolder
from pipeline.telemetry import Telemetry
from pipeline.telemetry.metrics import missing_metric


def was_cut_off(telemetry: Telemetry, plan: Plan) -> bool:
    """Whether acquisition died within a slot: with the light on, or with frames that are part of no slot."""
    missing = sum(
        telemetry.by_stage(missing_metric(r)).get("acquire", 0) for r in MissingReason if r
    )
    handed_over = telemetry.total("slots_published") * plan.frames_per_slot - missing
    taken_again = telemetry.by_stage("frames_reacquired").get("acquire", 0)
    lit = bool(telemetry.by_stage("light_on").get("acquire"))
    return lit or telemetry.total("frames_acquired") - taken_again > handed_over


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
    unstored, light_s = UnstoredLight(folder.path), float(frame_light_s(plan).sum())
    for slot in left[: max(0, published - stored) + cut_off]:
        unstored.add(slot, light_s, "lost in a crash")


def light_dose_s(reader: RunReader) -> tuple[float, ...]:
    """What each position has had so far, in seconds of full brightness."""
    plan = reader.plan
    stored = stored_light_s(plan, reader.raw_records.last("frames"))
    unstored = UnstoredLight(reader.folder.path).by_position(len(plan.positions))
    return tuple((stored + unstored).tolist())
