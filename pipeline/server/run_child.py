"""The process of a run: a supervisor of its own, that outlives a service that dies.

In a session (on Windows a process group) of its own: Ctrl+C at the service's terminal is the service's to act on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

# The end of what it printed, where its reason is.
_TAIL_BYTES = 4000
_PREFIX = "livephase: "
# To finish an exposure, put the light out and let the devices go.
_END_S = 30.0


class RunChild:
    """A `livephase` command of its own.

    Parameters
    ----------
    arguments
        Of the command.
    console
        File for what it prints; begun anew.
    """

    def __init__(self, arguments: list[str], console: Path) -> None:
        self._console = console
        # A file, not a pipe: nobody has to read it for the run to go on.
        with console.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipeline", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=os.name == "posix",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )

    @property
    def exit_code(self) -> int | None:
        """None while it goes on."""
        return self._process.poll()

    def wait(self, seconds: float) -> int | None:
        """Wait so long for its end; the exit code, None if it still goes on."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """As Ctrl+C does: it puts the light out first. Killed if it hangs."""
        # Windows has no SIGTERM for others; its Ctrl+Break is for process groups, as this one is.
        self._process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
        if self.wait(_END_S) is None:
            self.kill()

    def kill(self) -> None:
        """End it at once. Only for what has lit nothing, or hangs."""
        self._process.kill()
        self._process.wait()

    def printed(self) -> str:
        """The end of what it printed."""
        try:
            with self._console.open("rb") as file:
                file.seek(max(0, self._console.stat().st_size - _TAIL_BYTES))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def reason(self) -> str:
        """Why it failed, in its own words."""
        lines = [line.strip() for line in self.printed().splitlines() if line.strip()]
        told = [line.removeprefix(_PREFIX) for line in lines if line.startswith(_PREFIX)]
        if told:
            return told[-1].rstrip(".")
        return lines[-1] if lines else f"it ended with status {self.exit_code}"
