"""`livephase bench ring`: what the ring costs beside the memory copies that nobody can avoid.

Throughput: one process copies frames into the ring, another copies them out. The baseline are
two processes that each copy the same frames between private buffers at the same time: as
many bytes moved, nothing shared, nobody waited for. Pairs of the two are interleaved, so
that whatever else the machine does meets both.

Latency: frames at a camera's pace, from the moment a slot's last frame is in the ring
until a reader holds its own whole copy, while a recorder reads every slot too.
"""

from __future__ import annotations

import multiprocessing
import os
import secrets
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import LivephaseError
from pipeline.frames import FrameStatus, Plan, PlannedChannel, Position, SlotKey
from pipeline.ring import Ring
from pipeline.store.checksum import crc32c
from pipeline.waiting import wait_for

_Frames = list[NDArray[np.uint16]]

# More than the last-level cache of a workstation, so that copies come from memory as a camera's do.
_SOURCES = 8
_SLOTS = 16
# Between the order to start and the start: both processes are awake by then.
_LEAD_S = 0.05
_MARGIN_S = 60.0


def bench_ring(
    seconds: float = 1.5,
    pairs: int = 7,
    latency_s: float = 20.0,
    rate_hz: float = 30.0,
    frame_shape: tuple[int, int] = (2048, 2048),
) -> dict[str, Any]:
    """Throughput against plain memory copies, and the latency of a hand-off.

    Parameters
    ----------
    seconds
        Of each measurement; there are two in each of the `pairs`.
    latency_s, rate_hz
        How long and how fast frames are paced for the latency.
    frame_shape
        ``(y, x)`` of the uint16 frames, one in a slot.

    Returns
    -------
    dict
        ``ratio_to_memcpy`` (median over the pairs), ``latency_ms`` ``{p50, p99}``, and the conditions.
    """
    plan = Plan(
        1, (Position("bench"),), (PlannedChannel("bench", 1.0, 1.0),), (0.0,), frame_shape, 16
    )
    name = f"livephase-{secrets.token_hex(4)}-bench"
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with ExitStack() as stack:
        ring = stack.enter_context(Ring.create(name, plan, _SLOTS))
        stack.callback(ring.unlink)
        writer, recorder, reader = (
            stack.enter_context(_Worker(name, frame_shape)) for _ in range(3)
        )
        through_ring: list[tuple[int, int]] = []
        plain: list[tuple[int, int]] = []
        # The first pair warms caches and page tables and does not count.
        for pair in range(pairs + 1):
            for measure, results in (
                ((_write, _record), through_ring),
                ((_copy, _copy), plain),
            )[:: 1 if pair % 2 else -1]:
                start = time.monotonic() + _LEAD_S
                writer.start(measure[0], start, seconds)
                recorder.start(measure[1], start, seconds)
                results.append((writer.result(), recorder.result()))
                ring.free(ring.head)
        start = time.monotonic() + _LEAD_S
        reader.start(_read, start, latency_s)
        recorder.start(_checksum, start, latency_s)
        writer.start(_write_paced, start, latency_s, rate_hz)
        written, recorded, latencies = writer.result(), recorder.result(), reader.result()
    if len(latencies) < written / 2:
        raise LivephaseError(
            f"the reader saw {len(latencies)} of {written} slots",
            "run the bench on a machine with less to do",
        )
    # A frame is through the ring once it is out again; of the plain copiers each moves it once.
    ring_hz = [out / seconds for _, out in through_ring[1:]]
    plain_hz = [(a + b) / 2 / seconds for a, b in plain[1:]]
    ratios = [r / p for r, p in zip(ring_hz, plain_hz, strict=True)]
    frame_mb = plan.slot_bytes / 1e6
    p50, p99 = np.percentile(1e3 * np.array(latencies), [50, 99])
    return {
        "ratio_to_memcpy": round(statistics.median(ratios), 3),
        "latency_ms": {"p50": round(float(p50), 3), "p99": round(float(p99), 3)},
        "ratios": [round(r, 3) for r in ratios],
        "ring_mb_per_s": round(statistics.median(ring_hz) * frame_mb),
        "memcpy_mb_per_s": round(statistics.median(plain_hz) * frame_mb),
        "latency_max_ms": round(1e3 * max(latencies), 3),
        "conditions": {
            "frame_shape": list(frame_shape),
            "dtype": "uint16",
            "frame_mb": round(frame_mb, 2),
            "frames_through_ring": sum(out for _, out in through_ring[1:]),
            "slots": _SLOTS,
            "pairs": pairs,
            "seconds_each": seconds,
            "rate_hz": rate_hz,
            "paced_frames": written,
            "paced_frames_recorded": recorded,
            "paced_frames_read": len(latencies),
            "cores": os.cpu_count(),
            "load_average_before": load,
        },
    }


