"""`livephase bench service`: do ten pages, one of them stalled, cost acquisition anything?"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websockets

from pipeline.bench.handoff import HandoffBench
from pipeline.errors import LivephaseError
from pipeline.server.client import Client
from pipeline.server.home import Home
from pipeline.stages.orphan import watch_parent

_CLIENTS = 10
_RUNS = 5
_PATIENCE_S = 60.0


def bench_service(
    folder: Path, recording: HandoffBench | None = None, runs: int = _RUNS
) -> dict[str, Any]:
    """The hand-off of a run without anybody who looks, and with ten pages, of which one reads nothing.

    Parameters
    ----------
    folder
        On the disk to measure. Everything is written into a temporary folder in it.
    runs
        Of each kind, in turns; medians are told.

    Returns
    -------
    dict
        ``handoff_ms {p50, p99}`` with pages, ``alone_ms`` without, ``missing`` of all runs, ``images`` that the
        pages got in the median run, and the conditions.

    Raises
    ------
    LivephaseError
        A run or the service failed.
    """
    recording = recording or HandoffBench(seconds=10.0)
    alone, watched, images = [], [], []
    with tempfile.TemporaryDirectory(prefix="livephase-bench-", dir=folder) as name:
        place = Path(name)
        experiment = recording.prepare(place)
        home = Home(place / "home")
        home.make()
        for number in range(runs):
            out = home.runs / f"alone-{number}"
            alone.append(recording.measure_run(experiment, out))
            shutil.rmtree(out)
            out = home.runs / f"watched-{number}"
            with _service(home) as client, _Pages(client) as pages:
                watched.append(recording.measure_run(experiment, out))
                images.append(pages.images())
            shutil.rmtree(out)
    return {
        "handoff_ms": _median(watched),
        "alone_ms": _median(alone),
        "missing": sum(r["handoff"]["missing"] for r in (*alone, *watched)),
        "images": statistics.median(images),
        "conditions": {
            "pages": _CLIENTS,
            "stalled": 1,
            "runs": runs,
            "frame_shape": list(recording.frame_shape),
            "rate_hz": recording.rate_hz,
            "seconds": recording.seconds,
            "p99_ms": [r["handoff_ms"]["p99"] for r in watched],
            "p99_alone_ms": [r["handoff_ms"]["p99"] for r in alone],
            "cores": os.cpu_count(),
        },
    }


def _median(results: list[dict[str, Any]]) -> dict[str, float]:
    return {q: statistics.median(r["handoff_ms"][q] for r in results) for q in ("p50", "p99")}


@contextmanager
def _service(home: Home) -> Iterator[Client]:
    command = [sys.executable, "-m", "pipeline", "serve", "--home", str(home.path), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while home.address() is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise LivephaseError(
                    "the service of the bench did not start", "see `livephase serve`"
                )
            time.sleep(0.05)
        yield Client.of_home(home.path)
    finally:
        process.terminate()
        process.wait()


class _Pages:
    """A process with the websockets of all pages."""

    def __init__(self, client: Client) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._counter = spawn.Value("i", 0)
        self._process = spawn.Process(target=_look, args=(client.page, self._counter), daemon=True)

    def __enter__(self) -> _Pages:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def images(self) -> int:
        """How many images they have got."""
        return int(self._counter.value)


def _look(page: str, counter: Any) -> None:
    # Ctrl+C reaches every process of the terminal: the bench ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watch_parent()
    address, token = page.split("?token=")
    asyncio.run(_look_at(address.replace("http", "ws", 1) + "api/live", token, counter))


async def _look_at(address: str, token: str, counter: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(_CLIENTS):
            group.create_task(_page(address, token, counter, stalled=number == 0))


async def _page(address: str, token: str, counter: Any, *, stalled: bool) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    async with websockets.connect(address, additional_headers=headers, max_size=None) as socket:
        if stalled:
            await asyncio.Event().wait()
        async for message in socket:
            if isinstance(message, bytes):
                header = json.loads(message[4 : 4 + int.from_bytes(message[:4], "little")])
                with counter.get_lock():
                    counter.value += 1
                await socket.send(json.dumps({"type": "ack", "seq": header["seq"]}))
