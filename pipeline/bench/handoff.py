"""How soon a reconstructor sees a measurement, in a run as users have it.

Acquire and record are the run's own processes. The reader is a third one, which looks for slots as
the reconstruct stage does and reconstructs nothing.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.bench.recordings import PacedRecording, run_quietly, warnings_of
from pipeline.control import RECONSTRUCT, Control, StageState
from pipeline.errors import LivephaseError
from pipeline.experiment import Experiment
from pipeline.lifecycle.sessions import read_sessions
from pipeline.ring import Ring
from pipeline.stages.backlog import Backlog
from pipeline.stages.newest import NewestSlot
from pipeline.stages.orphan import watch_parent
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunFolder
from pipeline.telemetry import Telemetry

# As the reconstruct stage.
_LOOK_S = 0.001
# For the reader's start, and between the end of the run and its answer.
_PATIENCE_S = 30.0


class Seen(NamedTuple):
    """A slot that the reader took, by its timepoint. Times are of the monotonic clock."""

    timepoint: int
    seen: float
    copied: float


@dataclass(frozen=True)
class HandoffBench(PacedRecording):
    """The measurement's size: one channel at a camera's pace."""

    frame_shape: tuple[int, int] = (2048, 2048)
    rate_hz: float = 30.0
    seconds: float = 20.0
    source_frames: int = 16

    def measure(self, folder: Path) -> dict[str, Any]:
        """Measure in an empty folder.

        Returns
        -------
        dict
            ``handoff_ms`` ``{p50, p99}`` from the pop of a slot's last frame until the reader
            sees the slot complete, over every slot, and the conditions.
        """
        return self.measure_run(self.prepare(folder), folder / "run")

    def measure_run(self, experiment: Experiment, out: Path) -> dict[str, Any]:
        """The same, of a prepared experiment's run in a folder of its own."""
        with _Reader(out, experiment) as reader:
            result = run_quietly(experiment, out)
            seen = reader.result()
        timepoints, seen_at, copied_at = np.array(seen).reshape(-1, 3).T
        popped = RunReader(out).frame_table()["time_monotonic"].reshape(-1)
        # A slot that the reader passed over was complete, too, when it took the next one.
        first = np.searchsorted(timepoints, np.arange(self.frames))
        if len(seen) == 0 or first[-1] == len(seen):
            raise LivephaseError(
                "the reader did not see the last slot of the run", "this is a bug: report it"
            )
        seen_ms, copied_ms = (1e3 * (at[first] - popped) for at in (seen_at, copied_at))
        return {
            "handoff_ms": _quantiles(seen_ms),
            "handoff": {
                "copied_ms": _quantiles(copied_ms),
                "max_ms": round(float(seen_ms.max()), 3),
                "slots": self.frames,
                "slots_passed_over": self.frames - len(seen),
                "fps": result.report["fps"],
                "missing": result.report["planned"] - result.report["written"],
                "rate_hz": self.rate_hz,
                "frame_shape": list(self.frame_shape),
                "warnings": warnings_of(result),
            },
        }


def _quantiles(ms: NDArray[np.float64]) -> dict[str, float]:
    p50, p99 = np.percentile(ms, [50, 99])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}


class _Reader:
    """The process that reads."""

    def __init__(self, run: Path, experiment: Experiment) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._connection, theirs = spawn.Pipe(duplex=False)
        self._process = spawn.Process(target=_read, args=(run, experiment, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> _Reader:
        self._receive()  # it is up: the run may begin
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()
        self._connection.close()

    def result(self) -> list[Seen]:
        """What it saw, once the run is over."""
        seen: list[Seen] = self._receive()
        return seen

    def _receive(self) -> Any:
        with suppress(EOFError):
            if self._connection.poll(_PATIENCE_S):
                return self._connection.recv()
        raise LivephaseError(
            "the reader of the bench died or does not answer",
            "see what it printed, and run the bench on a machine with less to do",
        )


def _read(run: Path, experiment: Experiment, connection: Connection) -> None:
    # Ctrl+C reaches every process of the terminal: the bench ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watch_parent()
    connection.send("ready")
    with ExitStack() as stack:
        ring, control, telemetry = _attach(run, stack)
        connection.send(_follow(experiment, RunFolder(run), ring, control, telemetry))


def _attach(run: Path, stack: ExitStack) -> tuple[Ring, Control, Telemetry]:
    """The run's shared memory, once it is there: before the first frame, which waits for the stages."""
    while True:
        # Not there yet, or only half of it.
        with suppress(LivephaseError, IndexError), ExitStack() as attached:
            names = read_sessions(RunFolder(run))[-1].shared_memory
            ring = attached.enter_context(Ring.attach(names["ring"]))
            control = attached.enter_context(Control.attach(names["control"]))
            telemetry = attached.enter_context(Telemetry.attach(names["telemetry"]))
            stack.enter_context(attached.pop_all())
            return ring, control, telemetry
        time.sleep(_LOOK_S)


def _follow(
    experiment: Experiment, folder: RunFolder, ring: Ring, control: Control, telemetry: Telemetry
) -> list[Seen]:
    """The reconstruct stage's loop, without its method and its store."""
    plan = experiment.plan()
    newest = NewestSlot(
        ring, np.empty(plan.slot_shape, plan.dtype), telemetry.writer("reconstruct-0")
    )
    backlog = Backlog(folder, experiment, 0, is_done=lambda _: False)
    stage = control.stage(RECONSTRUCT)
    seen: list[Seen] = []
    while True:
        stage.beat()
        over = stage.acquisition in (StageState.FINISHED, StageState.GONE)
        backlog.poll()
        slot = newest.take()
        if slot is not None:
            seen.append(Seen(slot.key.timepoint, slot.seen, time.monotonic()))
            if backlog.wants(slot.key):
                backlog.begin(slot.key)
        elif over:
            return seen
        else:
            time.sleep(_LOOK_S)
