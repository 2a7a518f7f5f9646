"""The plan's order of exposure, by arithmetic: a resumed run counts frames as the first one did."""

from __future__ import annotations

from pipeline.frames import FrameKey, Plan, SlotKey


def slot_number(plan: Plan, slot: SlotKey) -> int:
    """Which slot of the whole run this is, counted from 0."""
    return plan.slot_number(slot)


def frame_number(plan: Plan, key: FrameKey) -> int:
    """Which exposure of the whole run this is, counted from 0."""
    within = (
        key.channel * len(plan.foci_um) + key.focus
        if plan.frame_order == "cz"
        else key.focus * len(plan.channels) + key.channel
    )
    return slot_number(plan, key.slot) * plan.frames_per_slot + within


def frame_key(plan: Plan, number: int) -> FrameKey:
    """The exposure with this number: the inverse of `frame_number`."""
    slot, within = divmod(number, plan.frames_per_slot)
    if plan.slot_order == "tp":
        t, p = divmod(slot, len(plan.positions))
    else:
        p, t = divmod(slot, plan.timepoints)
    if plan.frame_order == "cz":
        c, z = divmod(within, len(plan.foci_um))
    else:
        z, c = divmod(within, len(plan.channels))
    return FrameKey(t, p, c, z)
