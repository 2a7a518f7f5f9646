"""What a stage process is told when it is spawned, and how each of them begins."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from pipeline.calibration import Calibration
from pipeline.errors import LivephaseError
from pipeline.experiment import Experiment
from pipeline.frames import Plan, SlotKey
from pipeline.log import log_to, stop_logging
from pipeline.stages.priority import come_after_the_camera
from pipeline.stages.stage_lock import hold_stage_lock
from pipeline.store.run_folder import RunFolder

log = logging.getLogger("livephase")


@dataclass(frozen=True)
class StageContext:
    """Everything a stage needs; it is pickled into the spawned process.

    `ring`, `control`, `telemetry` and `mailbox` are names of shared memory that the supervisor owns.
    `todo` are the slots to take in this session, in order, and `light_spent_s` the light that each position
    has had in earlier ones, in seconds of full brightness (acquire only).
    """

    stage: str
    index: int
    run: Path
    experiment: Experiment
    ring: str
    control: str
    telemetry: str
    mailbox: str
    todo: tuple[SlotKey, ...] = ()
    light_spent_s: tuple[float, ...] = ()

    @property
    def plan(self) -> Plan:
        """The run's plan."""
        return self.experiment.plan()

    @property
    def folder(self) -> RunFolder:
        """The run's folder."""
        return RunFolder(self.run)

    def calibration(self) -> Calibration:
        """The calibration stored in the run, which is what every result is made with."""
        return Calibration.load(self.folder.calibration)


class StageReporter:
    """What a stage tells the person at the terminal, by way of the supervisor."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def message(self, text: str) -> None:
        """Something worth knowing while the run goes on."""
        log.warning(text)
        self._send(("message", text))

    def failure(self, error: LivephaseError) -> None:
        """Why this stage ends."""
        self._send(("failure", error))

    def _send(self, item: tuple[str, object]) -> None:
        # The supervisor may be gone; the orphan watch then ends this process.
        with suppress(OSError):
            self._connection.send(item)


@contextmanager
def stage_life(context: StageContext, reporter: StageReporter) -> Iterator[ExitStack]:
    """Log, ignore the terminal's signals, hold the stage's lock; undone in reverse order.

    Ctrl+C and a service manager's SIGTERM reach the whole process group: only
    the supervisor acts on them, and tells the stages through the control block.
    A failure goes to the log, and to the supervisor as a sentence.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    come_after_the_camera(context.stage)
    handler = log_to(context.folder.log, context.stage)
    try:
        with ExitStack() as stack:
            stack.enter_context(hold_stage_lock(context.run, context.stage))
            yield stack
    except LivephaseError as error:
        log.error("stage failed: %s", error)
        reporter.failure(error)
        sys.exit(error.exit_code)
    except Exception as error:
        log.exception("stage failed")
        reporter.failure(
            LivephaseError(
                f"the {context.stage} stage failed: {type(error).__name__}: {error}",
                f"{context.folder.log} has the details; what was committed is safe, `--resume` goes on",
            )
        )
        sys.exit(1)
    finally:
        stop_logging(handler)
