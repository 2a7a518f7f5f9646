"""The parts of the tables, one to a process at a time: a processor's second core halves the wait."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Protocol

from pipeline.errors import MethodError
from pipeline.stages.orphan import watch_parent

Job = tuple[Callable[..., Any], tuple[Any, ...]]


class Executor(Protocol):
    """Runs jobs, and gives their results in their own order."""

    def __call__(self, jobs: Sequence[Job], done: Callable[[], None]) -> list[Any]:
        """Call `done` after each."""
        ...


@contextmanager
def executor(processes: int) -> Iterator[Executor]:
    """Processes of one thread each; with one, everything happens in this one.

    They are spawned: a fork of a process with torch's threads may hang. Running jobs raises MethodError if a
    process dies.
    """
    if processes <= 1:
        yield _here
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_begin_worker) as pool:

        def run(jobs: Sequence[Job], done: Callable[[], None]) -> list[Any]:
            def tell(future: Future[Any]) -> None:
                if not future.cancelled() and future.exception() is None:
                    done()

            try:
                futures = [pool.submit(function, *arguments) for function, arguments in jobs]
                for future in futures:
                    future.add_done_callback(tell)
                return [future.result() for future in futures]
            except BrokenProcessPool as error:
                raise MethodError(
                    "a process that makes the tables died, most likely for want of memory",
                    "close other programs and give the same command again",
                ) from error
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

        yield run


def _here(jobs: Sequence[Job], done: Callable[[], None]) -> list[Any]:
    results = []
    for function, arguments in jobs:
        results.append(function(*arguments))
        done()
    return results


def _begin_worker() -> None:
    import torch  # noqa: PLC0415 - this process may do without

    # Ctrl+C ends it at once and without a word, as a field in hand may take another minute; unless a shell has
    # told all of livephase to ignore it. Should the parent die otherwise, nobody waits for this process's work.
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    watch_parent()
    torch.set_num_threads(1)
