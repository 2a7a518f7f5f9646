"""On a GPU: one launch a frame, and copies beside the computing.

A network of forty layers is launched from Python in a millisecond or more, as long as a fast GPU computes
it; a CUDA graph replays all launches as one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

log = logging.getLogger("livephase")

Compute = Callable[[torch.Tensor], torch.Tensor]

# Runs before capture: libraries choose algorithms and take memory, which a capture forbids.
_WARM_UP_RUNS = 3
# Each keeps its tensors in GPU memory.
_MOST_GRAPHS = 4


def capture(compute: Compute, example: torch.Tensor) -> Compute:
    """`compute` as a CUDA graph for tensors like `example`, on their device.

    Raises
    ------
    RuntimeError
        If it does what a graph can't hold (waiting for the GPU, say), or memory is short.
    """
    given = example.clone()
    side = torch.cuda.Stream(example.device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(example.device))
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP_RUNS):
            compute(given)
    torch.cuda.current_stream(example.device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = compute(given)

    def replay(x: torch.Tensor) -> torch.Tensor:
        given.copy_(x)
        graph.replay()
        # The next replay overwrites it.
        return result.clone()

    return replay


class Graphed:
    """A pure function of one tensor, captured once for each shape that comes.

    What can't be captured runs as it is, and a warning says so.
    """

    def __init__(
        self, compute: Compute, capture: Callable[[Compute, torch.Tensor], Compute] = capture
    ) -> None:
        self._compute = compute
        self._capture = capture
        self._graphs: dict[tuple[int, ...], Compute] = {}

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The same as ``compute(x)``."""
        shape = tuple(x.shape)
        if shape not in self._graphs:
            if len(self._graphs) >= _MOST_GRAPHS:
                return self._compute(x)
            self._graphs[shape] = self._captured(x)
        return self._graphs[shape](x)

    def _captured(self, x: torch.Tensor) -> Compute:
        try:
            return self._capture(self._compute, x)
        except RuntimeError as error:
            log.warning(
                "dl_srqpi runs without a CUDA graph for frames of shape %s, slower: %s",
                tuple(x.shape),
                str(error).partition("\n")[0],
            )
            return self._compute


@contextmanager
def registered(memory: NDArray[np.generic]) -> Iterator[bool]:
    """Host memory (a ring's, say) page-locked meanwhile, so that copies from it run beside the computing.

    Yields whether the driver took it; without, copies are as right, and wait.
    """
    runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    address = memory.ctypes.data
    taken = int(runtime.cudaHostRegister(address, memory.nbytes, 0)) == 0
    if not taken:
        log.warning("host memory can't be registered with CUDA: copies will not overlap")
    try:
        yield taken
    finally:
        if taken:
            # Whatever still reads it must have ended.
            torch.cuda.synchronize()
            runtime.cudaHostUnregister(address)


class _Event(Protocol):
    def synchronize(self) -> None: ...


def overlapped(
    frames: Iterable[torch.Tensor], compute: Compute, device: torch.device
) -> Iterator[torch.Tensor]:
    """Phases on the host, one for each frame, in order: copies of one run beside the computing of the next.

    Nothing waits for a batch to fill: a frame is sent as it comes, and given out when the next one is on its way.

    Parameters
    ----------
    frames
        Host tensors; in registered or pinned memory, else their copies wait. Each must stay as it is until
        its phase has come out.
    """
    sending, computing, fetching = (
        torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        for _ in range(3)
    )
    before: tuple[torch.Tensor, _Event] | None = None
    for frame in frames:
        with torch.cuda.stream(sending):
            sent = frame.to(device, non_blocking=True)
        computing.wait_stream(sending)
        with torch.cuda.stream(computing):
            # Its memory may be given to another tensor only after this stream has read it.
            sent.record_stream(computing)
            phase = compute(sent)
        fetching.wait_stream(computing)
        with torch.cuda.stream(fetching):
            phase.record_stream(fetching)
            fetched = torch.empty(phase.shape, dtype=phase.dtype, pin_memory=True)
            fetched.copy_(phase, non_blocking=True)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(fetching)
        if before is not None:
            yield _finished(*before)
        before = fetched, done
    if before is not None:
        yield _finished(*before)


def _finished(fetched: torch.Tensor, done: _Event) -> torch.Tensor:
    done.synchronize()
    return fetched
