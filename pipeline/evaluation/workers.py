"""The parts of the tables, one to a process at a time: a processor's second core halves the wait."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

Job = tuple[Callable[..., Any], tuple[Any, ...]]


class Executor(Protocol):
    """Runs jobs, and gives their results in their own order."""

    def __call__(self, jobs: Sequence[Job], done: Callable[[], None]) -> list[Any]:
        """Call `done` after each."""
        ...


@contextmanager
def executor(processes: int) -> Iterator[Executor]:
    """Processes of one thread each; with one, everything happens in this one.

    They are spawned: a fork of a process with torch's threads may hang.
    """
    if processes <= 1:
        yield _here
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_one_thread) as pool:

        def run(jobs: Sequence[Job], done: Callable[[], None]) -> list[Any]:
            futures = [pool.submit(function, *arguments) for function, arguments in jobs]
            for future in futures:
                future.add_done_callback(lambda _: done())
            try:
                return [future.result() for future in futures]
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


def _one_thread() -> None:
    import torch  # noqa: PLC0415 - this process may do without

    torch.set_num_threads(1)
