"""Who works on the units: processes of this machine, or a dask.distributed cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pipeline.errors import ExperimentError, LivephaseError
from pipeline.reprocess.units import Unit, reconstruct_unit
from pipeline.stages.orphan import watch_parent

log = logging.getLogger("livephase")

# A worker process that dies has mostly run out of memory: what is left is tried with half as many.
_ATTEMPTS = 3
_CONNECT_S = 10


class Outcome(NamedTuple):
    """What became of a unit: slots reconstructed, or the error."""

    unit: Unit
    slots: int
    error: Exception | None = None


class Executor(Protocol):
    """Has units worked on.

    `workers` is how many it works on at a time.
    """

    workers: int

    def run(self, run: Path, units: Sequence[Unit]) -> Iterator[Outcome]:
        """Yield the outcome of every unit of the run folder, as they come."""
        ...


@contextmanager
def open_executor(name: str, scheduler: str | None, workers: int) -> Iterator[Executor]:
    """``"local"`` with that many `workers`, or ``"dask"`` with those of a `scheduler` by address.

    Raises
    ------
    ExperimentError
        If the name, the number or the address can't be.
    LivephaseError
        If no scheduler answers.
    """
    if name == "local":
        if workers < 1:
            raise ExperimentError(f"{workers} workers can do nothing", "give one or more")
        yield LocalExecutor(workers)
        return
    if name != "dask":
        raise ExperimentError(f"there is no executor '{name}'", "use local or dask")
    if scheduler is None:
        raise ExperimentError(
            "the executor dask needs the address of a scheduler", "give it, such as tcp://host:8786"
        )
    from distributed import Client  # noqa: PLC0415 - a second that only its users should pay

    try:
        client = Client(scheduler, timeout=_CONNECT_S)
    except (OSError, ValueError) as error:
        raise LivephaseError(
            f"no dask scheduler answers at {scheduler} ({error})",
            "start one with `dask scheduler`, and workers with `dask worker ADDRESS`",
        ) from error
    with client:
        yield DaskExecutor(client)


class LocalExecutor:
    """Spawned processes of this machine; they end with this one, whichever way it ends."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, run: Path, units: Sequence[Unit]) -> Iterator[Outcome]:
        """See `Executor`."""
        left, workers = list(units), self.workers
        for _ in range(_ATTEMPTS):
            left = yield from _run_pool(run, left, workers)
            if not left:
                return
            workers = max(1, workers // 2)
            log.warning("a worker process died: %d units are tried again", len(left))
        died = LivephaseError(
            "a worker process died, most likely for want of memory", "use fewer workers"
        )
        yield from (Outcome(unit, 0, died) for unit in left)


def _run_pool(
    run: Path, units: Sequence[Unit], workers: int
) -> Generator[Outcome, None, list[Unit]]:
    """Yield outcomes; returns the units that a dying worker left undone."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    left = []
    pool = ProcessPoolExecutor(
        min(workers, len(units)), mp_context=get_context("spawn"), initializer=watch_parent
    )
    try:
        futures = {pool.submit(reconstruct_unit, run, unit, threads): unit for unit in units}
        for future in as_completed(futures):
            if isinstance(future.exception(), BrokenProcessPool):
                left.append(futures[future])
            else:
                yield _outcome(futures[future], future)
    finally:
        # An interrupt, or a caller that has enough: what has not begun does not begin.
        pool.shutdown(cancel_futures=True)
    return left


class DaskExecutor:
    """The workers of a dask cluster; they need livephase and see the run folder under its path."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.workers = max(1, sum(client.nthreads().values()))

    def run(self, run: Path, units: Sequence[Unit]) -> Iterator[Outcome]:
        """See `Executor`."""
        from distributed import as_completed as completed  # noqa: PLC0415 - see open_executor

        if not self._client.nthreads():
            log.warning("the dask scheduler has no workers as yet: waiting for them")
        # Not pure: what a unit has to do depends on the folder, not on the arguments alone.
        futures = [self._client.submit(reconstruct_unit, run, unit, pure=False) for unit in units]
        unit_of = {future.key: unit for future, unit in zip(futures, units, strict=True)}
        for future in completed(futures):
            yield _outcome(unit_of[future.key], future)


def _outcome(unit: Unit, future: Any) -> Outcome:
    error = future.exception()
    if error is None:
        return Outcome(unit, future.result())
    if not isinstance(error, Exception):  # a KeyboardInterrupt in a worker is for all of us
        raise error
    return Outcome(unit, 0, error)
