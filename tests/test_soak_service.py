"""A day in fast-forward and an hour in real time: memory stays flat, no file stays open, everything is there.

`pytest -m soak tests/test_soak_service.py -s` prints what was measured.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import defaultdict
from contextlib import suppress

import numpy as np
import psutil
import pytest
import websockets
from service_process import ServiceProcess, small

from pipeline.control import ACQUIRE, RECONSTRUCT, RECORD, Control
from pipeline.errors import LivephaseError
from pipeline.store.run_folder import RunState
from pipeline.store.verify import verify

pytestmark = pytest.mark.soak

# Of all processes together.
_GROWTH = 0.05
# Of each: an allocator keeps a large piece, or gives it back; a leak goes on and on.
_STEP = 0.1
# Of processes so small that a few pages are a share of them.
_SLACK_MB = 1.0
_SLACK_FILES = 8


class Page(threading.Thread):
    """A page that is open all the time."""

    def __init__(self, service) -> None:
        super().__init__(daemon=True)
        self._address = service.address.replace("http", "ws") + "api/live"
        self._headers = {"Authorization": f"Bearer {service.token}"}
        self.images = 0

    def run(self):
        with suppress(Exception):
            asyncio.run(self._look())

    async def _look(self):
        async with websockets.connect(
            self._address, additional_headers=self._headers, max_size=None
        ) as socket:
            async for message in socket:
                if isinstance(message, bytes):
                    header = json.loads(message[4 : 4 + int.from_bytes(message[:4], "little")])
                    await socket.send(json.dumps({"type": "ack", "seq": header["seq"]}))
                    self.images += 1


_STAGES = {ACQUIRE: "acquire", RECORD: "record", RECONSTRUCT: "reconstruct"}


def _stages(folder) -> dict[int, str]:
    """The run's stages, by process id."""
    with suppress(LivephaseError, KeyError, IndexError):
        names = folder.info()["sessions"][-1]["shared_memory"]
        with Control.attach(names["control"]) as control:
            return {control.report(index).pid: stage for index, stage in _STAGES.items()}
    return {}


def _measure(service, folder, seen) -> None:
    root = psutil.Process(service.process.pid)
    kinds = {service.process.pid: "service", **_stages(folder)}
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.Error):
            kind = kinds.get(process.pid) or ("run" if "run" in process.cmdline() else "helper")
            # What is its own: the ring, which all share, is preallocated.
            memory = process.memory_full_info().uss
            seen[(kind, process.pid)].append((time.monotonic(), memory, process.num_fds()))


def _soak(service, experiment: str, settled) -> dict[str, object]:
    """Run it to its end; what each process had at the beginning, once it was settled, and at the end."""
    page = Page(service)
    page.start()
    name = service.client.begin(experiment, "soak")
    seen = defaultdict(list)
    began = time.monotonic()
    settled_at = None
    while service.client.status().service.state != "idle":
        _measure(service, service.folder(name), seen)
        run = service.client.status().run
        if settled_at is None and settled(run, time.monotonic() - began):
            settled_at = time.monotonic()
        time.sleep(2.0)
    assert settled_at is not None, "the run was over before it was settled"
    folder = service.folder(name)
    assert folder.state() is RunState.DONE
    found = verify(folder.path)
    assert found.ok, found
    figures = {}
    for (kind, pid), samples in seen.items():
        after = [s for s in samples if s[0] >= settled_at]
        if len(after) < 10:
            continue
        fifth = max(1, len(after) // 5)
        first, last = after[:fifth], after[-fifth:]
        # The floor: an allocator gives large pieces back now and then, a leak is what it never gets below again.
        memory = [float(np.quantile([s[1] for s in part], 0.1)) for part in (first, last)]
        files = [float(np.median([s[2] for s in part])) for part in (first, last)]
        figures[f"{kind} {pid}"] = {"mb": [round(m / 1e6, 1) for m in memory], "files": files}
    print(json.dumps(figures))
    total = [sum(grown["mb"][i] for grown in figures.values()) for i in (0, 1)]
    assert total[1] <= total[0] * (1 + _GROWTH), (total, figures)
    for kind, grown in figures.items():
        (before, after), files = grown["mb"], grown["files"]
        assert after <= before * (1 + _STEP) + _SLACK_MB, (kind, figures)
        assert files[1] <= files[0] + _SLACK_FILES, (kind, figures)
    assert len(figures) >= 4, "service, supervisor, and three stages"
    assert page.images > 10
    report = {
        "minutes": round((time.monotonic() - began) / 60, 1),
        "images_pushed": page.images,
        "written": found.written,
        "missing": found.missing,
        "reconstructed": found.reconstructed,
        "total_mb": [round(mb, 1) for mb in total],
    }
    print(json.dumps(report, indent=1))
    return report


@pytest.mark.timeout(3600)
def test_a_day_in_fast_forward(tmp_path):
    day = small(timepoints=1440, interval_s=60).replace(
        "driver: simulator", "driver: simulator\n  paced: false"
    )
    with ServiceProcess(tmp_path / "home") as service:
        report = _soak(service, day, lambda run, _: run.frames_acquired > 0.1 * run.frames_planned)
    assert report["written"] == 1440 * 4


@pytest.mark.timeout(5400)
def test_an_hour_in_real_time(tmp_path):
    hour = small(timepoints=1800, interval_s=2.0)
    with ServiceProcess(tmp_path / "home") as service:
        report = _soak(service, hour, lambda _, seconds: seconds > 600)
    assert report["written"] == 1800 * 4
