"""`livephase serve` as its users have it: a process of its own, spoken to over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import yaml

from pipeline.server.client import Client
from pipeline.server.home import Home
from pipeline.store.run_folder import RunFolder

SMALL = {
    "name": "small cells",
    "microscope": {
        "driver": "simulator",
        "seed": 3,
        "camera": {"shape_px": [64, 64], "pixel_um": 6.5, "bit_depth": 16, "frame_rate_hz": 100},
        "specimen": {"kind": "cells"},
    },
    "optics": {"wavelength_um": 0.55, "numerical_aperture": 0.4, "magnification": 10},
    "illumination": {
        "source": "led_array",
        "array": {"rows": 9, "columns": 9, "pitch_mm": 4.0, "distance_mm": 40.0},
        "patterns": {
            name: {"kind": "half_circle", "direction_deg": degrees}
            for name, degrees in (("right", 0), ("top", 90), ("left", 180), ("bottom", 270))
        },
        "channels": {
            name: {"pattern": name, "exposure_ms": 5} for name in ("right", "top", "left", "bottom")
        },
    },
    "sequence": {"timepoints": 400, "interval_s": 0.25},
    "calibration": {"source": "simulator"},
    "reconstruction": {"method": "dpc"},
}


def small(**sequence) -> str:
    """YAML of a run of small frames."""
    data = json.loads(json.dumps(SMALL))
    data["sequence"] |= sequence
    return yaml.safe_dump(data)


class ServiceProcess:
    """The service of a home."""

    def __init__(self, home: Path, *options: str, env: dict[str, str] | None = None) -> None:
        self.home = Home(home)
        home.mkdir(exist_ok=True)
        self.printed = home.parent / f"{home.name}.out"
        self._out = self.printed.open("ab")
        (home / "address").unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pipeline",
                "serve",
                "--home",
                str(home),
                "--port",
                "0",
                *options,
            ],
            stdout=self._out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
        )
        self.until(lambda: self.home.address() is not None)
        self.client = Client.of_home(home)
        self.token = self.home.token()
        self.address = self.client.address
        self.port = int(self.address.rsplit(":", 1)[1].strip("/"))
        self.until(self._answers)
        headers = {"Authorization": f"Bearer {self.token}"}
        self.http = httpx.Client(base_url=self.address, headers=headers, timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """SIGTERM: a run that goes on drains."""
        self.http.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._out.close()

    def kill(self):
        self.process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        self.process.wait()

    def state(self) -> str | None:
        run = self.client.status().run
        return None if run is None else run.state

    def until(self, condition, timeout=90):
        """Wait until `condition()`; returns what it gave."""
        deadline = time.monotonic() + timeout
        while not (found := condition()):
            assert self.process.poll() is None, self.printed.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, self.printed.read_text(encoding="utf-8")
            time.sleep(0.05)
        return found

    def until_state(self, *states: str, timeout=90):
        return self.until(lambda: self.state() in states, timeout)

    def until_over(self):
        """The run's process is gone, too."""
        return self.until(lambda: self.client.status().service.state == "idle")

    def folder(self, name: str) -> RunFolder:
        return self.home.run(name)

    def _answers(self) -> bool:
        try:
            return bool(self.client.status())
        except Exception:
            return False
