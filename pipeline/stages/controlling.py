"""One controller in a process of its own: it sees results and says what it would do.

What it says goes through a pipe to the supervisor, as short lines of JSON: no code of a third party is ever run, and
nothing of it unpickled, where it could harm the run.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from pipeline import mailbox as live
from pipeline.actions import Action, Snapshot, as_dict
from pipeline.control import Control
from pipeline.controllers import Controller, Probe, Result, make_controller
from pipeline.course import Course
from pipeline.errors import LivephaseError
from pipeline.experiment import ControllerEntry
from pipeline.frames import SlotKey
from pipeline.log import log_to, stop_logging
from pipeline.mailbox import Mailbox
from pipeline.stages.context import StageContext
from pipeline.stages.orphan import watch_parent
from pipeline.stages.priority import come_after_the_camera
from pipeline.stages.probe import probe_file
from pipeline.stages.snapshot import save_snapshot
from pipeline.store.steering_file import SteeringFile
from pipeline.telemetry import Telemetry

log = logging.getLogger("livephase")

_LOOK_S = 0.01
# A pipe takes so much in one piece: a process that is killed leaves no half of a line.
_MOST_BYTES = 3500


def control_run(context: StageContext, entry: ControllerEntry, connection: Connection) -> None:
    """Entry point of the process: ends when the supervisor closes the pipe, or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    watch_parent()
    come_after_the_camera(context.stage)
    handler = log_to(context.folder.log, context.stage)
    try:
        controller = make_controller(entry, context.experiment)
        with ExitStack() as stack:
            control = stack.enter_context(Control.attach(context.control))
            telemetry = stack.enter_context(Telemetry.attach(context.telemetry))
            mailbox = stack.enter_context(Mailbox.attach(context.mailbox))
            _tell(connection, what="ready", looks_at=controller.looks_at)
            _Looking(context, entry, controller, control, telemetry, mailbox, connection).run()
    except (EOFError, OSError):
        pass  # the supervisor has closed the pipe
    except Exception as error:
        log.exception("the controller failed")
        with suppress(OSError):
            text = str(error) if isinstance(error, LivephaseError) else repr(error)
            _tell(connection, what="failed", why=text[:1000])
        sys.exit(1)
    finally:
        stop_logging(handler)


class _Looking:
    """The loop of one controller."""

    def __init__(
        self,
        context: StageContext,
        entry: ControllerEntry,
        controller: Controller,
        control: Control,
        telemetry: Telemetry,
        mailbox: Mailbox,
        connection: Connection,
    ) -> None:
        self._run = context.run
        self._entry = entry
        self._experiment = context.experiment
        self._plan = context.plan
        self._controller = controller
        self._control = control
        self._telemetry = telemetry
        self._mailbox = mailbox
        self._connection = connection
        self._steering = SteeringFile(context.run)
        self._course = Course(self._plan)
        self._course_bytes = 0
        self._seen_ns = 0
        self._newest = -1
        self._image: live.Result | None = None

    def run(self) -> None:
        """Look until the supervisor has enough."""
        look: Callable[[], Result | None] = (
            self._probe if self._controller.looks_at == "probes" else self._result
        )
        while not self._connection.poll(_LOOK_S):
            began = time.monotonic()
            result = look()
            if result is None:
                continue
            _tell(self._connection, what="looks", timepoint=result.timepoint)
            actions = list(self._controller.on_result(result))
            self._answer(result, actions, time.monotonic() - began)

    def _answer(self, result: Result, actions: list[Action], took_s: float) -> None:
        # The supervisor, who drops what is late and only logs a dry run, has no image to keep.
        counts = not self._entry.dry_run and took_s <= self._entry.deadline_s
        image = self._image
        if counts and image is not None and any(isinstance(a, Snapshot) for a in actions):
            save_snapshot(self._run, self._experiment, image.key, "phase", image.image)
        _tell(
            self._connection,
            what="decision",
            timepoint=result.timepoint,
            position=result.position,
            took_s=took_s,
            seen=_numbers(self._controller.seen),
            actions=[as_dict(action) for action in actions],
        )

    def _result(self) -> Result | None:
        """The newest phase image, if it is of a newer timepoint: what was caught up with is history."""
        image = self._mailbox.newest(self._seen_ns)
        if image is None:
            return None
        self._seen_ns = image.time_ns
        # Part of a field that is still being made of its tiles.
        if image.key.timepoint < self._newest or "pending" in image.info:
            return None
        self._newest, self._image = image.key.timepoint, image
        course = self._read_course()
        held = course.at(image.key)
        figures = dict(image.info) | {
            "missing": float(self._telemetry.missing_frames()),
            "acquired": float(self._telemetry.total("frames_acquired")),
            "written": float(self._telemetry.total("frames_written")),
        }
        scale = image.image.shape[0] / self._plan.frame_shape[0]
        return Result(
            timepoint=image.key.timepoint,
            position=image.key.position,
            phase=image.image,
            pixel_um=self._experiment.pixel_um / scale,
            figures=figures,
            due_s=course.due_s(image.key.timepoint),
            interval_s=held.interval_s,
            focus_um=held.focus_um,
        )

    def _probe(self) -> Result | None:
        """The newest probe, once."""
        timepoint = self._control.newest_probe
        if timepoint is None or timepoint == self._newest:
            return None
        self._newest = timepoint
        try:
            frames = np.load(probe_file(self._run, timepoint))
        except (OSError, ValueError):
            return None  # a newer one has taken its place
        probe = self._experiment.control.probe
        assert probe is not None
        course = self._read_course()
        # It was taken before its timepoint, under what held until then.
        held = course.at(SlotKey(max(timepoint - 1, 0), 0))
        return Result(
            timepoint=timepoint,
            position=0,
            due_s=course.due_s(timepoint),
            interval_s=held.interval_s,
            focus_um=held.focus_um,
            probe=Probe(frames, probe.foci_um),
        )

    def _read_course(self) -> Course:
        """What was steered so far: read again where it has grown."""
        with suppress(OSError):
            size = self._steering.path.stat().st_size
            if size != self._course_bytes:
                self._course, self._course_bytes = self._steering.course(self._plan), size
        return self._course


def _numbers(seen: Mapping[str, float]) -> dict[str, float]:
    return {str(name): round(float(value), 6) for name, value in seen.items()}


def _tell(connection: Connection, **line: Any) -> None:
    text = json.dumps(line).encode()
    if len(text) > _MOST_BYTES:
        raise ValueError(f"an answer of {len(text)} bytes is too long: see fewer things at a time")
    connection.send_bytes(text)
