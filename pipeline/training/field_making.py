"""Specimens drawn and imaged in several processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import MethodError
from pipeline.methods.dl_srqpi.conditions import Conditions
from pipeline.stages.orphan import watch_parent
from pipeline.training.data import Fields, Imaging, MakePhase

# Each holds torch, a third of a gigabyte; and Windows can't wait for more than 61.
_MOST_PROCESSES = 32
_REPORT_EVERY = 50


def processors() -> int:
    """How many this process may use, up to 32."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(mine or 1, _MOST_PROCESSES)


def make_fields(
    make_phase: MakePhase,
    seeds: Sequence[int],
    imaging: Imaging,
    workers: int = 1,
    report: Callable[[int], None] = lambda _: None,
) -> Fields:
    """Draw specimens and image them; the same fields from any number of processes.

    Parameters
    ----------
    make_phase
        A function of a module, for the processes to import.
    report
        Called with the number of fields made, now and then.

    Raises
    ------
    MethodError
        If a process dies.
    """
    phases, frames, conditions = [], [], []
    for phase, seen, under in in_processes(partial(_make, make_phase, imaging), seeds, workers):
        phases.append(torch.from_numpy(phase))
        frames.append(torch.from_numpy(seen))
        conditions.append(under)
        if len(phases) % _REPORT_EVERY == 0:
            report(len(phases))
    return Fields(torch.stack(phases), torch.stack(frames), tuple(conditions))


_Made = tuple[NDArray[np.float16], NDArray[np.float32], tuple[Conditions, ...]]
Result = TypeVar("Result")


def in_processes(
    make: Callable[[int], Result], seeds: Sequence[int], workers: int
) -> Iterator[Result]:
    """What a function makes of seeds, in their order, from several processes.

    Parameters
    ----------
    make
        A function of a module or a `functools.partial` of one, for the processes to import.

    Raises
    ------
    MethodError
        If a process dies.
    """
    workers = min(workers, len(seeds) // 2)
    if workers <= 1:
        yield from (make(seed) for seed in seeds)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin_worker)
    try:
        yield from pool.map(make, seeds)
    except BrokenProcessPool as error:
        raise MethodError(
            "a process that makes training fields died, most likely for want of memory",
            "close other programs and give the same command again",
        ) from error
    finally:
        # An interrupt waits for the fields in hand, a second or two, and begins no other.
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    # Ctrl+C is the parent's to handle; should it die otherwise, nobody waits for this process's work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watch_parent()
    torch.set_num_threads(1)


def _make(make_phase: MakePhase, imaging: Imaging, seed: int) -> _Made:
    phase, frames, conditions = imaging(make_phase, seed)
    return phase.to(torch.float16).numpy(), frames.numpy(), conditions
