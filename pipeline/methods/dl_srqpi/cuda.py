"""On a GPU: one launch a frame.

A network of forty layers is launched from Python in a millisecond or more, as long as a fast GPU computes
it; a CUDA graph replays all launches as one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

log = logging.getLogger("livephase")

Compute = Callable[[torch.Tensor], torch.Tensor]

# Before the capture: libraries load kernels and take workspaces, which a capture forbids.
_WARM_UP_RUNS = 3


class Replayed:
    """A pure function of one tensor as a CUDA graph, for one thread at a time.

    cuDNN chooses its algorithms by rule, not by a benchmark: after a restart they are the same ones.

    Parameters
    ----------
    compute
        Reads nothing else that changes, and never waits for the GPU.
    example
        Of the shape, strides, type and device of what will come.

    Raises
    ------
    RuntimeError
        If it does what a graph can't hold, or memory is short.
    """

    def __init__(self, compute: Compute, example: torch.Tensor) -> None:
        # A graph reads and writes the memory that it was captured with: all of it has to stay, and what
        # `compute` holds, too.
        self._compute = compute
        self._given = example.clone()
        self._graph = torch.cuda.CUDAGraph()
        device = example.device
        # The GPU may not be the process's current one, and a capture that fails leaves its stream current.
        with torch.cuda.device(device), torch.cuda.stream(torch.cuda.current_stream(device)):
            side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(side):
                for _ in range(_WARM_UP_RUNS):
                    compute(self._given)
            # Other threads of the process may use the GPU meanwhile.
            with torch.cuda.graph(self._graph, stream=side, capture_error_mode="thread_local"):
                self._result = compute(self._given)
            torch.cuda.current_stream(device).wait_stream(side)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The same as ``compute(x)``, on the current stream."""
        self._given.copy_(x)
        self._graph.replay()
        # The next replay overwrites it.
        return self._result.clone()


def replayed(
    compute: Compute,
    example: torch.Tensor,
    capture: Callable[[Compute, torch.Tensor], Compute] = Replayed,
) -> Compute:
    """`compute` as a CUDA graph; as it is, with a warning, where it can't be captured."""
    try:
        return capture(compute, example)
    except RuntimeError as error:
        log.warning(
            "dl_srqpi runs without a CUDA graph for frames of shape %s, slower: %s",
            tuple(example.shape),
            str(error).partition("\n")[0],
        )
        return compute
