"""How hot the NVIDIA GPUs are and whether they are all still there, from `nvidia-smi`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

# A driver whose GPU fell off the bus keeps those who ask waiting.
_TIMEOUT_S: Final = 20.0
_QUERY: Final = ("--query-gpu=uuid,temperature.gpu", "--format=csv,noheader,nounits")

# UUID → °C of every GPU that answers; empty where none does.
Temperatures = Mapping[str, float]


class GpuFigures(NamedTuple):
    """The hottest GPU in °C (None: not known) and how many have gone since the run began."""

    hottest_c: float | None = None
    lost: int = 0


class GpuLook:
    """Looks at all GPUs, and remembers which there were.

    Parameters
    ----------
    ask
        Temperatures of those that answer; None: there is nobody to ask, and so no NVIDIA GPU.
    """

    def __init__(self, ask: Callable[[], Temperatures | None] | None = None) -> None:
        self._ask = ask or ask_nvidia_smi
        self._seen: set[str] = set()

    def __call__(self) -> GpuFigures | None:
        """One look; None where there are no GPUs."""
        found = self._ask()
        if found is None:
            return None
        self._seen |= found.keys()
        return GpuFigures(max(found.values(), default=None), len(self._seen - found.keys()))


def ask_nvidia_smi() -> Temperatures | None:
    """Of every GPU, whether we use it or not: one that is hot is not far from the others."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    try:
        done = subprocess.run(
            [command, *_QUERY], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return parsed(done.stdout) if done.returncode == 0 else {}


def parsed(text: str) -> Temperatures:
    """Temperatures out of what `nvidia-smi` prints; a GPU that gives none is not one that answers."""
    found = {}
    for line in text.splitlines():
        uuid, _, temperature = line.partition(",")
        try:
            found[uuid.strip()] = float(temperature)
        except ValueError:
            continue  # [GPU is lost], [Unknown Error], [N/A]
    return found
