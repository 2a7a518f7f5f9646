"""The sessions of a run: from one start to the next end, kill or power cut.

Each is a line in run.json. What the camera delivered is kept there, because the ledgers
only know what was stored: frames lost in a crash were delivered, and are taken again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline import shared_memory
from pipeline.errors import StoreError
from pipeline.frames import SlotKey
from pipeline.lifecycle.lost_light import count_lost_light, was_cut_off
from pipeline.lifecycle.supervisor import Outcome, SharedNames
from pipeline.store.run_folder import RunFolder, RunState
from pipeline.telemetry import Telemetry

log = logging.getLogger("livephase")


@dataclass
class Session:
    """One start of a run. Times are seconds since the epoch; `acquired` counts frames that the camera delivered.

    `light_on_s` is how long the specimen was lit; None where a dead session's counters are lost.
    """

    process_start_utc: float
    began_utc: float
    shared_memory: dict[str, str]
    todo_slots: int
    ended_utc: float | None = None
    state: str = "running"
    acquired: int | None = None
    restarts: dict[str, int] = field(default_factory=dict)
    error: str | None = None
    light_on_s: float | None = None


def read_sessions(folder: RunFolder) -> list[Session]:
    """The sessions so far, oldest first."""
    return [Session(**fields) for fields in folder.info().get("sessions", [])]


def begin_session(
    folder: RunFolder, process_start_utc: float, names: SharedNames, todo: Sequence[SlotKey]
) -> None:
    """Write a new session down, its shared memory by name, before any of it is created."""
    session = Session(process_start_utc, time.time(), asdict(names), len(todo))
    # A run that was stopped, aborted or failed goes on: were this session killed, that would no longer be how it ended.
    folder.update(RunState.RUNNING)
    _write(folder, [*read_sessions(folder), session])


def close_session(folder: RunFolder, outcome: Outcome) -> None:
    """Write down how the newest session ended."""
    *earlier, session = read_sessions(folder)
    session.ended_utc = time.time()
    session.state = outcome.state
    session.acquired = outcome.acquired
    session.light_on_s = round(outcome.light_on_s, 3)
    session.restarts = {name: count for name, count in outcome.restarts.items() if count}
    session.error = None if outcome.error is None else str(outcome.error)
    _write(folder, [*earlier, session])
    count_lost_light(folder, session.todo_slots, outcome.published, outcome.cut_off)


def reclaim(folder: RunFolder) -> None:
    """Close what a killed supervisor left: its counters are read, its shared memory is removed.

    Only while the folder's lock is held and no stage is at work.
    """
    sessions = read_sessions(folder)
    if not sessions or sessions[-1].ended_utc is not None:
        return
    session = sessions[-1]
    published, cut_off = 0, False
    try:
        with Telemetry.attach(session.shared_memory["telemetry"]) as telemetry:
            session.acquired = telemetry.total("frames_acquired")
            session.light_on_s = round(telemetry.value("light_seconds"), 3)
            published = telemetry.total("slots_published")
            cut_off = was_cut_off(telemetry)
    except StoreError:
        # The machine was switched off, or the system has cleaned up: what was delivered and not stored is not known.
        session.acquired = None
    for name in session.shared_memory.values():
        shared_memory.unlink(name)
    session.ended_utc = time.time()
    session.state = "killed"
    _write(folder, sessions)
    count_lost_light(folder, session.todo_slots, published, cut_off)
    log.warning("the session before was killed", extra={"acquired": session.acquired})


def _write(folder: RunFolder, sessions: Sequence[Session]) -> None:
    content: list[dict[str, Any]] = [asdict(s) for s in sessions]
    folder.update(sessions=content)
