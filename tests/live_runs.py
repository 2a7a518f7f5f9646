"""Runs as a user has them: the command in a process of its own, looked at and killed from outside."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import yaml

from pipeline.control import ACQUIRE, RECONSTRUCT, RECORD, Control, Request
from pipeline.errors import LivephaseError
from pipeline.experiment import Experiment
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunFolder

STAGES = {"acquire": ACQUIRE, "record": RECORD, "reconstruct": RECONSTRUCT}


def write_experiment(path: Path, experiment: Experiment) -> Path:
    path.write_text(yaml.safe_dump(experiment.model_dump(mode="json")), encoding="utf-8")
    return path


def livephase(*args, timeout=200):
    """Run the command to its end; its exit status, stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


class LiveRun:
    """`livephase run` in the background."""

    def __init__(self, experiment: Path, out: Path, *options: str) -> None:
        self.out = out
        self.log = out.parent / f"{out.name}.stderr"
        self._stderr = self.log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "run", str(experiment), "--out", str(out), *options],
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._stderr.close()

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def wait(self, timeout=200) -> int:
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the run did not end:\n{self.errors()}") from None

    def errors(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def signal(self, number=signal.SIGINT):
        self.process.send_signal(number)

    def kill(self):
        """SIGKILL the supervisor: its stages are orphans from here on."""
        self.process.kill()
        self.process.wait()

    def stage_pid(self, stage: str) -> int:
        """Process id of a stage, 0 while it is not up."""
        try:
            names = RunFolder(self.out).info()["sessions"][-1]["shared_memory"]
            with Control.attach(names["control"]) as control:
                return control.report(STAGES[stage]).pid
        except (LivephaseError, KeyError, IndexError):
            return 0

    def stage_pids(self) -> list[int]:
        return [pid for stage in STAGES if (pid := self.stage_pid(stage))]

    def kill_stage(self, stage: str) -> bool:
        """SIGKILL a stage; False if it is not up (or not any more)."""
        pid = self.stage_pid(stage)
        if not pid:
            return False
        try:
            psutil.Process(pid).kill()
        except psutil.NoSuchProcess:
            return False
        return True

    def committed(self) -> int:
        """Slots in the raw ledger."""
        try:
            return int(RunReader(self.out).committed().sum())
        except LivephaseError:
            return 0

    def wait_for(self, condition, timeout=60):
        """Wait until `condition()`; fails if the run ends first."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert not self.over, f"the run ended:\n{self.errors()}"
            assert time.monotonic() < deadline, f"waited {timeout} s in vain:\n{self.errors()}"
            time.sleep(0.02)


def ask(run: LiveRun, request: Request) -> None:
    """Ask something of a live run, as another terminal does, without the seconds that one needs to start."""
    names = RunFolder(run.out).info()["sessions"][-1]["shared_memory"]
    with Control.attach(names["control"]) as control:
        control.request(request)


def contents(out: Path):
    """Everything of a run that must not depend on what happened to it: pixels and labels by slot."""
    reader = RunReader(out)
    raw, phase = {}, {}
    for t, p in np.argwhere(reader.committed()):
        frames, records = reader.raw(key := _key(t, p))
        # Not the camera's own frame number: it begins again whenever the camera is opened.
        labels = [records[name].tobytes() for name in ("led", "focus_um", "status", "reason")]
        raw[key] = (frames.tobytes(), *labels)
        if reader.is_reconstructed(key):
            phase[key] = tuple(
                reader.phase(key, level).tobytes() for level in range(reader.phase_levels())
            )
    return raw, phase


def _key(t, p):
    from pipeline.frames import SlotKey

    return SlotKey(int(t), int(p))


def report(out: Path):
    return json.loads((out / "report.json").read_text(encoding="utf-8"))