_Task = Callable[..., Any]


class _Worker:
    """A process that holds its frames ready and does one task after the other."""

    def __init__(self, ring: str, frame_shape: tuple[int, int]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._seconds = 0.0
        self._connection, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_work, args=(ring, frame_shape, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> _Worker:
        self.result()  # frames made, memory touched
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()
        self._connection.close()

    def start(self, task: _Task, start: float, seconds: float, *arguments: float) -> None:
        """Begin a task at a time of the monotonic clock."""
        self._connection.send((task, start, seconds, arguments))
        self._seconds = seconds

    def result(self) -> Any:
        """What the task gave back."""
        with suppress(EOFError):
            if self._connection.poll(self._seconds + _MARGIN_S):
                return self._connection.recv()
        raise LivephaseError(
            "a process of the bench died or does not answer",
            "see what it printed, and run it on a machine with less to do",
        )


def _work(name: str, frame_shape: tuple[int, int], connection: Connection) -> None:
    rng = np.random.default_rng(os.getpid())
    sources = [rng.integers(0, 65536, frame_shape, np.uint16) for _ in range(_SOURCES)]
    for number, source in enumerate(sources):
        source[0, 0] = source[-1, -1] = number
    targets = [np.ones(frame_shape, np.uint16) for _ in range(_SLOTS)]
    with Ring.attach(name) as ring:
        connection.send("ready")
        while True:
            task, start, seconds, arguments = connection.recv()
            time.sleep(max(0.0, start - time.monotonic()))
            connection.send(task(ring, sources, targets, start + seconds, *arguments))


def _copy(_: Ring, sources: _Frames, targets: _Frames, end: float) -> int:
    """Plain copies; how many."""
    n = 0
    while time.monotonic() < end:
        np.copyto(targets[n % len(targets)], sources[n % len(sources)])
        n += 1
    return n


def _write(ring: Ring, sources: _Frames, _: _Frames, end: float) -> int:
    """Frames into the ring, as many as it takes."""
    n = 0
    while (left := end - time.monotonic()) > 0 and _put(ring, sources[n % len(sources)], n, left):
        n += 1
    return n


def _write_paced(ring: Ring, sources: _Frames, _: _Frames, end: float, rate_hz: float) -> int:
    """Frames into the ring at a camera's pace."""
    start, n = time.monotonic(), 0
    while (due := start + n / rate_hz) < end:
        time.sleep(max(0.0, due - time.monotonic()))
        if not _put(ring, sources[n % len(sources)], n, timeout_s=1.0):
            raise LivephaseError("the ring was full for a second", "the bench's recorder is stuck")
        n += 1
    return n


def _put(ring: Ring, frame: NDArray[np.uint16], n: int, timeout_s: float) -> bool:
    slot = ring.begin(SlotKey(n, 0), timeout_s)
    if slot is None:
        return False
    np.copyto(slot.frames[0], frame)
    slot.records["status"] = FrameStatus.WRITTEN
    slot.records["time_monotonic"] = time.monotonic()
    slot.publish()
    return True


def _record(ring: Ring, _: _Frames, targets: _Frames, end: float) -> int:
    """Frames out of the ring; how many."""
    sequence = first = ring.tail
    while time.monotonic() < end:
        held = ring.take(sequence)
        if held is None:
            _wait_for_slot(ring, sequence, end)
            continue
        target = targets[sequence % len(targets)]
        np.copyto(target, held.frames[0])
        if not target[0, 0] == target[-1, -1] == held.key.timepoint % _SOURCES:
            raise LivephaseError(f"slot {sequence} came out wrong", "this is a bug: report it")
        sequence += 1
        ring.free(sequence)
    return sequence - first


def _checksum(ring: Ring, _: _Frames, __: _Frames, end: float) -> int:
    """What a recorder does besides writing: take, read every byte, free."""
    sequence = first = ring.tail
    while time.monotonic() < end:
        held = ring.take(sequence)
        if held is None:
            _wait_for_slot(ring, sequence, end)
            continue
        crc32c(held.frames)
        sequence += 1
        ring.free(sequence)
    return sequence - first


def _wait_for_slot(ring: Ring, sequence: int, end: float) -> bool:
    return wait_for(lambda: ring.head > sequence, end - time.monotonic())


def _read(ring: Ring, _: _Frames, targets: _Frames, end: float) -> list[float]:
    """Seconds from a slot's last frame until it is copied, of every slot that was seen."""
    latencies, seen = [], ring.head
    while time.monotonic() < end:
        if not _wait_for_slot(ring, seen, end):
            break
        seen = ring.head
        copied = ring.copy(seen - 1, targets[seen % len(targets)][np.newaxis])
        if copied is not None:
            latencies.append(time.monotonic() - float(copied.records["time_monotonic"][0]))
    return latencies
