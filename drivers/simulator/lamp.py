"""The simulated lamp: like a real one it stays as it was switched when the process that switched it dies."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

from pipeline.errors import DriverError

# A line is below 100 bytes.
_TAIL_BYTES = 200


class Lamp:
    """A light that remembers, in a file if it has one, each time that it was switched.

    Parameters
    ----------
    file
        Every change is appended as a line of JSON, ``{"on", "monotonic", "pid"}``, at once: the last line is the lamp's
        state, whoever is alive. None: the lamp is this object alone.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._on = False
        # The light may be put out from any thread.
        self._lock = threading.Lock()

    @property
    def is_on(self) -> bool:
        """Whether this process has it lit."""
        return self._on

    def switch(self, on: bool) -> None:
        """Light it, or put it out, whoever lit it.

        Raises
        ------
        DriverError
            If its file can't be written.
        """
        with self._lock:
            if self._file is not None and self._is_on_by_file() != on:
                self._append(on)
            self._on = on

    def _is_on_by_file(self) -> bool:
        assert self._file is not None
        try:
            with self._file.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL_BYTES))
                lines = file.read().splitlines()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._unusable(error) from error
        return bool(lines) and bool(json.loads(lines[-1])["on"])

    def _append(self, on: bool) -> None:
        assert self._file is not None
        line = {"on": on, "monotonic": time.monotonic(), "pid": os.getpid()}
        # One write, straight to the operating system: nothing is lost when this process is killed right after.
        try:
            fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(fd, (json.dumps(line) + "\n").encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> DriverError:
        return DriverError(
            f"the simulated lamp's file {self._file} can't be used ({error.strerror})",
            "set microscope.lamp_file to a file in a folder that exists",
        )
