"""Batches that are drawn while the network is busy with the ones before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

Drawn = TypeVar("Drawn")


class Prefetched(Generic[Drawn]):
    """The batches of consecutive steps, in order, from several threads.

    A batch is a function of its step alone, so that it doesn't matter who draws it, or when. The transforms
    and the noise, most of the work, run without Python's lock.

    Parameters
    ----------
    draw
        The batch of a step.
    first
        Step of the first one.
    threads
        Draw so many at a time; as many wait. 0 draws when asked.
    """

    def __init__(self, draw: Callable[[int], Drawn], first: int, threads: int) -> None:
        self._draw, self._next = draw, first
        self._pool = ThreadPoolExecutor(threads, "livephase-batch") if threads else None
        self._waiting: deque[Future[Drawn]] = deque()
        for _ in range(2 * threads):
            self._ask()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def take(self) -> Drawn:
        """The next one. Raises what drawing it raised."""
        if self._pool is None:
            self._next += 1
            return self._draw(self._next - 1)
        self._ask()
        return self._waiting.popleft().result()

    def _ask(self) -> None:
        assert self._pool is not None  # asked in advance with threads only
        self._waiting.append(self._pool.submit(self._draw, self._next))
        self._next += 1
