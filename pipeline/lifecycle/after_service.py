"""What systemd starts once the service has ended: no run is left without a master, or with its light on.

    python -m pipeline.lifecycle.after_service RUNS        (ExecStopPost= of the unit)

A service that crashed is started again and finds its run, which goes on meanwhile: that is let alone. A service
that was stopped, or that the watchdog or a time-out has killed, is not to leave a run behind: what is left of the
unit's processes is ended. Then every light that a dead run has left on is put out. A run that hung, and its
service with it, is written down: the service that is started again goes on with it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from pipeline.errors import LivephaseError
from pipeline.lifecycle.light_off import turn_light_off
from pipeline.stages.light_mark import LightMark
from pipeline.store.run_folder import RunFolder

# Of systemd's $SERVICE_RESULT: nobody is to look after a run any more, or it hung together with its service. Anything
# else is a crash, or a start that failed: there is another.
_HUNG = "watchdog"
_NO_MASTER = ("success", "timeout", _HUNG)
# Beside the folder of runs: the name of the one that hung.
HUNG_RUN_FILE = "hung_run"
# A killed process that does not go away waits for a disk or a device: nothing helps but to wait.
_END_S = 10.0
_LOOK_S = 0.05


def left_over(
    own: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")
) -> list[int]:
    """The other processes of this one's control group, which is the unit's; none where they can't be known."""
    try:
        lines = own.read_text(encoding="ascii").splitlines()
        (path,) = (line.removeprefix("0::/") for line in lines if line.startswith("0::/"))
        members = (groups / path / "cgroup.procs").read_text(encoding="ascii").split()
    except (OSError, ValueError) as error:
        print(f"what is left of the service can't be known: {error}", flush=True)
        return []
    return [int(pid) for pid in members if int(pid) != os.getpid()]


def end_all(processes: Callable[[], Iterable[int]]) -> None:
    """Kill processes until there are none left, those that they start meanwhile too; waits a little for their end."""
    deadline = time.monotonic() + _END_S
    while pids := list(processes()):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return
        time.sleep(_LOOK_S)


def leave_dark(runs: Path) -> list[Path]:
    """Put out the light of every run that died and left it on; the runs where that did not succeed.

    Where nothing was left on, that is a look at one file a run.
    """
    still_lit = []
    for path in sorted(runs.iterdir()) if runs.is_dir() else ():
        folder = RunFolder(path)
        if not LightMark(path).is_set() or not folder.is_run() or folder.in_use():
            continue
        try:
            dark = turn_light_off(path, folder.experiment())
        except LivephaseError:
            dark = False  # an experiment file that can't be read any more
        print(f"{path}: {'its light is off' if dark else 'THE LIGHT MAY STILL BE ON'}", flush=True)
        if not dark:
            still_lit.append(path)
    return still_lit


def take_hung_run(home: Path) -> str | None:
    """The run that hung with the service before; told once."""
    file = home / HUNG_RUN_FILE
    try:
        name = file.read_text(encoding="utf-8").strip()
        file.unlink()
    except OSError:
        return None
    return name or None


def _write_down(runs: Path) -> None:
    for path in sorted(runs.iterdir()) if runs.is_dir() else ():
        folder = RunFolder(path)
        if folder.is_run() and folder.in_use():
            with suppress(OSError):  # a full disk: then a person has to resume it
                (runs.parent / HUNG_RUN_FILE).write_text(path.name, encoding="utf-8")


def main(runs: Path, service_result: str) -> int:
    """The command; its exit status."""
    if service_result == _HUNG:
        _write_down(runs)
    if service_result in _NO_MASTER:
        end_all(left_over)
    return 1 if leave_dark(runs) else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), os.environ.get("SERVICE_RESULT", "")))
